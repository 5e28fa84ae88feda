import os
from pathlib import Path

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import synreal
from synreal import regularizers
from synreal.errors import ConfigError, SynrealError
from synreal.regularizers import REGULARIZERS, Regularizer, available, get, register
from synreal.specs import unique_names
from tests.regularizers.contract import tiny


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("csg", synreal.CSG()),
        (" csg ", synreal.CSG()),
        ("csg()", synreal.CSG()),
        ("csg(stages=(3,4),queue_size=16)", synreal.CSG(stages=(3, 4), queue_size=16)),
        ("csg( stages = [1, 'layer2.0'] )", synreal.CSG(stages=(1, "layer2.0"))),
        ("csg(stages=4)", synreal.CSG(stages=(4,))),
        ("csg(stages='4')", synreal.CSG(stages=(4,))),
        ("csg(stages=layer4)", synreal.CSG(stages=("layer4",))),
        ("csg(pooling=gap)", synreal.CSG(pooling="gap")),
        ("csg(pooling='gap', weight=1e-2)", synreal.CSG(pooling="gap", weight=0.01)),
        ("feature_l2(spatial=true)", synreal.FeatureL2(spatial=True)),
        ("feature_l2(spatial=False)", synreal.FeatureL2(spatial=False)),
        ("feature_l2(spatial='(', stages=4)", None),
    ],
)
def test_texts(text, spec):
    if spec is None:
        with pytest.raises(ConfigError, match="spatial"):
            REGULARIZERS.spec(text)
    else:
        assert REGULARIZERS.spec(text) == spec


def test_other_forms():
    spec = synreal.CSG(queue_size=16)
    assert REGULARIZERS.spec(spec) is spec
    assert REGULARIZERS.spec({"name": "csg", "queue_size": 16}) == spec
    assert REGULARIZERS.spec({"name": "csg", "stages": [3, "4"]}).stages == (3, 4)
    assert (
        REGULARIZERS.specs("csg")
        == REGULARIZERS.specs(["csg"])
        == REGULARIZERS.specs({"name": "csg"})
        == [synreal.CSG()]
    )
    assert REGULARIZERS.specs(["none", spec]) == [synreal.NoRegularizer(), spec]
    assert REGULARIZERS.specs([]) == []


@pytest.mark.parametrize("value", [None, 3, {}, {"queue_size": 3}, {"name": 3}, [["csg"]], b"csg", synreal.CSG])
def test_other_things_are_refused(value):
    with pytest.raises(ConfigError, match=r"A regularizer is a name.*; got "):
        REGULARIZERS.spec(value)


INJECTIONS = [
    "csg(stages=__import__('os').system('touch {marker}'))",
    "csg(stages=[__import__('os').system('touch {marker}')])",
    "csg(**__import__('os').environ)",
    "csg(*[__import__('os').system('touch {marker}')])",
    "csg(__import__('os').system('touch {marker}'))",
    "csg(stages=(lambda: open('{marker}', 'w'))())",
    "csg(stages=[open('{marker}', 'w') for _ in (1,)])",
    'csg(stages=f\'{{open("{marker}", "w")}}\')',
    "csg(weight=(x := open('{marker}', 'w')))",
    "csg.__class__(open('{marker}', 'w'))",
    "csg(weight=1) or open('{marker}', 'w')",
    "csg(weight=1); open('{marker}', 'w')",
    "csg(weight=1)\nopen('{marker}', 'w')",
    "csg(weight=1)(open('{marker}', 'w'))",
    "__import__('os').system('touch {marker}')",
    "exec(\"open('{marker}', 'w')\")",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_is_executed(text, tmp_path):
    marker = tmp_path / "marker"
    with pytest.raises(ConfigError):
        REGULARIZERS.spec(text.replace("{{", "{").replace("}}", "}").replace("{marker}", str(marker)))
    assert not marker.exists()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "csg(",
        "csg)",
        "csg(weight)",
        "csg(weight=)",
        "csg(weight=1, weight=2)",
        "csg(weight=1",
        "csg(=1)",
        "csg(weight=1))",
        "csg(weight=\0)",
        "csg(stages=" + "(" * 5000 + ")",
        "csg(stages=" + "-" * 100_000 + "1)",
    ],
)
def test_malformed_texts_are_refused(text):
    with pytest.raises(ConfigError):
        REGULARIZERS.spec(text)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.text(alphabet="csg(=,)'\"[]{}:1.-e \\\n\0xé_*", max_size=24))
def test_any_text_is_read_or_refused(text):
    for candidate in (text, f"csg({text})", f"csg(stages={text})"):
        try:
            assert isinstance(REGULARIZERS.spec(candidate), Regularizer)
        except SynrealError:
            pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("csgg", r"Unknown regularizer 'csgg'\. Did you mean 'csg'\? Known: .*csg"),
        ("zzz", r"Unknown regularizer 'zzz'\. Known: "),
        ("feature_l3(weight=1)", "Did you mean 'feature_l2'"),
        ("csg(queue_sise=3)", r"Unknown setting of csg 'queue_sise'\. Did you mean 'queue_size'\? Known: "),
        ({"name": "csg", "wieght": 1}, "Did you mean 'weight'"),
        ({"name": "csg", 3: 1}, "Unknown setting of csg '3'"),
        ("none(stages=4)", "Unknown setting of none 'stages'"),
    ],
)
def test_unknown_names_suggest_the_nearest(value, message):
    with pytest.raises(ConfigError, match=message):
        REGULARIZERS.spec(value)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("csg(weight=-1)", "weight"),
        ("csg(weight=nan)", "weight"),
        ("csg(weight=1e999)", "weight"),
        ("csg(weight=-1e999)", "weight"),
        ("csg(weight=heavy)", "weight"),
        ("csg(weight=None)", "weight"),
        ("csg(queue_size=0)", "queue_size"),
        ("csg(queue_size=1.5)", "queue_size"),
        ("csg(dim=0)", "dim"),
        ("csg(temperature=0)", "temperature"),
        ("csg(temperature=-0.1)", "temperature"),
        ("csg(momentum=1.1)", "momentum"),
        ("csg(pooling=max)", "pooling"),
        ("csg(stages=())", "stages"),
        ("csg(stages=5)", "stages"),
        ("csg(stages=-1)", "stages"),
        ("csg(stages=1.0)", "stages"),
        ("csg(stages=True)", "stages"),
        ("csg(stages='')", "stages"),
        ("csg(stages=null)", "stages"),
        ("csg(stages=(3, 3))", "stages"),
        ("feature_l2(stages=(4, '4'))", "stages"),
        ("feature_l2(spatial=maybe)", "spatial"),
    ],
)
def test_wrong_values_name_the_field(text, field):
    with pytest.raises(ConfigError, match=rf"Regularizer (csg|feature_l2): .*{field}"):
        REGULARIZERS.spec(text)


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -1])
def test_every_spec_refuses_a_weight_that_is_none(weight):
    for name in available():
        with pytest.raises(pydantic.ValidationError):
            get(name)(weight=weight)


@pytest.mark.parametrize("name", available())
def test_a_dumped_spec_reads_back(name):
    spec = tiny(name, weight=0.25)
    dumped = spec.model_dump()
    assert dumped["name"] == name
    assert set(dumped) == {"name", *type(spec).model_fields}
    assert REGULARIZERS.spec(dumped) == spec
    assert REGULARIZERS.spec({**spec.model_dump(mode="json")}) == spec
    assert REGULARIZERS.spec(name) == get(name)()
    assert hash(spec) == hash(REGULARIZERS.spec(dumped))


def test_specs_do_not_change():
    with pytest.raises(pydantic.ValidationError):
        synreal.CSG().weight = 2.0


def test_the_registry_lists_what_the_package_exports():
    names = synreal.list_regularizers()
    assert names == sorted(names)
    assert {"none", "oracle", "feature_l2", "csg"} <= set(names)
    assert get("csg") is synreal.CSG
    with pytest.raises(ConfigError, match="Did you mean 'oracle'"):
        get("oracel")


def test_a_name_is_taken_once(monkeypatch):
    monkeypatch.setattr(REGULARIZERS, "_classes", dict(REGULARIZERS._classes))

    class Other(Regularizer):
        name = "csg"
        summary = "another"
        paper = "nobody"

        def build(self, site):
            raise NotImplementedError

    with pytest.raises(ConfigError, match=r"'csg' is taken by synreal\.regularizers\.csg\.CSG; .*Other needs another"):
        register(Other)
    assert get("csg") is synreal.CSG
    assert register(synreal.CSG) is synreal.CSG  # the same module imported again is no clash
    Other.name = "csg_of_mine"
    assert register(Other) is Other
    assert "csg_of_mine" in available()


def test_terms_of_one_kind_are_numbered():
    specs = [synreal.CSG(), synreal.NoRegularizer(), synreal.CSG(), synreal.CSG()]
    assert unique_names(specs) == ["csg", "none", "csg_2", "csg_3"]


def test_every_module_is_imported():
    folder = Path(regularizers.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    announced = {module for module in modules if hasattr(regularizers, module)}
    source = Path(regularizers.__file__).read_text()
    lacking = sorted(module for module in modules if f"    {module},  # noqa: F401" not in source)
    assert modules >= {"baselines", "csg", "feature_l2"}
    assert not lacking, f"modules without an import line in synreal/regularizers/__init__.py: {lacking}"
    assert announced == modules
    for module in modules:
        registered = [name for name in available() if get(name).__module__ == f"synreal.regularizers.{module}"]
        assert registered, f"synreal/regularizers/{module}.py registers nothing"


@pytest.mark.parametrize("stage", ["9", "-1", "True", "2.5", "''", "None"])
def test_what_is_no_stage_is_refused_in_words(stage):
    with pytest.raises(
        ConfigError, match=r"^Regularizer csg: stages\.1: a stage is a number from 0 to 4 or a module path"
    ):
        REGULARIZERS.spec(f"csg(stages=(3, {stage}))")
