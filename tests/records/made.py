"""Records as runs leave them, made up for tests."""

from synreal.records import Chosen, Cost, Protocol, RunRecord, Score

WEIGHTS = {"none": 1.0, "oracle": 1.0, "csg": 0.1, "feature_l2": 0.001}
"""Default weights of the methods that are made up here."""


def score(name, value, *, split="test", fingerprint="f", measure="mean_class_accuracy", unit="%", higher=True):
    return Score(
        data=name,
        split=split,
        fingerprint=fingerprint,
        images=10,
        measures={measure: value},
        headings={measure: "mean-class" if measure == "mean_class_accuracy" else measure},
        units={measure: unit},
        higher_is_better={measure: higher},
        per_class={},
    )


def made(
    method="csg",
    seed=0,
    value=0.5,
    *,
    heldout=0.9,
    weight=None,
    regularizer=None,
    shifted=None,
    early=None,
    averaged=None,
    peek=None,
    source="cartoon",
    target="photo",
    targets=None,
    data="f",
    config=None,
    protocol=None,
    cost=None,
    **kinds,
):
    """A run's record.

    ``value``, ``early``, ``averaged`` and ``peek`` are headlines on the target, ``shifted`` those of styles;
    ``weight`` and ``regularizer`` change settings of the method, ``config``, ``protocol`` and ``cost`` single entries;
    ``targets`` are values by name in place of one; the rest describes the measure.
    """
    default = {"name": method, "weight": WEIGHTS.get(method, 1.0), "stages": [3, 4]}
    spec = default | ({} if weight is None else {"weight": weight}) | (regularizer or {})
    targets = {target: value} if targets is None else targets
    measure = kinds.get("measure", "mean_class_accuracy")
    return RunRecord(
        regularizers=[spec],
        defaults=[default],
        backbone="tf_efficientnet_lite0",
        architecture=None,
        weights={"source": "packaged", "detail": "lite0 0.1", "sha256": "0"},
        config={
            "task": {"name": "classification"},
            "data": {"source": f"imagefolder:{source}", "targets": list(targets), "workers": seed},
            "regularizers": [spec],
            "training": {"lr": 0.02, "seed": seed},
            "testing": {"eval_every": 1},
            "output": {"folder": f"runs/{method}-{seed}"},
            **(config or {}),
        },
        protocol=Protocol(
            **{
                "task": "classification",
                "source": source,
                "source_fingerprint": "s",
                "source_images": 100,
                "image_size": 112,
                "views": 1 if method == "none" else 2,
                "evaluation": "one centre crop",
                "test_time_flips": False,
                "checkpoint": "last",
                "seed": seed,
                "epochs": 3,
                "steps": 195,
                "batch_size": 32,
                "processes": 1,
                "chance": 0.1,
                "versions": {"torch": "2.0.1"},
                **(protocol or {}),
            }
        ),
        source_heldout=score(source, heldout, split="heldout", **kinds),
        shifted={
            style: score(source, one, split="heldout", **kinds)
            for style, one in (shifted.items() if isinstance(shifted, dict) else {})
        },
        targets={name: score(name, one, fingerprint=data, **kinds) for name, one in targets.items()},
        source_selected={} if early is None else {target: Chosen(measures={measure: early}, step=65)},
        averaged={}
        if averaged is None
        else {"wise_ft(0.5)": {"source": score(source, heldout, **kinds), target: score(target, averaged, **kinds)}},
        target_selected={} if peek is None else {target: Chosen(measures={measure: peek}, step=130)},
        cost=Cost(**{"step_seconds": 0.5, "memory": 2**30, "device": "cpu", "threads": 1, **(cost or {})}),
        seconds={"training": 1.0},
    )
