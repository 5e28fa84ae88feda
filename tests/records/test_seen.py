"""What training saw of the target: in words, in a protocol, and apart from what saw nothing."""

import pytest

from synreal.figures.gain import gains_of
from synreal.records import Protocol, Seen
from synreal.records.leaderboard import Found, as_html, as_markdown, build
from synreal.records.protocols import differing, identity
from tests.records.made import made

IMAGES = {"data": "photo", "split": "test", "fingerprint": "f", "tested": True}
LABELS = {"data": "photo", "split": "train", "fingerprint": "g", "tested": False, "labels": 5}
PHASES = {"phases": ["train", "self_train"], "seen_of_target": "images", "seen": [IMAGES]}


def board(*records):
    return build(Found(record, f"place {number}") for number, record in enumerate(records))


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ([], "nothing of the target"),
        ([IMAGES], "unlabelled target (photo, the test images)"),
        ([LABELS], "5 labels a class (photo, train)"),
        ([LABELS, IMAGES], "5 labels a class (photo, train), unlabelled target (photo, the test images)"),
    ],
)
def test_a_protocol_says_it_in_words(seen, words):
    protocol = made(protocol={"seen": seen}).protocol
    assert protocol.saw == words
    dumped = protocol.model_dump(mode="json")
    assert ("seen" in dumped) == bool(seen)  # so that records of before have the same identity
    assert Protocol.model_validate(dumped) == protocol
    assert protocol.seen == [Seen(**one) for one in seen]


def test_other_images_are_another_protocol_but_not_another_folder():
    def facts(seen, images):
        phases = [{"name": "train"}, {"name": "few_shot", "n": 5, "images": images}]
        return identity(made(protocol={**PHASES, "seen": [seen]}, config={"phases": phases}), ["photo"])

    here = facts(LABELS, "imagefolder:/here")
    assert differing(here, facts(LABELS, "imagefolder:/there")) == []
    assert differing(here, facts({**LABELS, "fingerprint": "h"}, "imagefolder:/here")) == ["seen"]


def test_what_saw_the_target_comes_last_and_is_named():
    adapted = [made(name, seed, protocol=PHASES) for name in ("none", "csg", "oracle") for seed in (0, 1)]
    runs = [*adapted, made("none", 0), made("csg", 0)]
    first, second = board(*runs).sections
    assert {row.seen_of_target for row in first.rows} == {"nothing"}
    assert first.differs == []
    assert {"seen", "seen_of_target", "phases"} <= set(second.differs)
    assert "saw unlabelled target (photo, the test images)" in second.protocol
    assert second.rows[0].saw == "unlabelled target (photo, the test images)"
    assert "unlabelled target (photo, the test images)" in as_markdown(board(*runs))
    assert "saw unlabelled target (photo, the test images): not zero-shot" in as_html(board(*runs))


def test_no_figure_of_gains_mixes_them():
    names = ("none", "csg", "oracle")
    runs = [made(name, 0) for name in names] + [made(name, 0, protocol=PHASES) for name in names]
    gains, left_out, _ = gains_of(board(*runs))
    assert [(gain.pair, gain.method) for gain in gains] == [("cartoon → photo", "csg")]
    assert left_out == []
