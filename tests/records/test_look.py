import json

import pytest

from synreal.errors import ConfigError
from synreal.records import Look, Measured, SetLook, read_look, write_json


def measured(value=0.5, **more):
    return Measured(value=value, heading="CKA", unit="", higher_is_better=True, **more)


def seen(fingerprint="f", **measures):
    return SetLook(data="photo", split="test", fingerprint=fingerprint, images=3, measures=measures)


def look(sha256="a", **more):
    return Look(
        title="csg, seed 0",
        task="classification",
        backbone="resnet18",
        checkpoint="last",
        weights={"source": "timm", "detail": "d", "sha256": None},
        sha256=sha256,
        versions={},
        **{"sets": {"photo": seen(cka=measured())}, **more},
    )


def test_it_is_written_and_read(tmp_path):
    found = look(measures={"drift": measured(None, stages={"1": 0.25, "after 4": None}, note="n")})
    write_json(tmp_path / "insight.json", found.model_dump(mode="json"))
    assert read_look(tmp_path) == read_look(tmp_path / "insight.json") == found


def test_a_measure_is_found_wherever_it_was_taken():
    found = look(
        sets={"photo": seen(cka=measured(1)), "imagenet": seen(acc_in=measured(2))}, measures={"d": measured(3)}
    )
    assert [found.find(name, "photo").value for name in ("cka", "acc_in", "d")] == [1, 2, 3]
    assert found.find("cka", "sketch") is None
    assert found.find("ece", "photo") is None


def test_looks_at_one_network_are_joined():
    first = look(sets={"photo": seen(cka=measured(1), ece=measured(2))}, left_out={"drift": "why", "acc_in": "why"})
    second = look(
        sets={"photo": seen(cka=measured(3)), "sketch": seen(cka=measured(4))}, measures={"drift": measured(5)}
    )
    joined = second.joined(first)
    assert {name: one.value for name, one in joined.sets["photo"].measures.items()} == {"cka": 3, "ece": 2}
    assert list(joined.sets) == ["photo", "sketch"]
    assert joined.left_out == {"acc_in": "why"}
    assert second.joined(look("b")) == second
    other = look(sets={"photo": seen("g", ece=measured())})
    assert second.joined(other).sets["photo"] == second.sets["photo"]  # other images of the same name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"schema_version": 2}', "is of version 2, this version of synreal reads 1"),
        ('{"schema_version": 1}', "does not hold what looking into a network found: title"),
        ("[]", "does not hold what looking into a network found"),
        (json.dumps({**look().model_dump(), "weights": {}}), "expected source, detail and sha256"),
    ],
)
def test_what_is_none_is_refused(text, message, tmp_path):
    (tmp_path / "insight.json").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_look(tmp_path)


def test_without_a_file_the_command_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"synreal inspect .* --measures"):
        read_look(tmp_path)
