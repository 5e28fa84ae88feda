import pytest

from synreal.errors import ConfigError
from synreal.records.protocols import check_comparable, differing, digest, identity
from tests.records.made import made


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"data": "g"}, ["fingerprint of photo"]),
        ({"protocol": {"steps": 7}}, ["steps"]),
        ({"protocol": {"seen_of_target": "images", "phases": ["train", "self_train"]}}, ["phases", "seen_of_target"]),
        ({"protocol": {"versions": {"torch": "2.1"}}}, ["version of torch"]),
        ({"config": {"training": {"lr": 0.1, "seed": 0}}}, ["training.lr"]),
        ({"config": {"training": {"lr": 0.02, "seed": 0, "accumulate": 2}}}, ["training.accumulate"]),
        ({"config": {"views": [{"name": "crop"}]}}, ["views"]),
        ({"config": {"preset": "csg-cls"}}, ["preset"]),
        ({"protocol": {"real_images": {"style_bank": "f"}}}, ["real_images"]),
        ({"cost": {"device": "NVIDIA H100"}}, ["device"]),
    ],
)
def test_what_moves_a_number_is_part_of_a_protocol(change, named):
    one, other = identity(made(), ["photo"]), identity(made(**change), ["photo"])
    assert differing(one, other) == differing(other, one) == named
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    "change",
    [
        {"method": "none", "seed": 1, "value": 0.1, "weight": 3.0},
        {"protocol": {"real_images": {}}},
        {"protocol": {"left_out": {"train": {"broken": 1}}}},
        {"protocol": {"versions": {"torch": "2.0.9+cu130", "pillow": "12"}}},
        {
            "config": {
                "data": {"source": "imagefolder:elsewhere", "targets": ["x"], "workers": 9, "on_bad_image": "skip"}
            }
        },
        {
            "config": {
                "testing": {
                    "eval_every": 1,
                    "shifts": ["blur"],
                    "wise_ft": [0.5],
                    "averages": [{"name": "ema"}],
                    "measures": ["energy"],
                }
            }
        },
        {"config": {"training": {"lr": 0.02, "device": "cuda", "seed": 3}}},
        {"targets": {"photo": 0.5, "more": 0.1}},
        {"cost": {"threads": 2, "step_seconds": 9.0}},
    ],
)
def test_what_moves_no_number_is_not(change):
    one, other = identity(made(), ["photo"]), identity(made(**change), ["photo"])
    assert differing(one, other) == []
    assert digest(one) == digest(other)


def test_runs_that_do_not_compare_are_refused():
    check_comparable([made(seed=0), made("none", 1)], ["photo"])
    with pytest.raises(ConfigError, match=r"Runs do not compare: they differ in image_size, steps\.$"):
        check_comparable([made(), made(protocol={"steps": 1, "image_size": 3})])


def test_where_a_machine_keeps_the_images_of_a_view_is_no_part_of_a_protocol():
    def record(folder, how="fda", images="f"):
        views = [{"name": "style_bank", "folder": folder, "how": how}, {"name": "crop"}]
        return made(config={"views": views}, protocol={"real_images": {"style_bank": images}})

    one = identity(record("/here"), ["photo"])
    assert differing(one, identity(record("/there"), ["photo"])) == []
    assert differing(one, identity(record("/here", how="adain"), ["photo"])) == ["views"]
    assert differing(one, identity(record("/here", images="g"), ["photo"])) == ["real_images"]
