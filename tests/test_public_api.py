import ast
import importlib
import inspect
import pkgutil
import types
from pathlib import Path

import pytest

import synreal
from synreal.registry import ROOMS, registry_of
from synreal.regularizers import REGULARIZERS


def modules():
    names = [module.name for module in pkgutil.walk_packages(synreal.__path__, "synreal.")]
    return ["synreal", *names]


def test_every_module_is_walked():
    assert {"synreal.engine.run", "synreal.regularizers.csg", "synreal.data.rendered.numerals"} <= set(modules())


@pytest.mark.parametrize("name", synreal.__all__)
def test_every_public_name_loads(name):
    assert getattr(synreal, name) is not None
    assert name in dir(synreal)


def test_public_names_are_sorted_and_single():
    assert len(set(synreal.__all__)) == len(synreal.__all__)
    assert synreal.__all__ == sorted(synreal.__all__)


def test_names_for_type_checkers_are_those_that_load():
    tree = ast.parse(Path(synreal.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    known = {alias.asname or alias.name for node in block.body for alias in node.names}
    assert known == set(synreal.__all__) - {"__version__"}


def test_every_regularizer_is_public():
    shown = {getattr(synreal, name) for name in synreal.__all__}
    own = {spec for spec in REGULARIZERS.registered().values() if spec.__module__.startswith("synreal.")}
    assert own <= shown


@pytest.mark.parametrize("room", sorted(set(ROOMS.values())))
def test_a_room_announces_each_of_its_files_once(room):
    """A room's ``__init__`` imports each file that registers something, and no other."""
    package = importlib.import_module(room)
    registry = registry_of(next(plural for plural, module in ROOMS.items() if module == room))
    homes = {cls.__module__ for cls in registry.registered().values() if cls.__module__.startswith(f"{room}.")}
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    announced = [
        f"{room}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == room
        for alias in node.names
    ]
    assert sorted(announced) == sorted(homes)


@pytest.mark.parametrize(
    "name",
    "CSG FeatureL2 Oracle RegularizedModel RunConfig RunResult SynrealError attach functional "
    "list_regularizers metrics run".split(),
)
def test_names_of_the_contract(name):
    assert name in synreal.__all__


@pytest.mark.parametrize("first", ["synreal.engine", "synreal.core.attach", "synreal.engine.run"])
def test_attach_stays_the_function_whatever_is_imported(first):
    importlib.import_module(first)
    assert isinstance(synreal.attach, types.FunctionType)
    assert synreal.attach is importlib.import_module("synreal.core.attach").attach


def test_run_is_what_the_engine_runs():
    assert synreal.run is importlib.import_module("synreal.engine").run


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'synreal' has no attribute 'atach'"):
        _ = synreal.atach
    assert not hasattr(synreal, "atach")


def test_regularizers_by_name():
    names = synreal.list_regularizers()
    assert names == sorted(names)
    assert {"none", "oracle", "feature_l2", "csg"} <= set(names)


def test_the_version_is_the_installed_one():
    assert synreal.__version__ == importlib.metadata.version("synreal")


@pytest.mark.parametrize("name", ["attentional_pool", "pool", "info_nce", "feature_l2"])
def test_functions_of_the_contract(name):
    assert name in synreal.functional.__all__
    assert callable(getattr(synreal.functional, name))


def test_every_function_listed_exists():
    for name in synreal.functional.__all__:
        assert isinstance(getattr(synreal.functional, name), types.FunctionType), name


@pytest.mark.parametrize("name", ["accuracy", "mean_class_accuracy", "confusion_matrix"])
def test_measures(name):
    assert callable(getattr(synreal.metrics, name))


def public_members(owner):
    """Functions, classes and properties that a module or class defines itself and does not hide."""
    for name, member in vars(owner).items():
        if name.startswith("_"):
            continue
        inner = member.fget if isinstance(member, property) else inspect.unwrap(getattr(member, "__func__", member))
        if isinstance(inner, (type, types.FunctionType)) and inner.__module__.startswith("synreal"):
            yield name, member, inner


@pytest.mark.parametrize("module_name", modules())
def test_what_is_public_has_a_docstring(module_name):
    module = importlib.import_module(module_name)
    lacking = [] if module.__doc__ else [module_name]
    for name, member, _ in public_members(module):
        if getattr(member, "__module__", None) != module_name:
            continue
        # inspect.getdoc would take a parent's text; a class needs its own, a method may inherit.
        if not member.__doc__:
            lacking.append(name)
        if isinstance(member, type):
            lacking += [
                f"{name}.{inner}"
                for inner, method, _ in public_members(member)
                if not inspect.getdoc(method) and not inspect.getdoc(getattr(member, inner))
            ]
    assert not lacking, f"{module_name} lacks docstrings: {', '.join(lacking)}"
