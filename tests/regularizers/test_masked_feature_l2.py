import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import synreal
from synreal.config import make_config
from synreal.core.passes import STUDENT, Pass, Step
from synreal.errors import ConfigError, TrainingError
from synreal.functional import masked_feature_l2
from synreal.regularizers import REGULARIZERS
from synreal.tasks.networks import create_detector
from tests.functional.test_pooling import PROPERTY, SHAPES, random_map, same_as_reference
from tests.reference import maths
from tests.regularizers.contract import Toy, captured

TEACHER = Pass("reference", 0)
CITYSCAPES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip


@pytest.mark.parametrize("squared", [False, True])
@PROPERTY
@given(shape=SHAPES, content=st.sampled_from(["signed", "relu"]), seed=st.integers(0, 1 << 16))
def test_value_and_gradient_agree_with_the_equation(squared, shape, content, seed):
    maps = [random_map(shape, content, seed + index) for index in (0, 1)]
    cells = torch.rand(shape[0], *shape[2:], generator=torch.Generator().manual_seed(seed)) < 0.6
    same_as_reference(
        lambda f, g: masked_feature_l2(f, g, cells, squared=squared),
        lambda f, g: maths.masked_feature_l2(f, g, cells, squared),
        maps,
        1e-9,
        1e-9,
    )


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("equal", [False, True])
def test_no_position_and_no_distance_give_zero_with_a_graph(squared, equal):
    student = random_map((2, 3, 2, 2), "signed", 1, torch.float32).requires_grad_()
    teacher = student.detach() if equal else random_map((2, 3, 2, 2), "signed", 2, torch.float32)
    distance = masked_feature_l2(student, teacher, torch.full((2, 2, 2), equal), squared=squared)
    distance.backward()
    assert float(distance.detach()) == 0
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_shares_of_processes_average_to_the_mean_over_all():
    student, teacher = (random_map((4, 3, 2, 2), "signed", seed) for seed in (1, 2))
    cells = torch.zeros(4, 2, 2, dtype=torch.bool)
    cells[0], cells[3, 0, 0] = True, True
    halves = [slice(0, 1), slice(1, 4)]
    mean = sum(masked_feature_l2(student[h], teacher[h], cells[h], torch.tensor(5 / 2)) for h in halves) / 2
    torch.testing.assert_close(mean, masked_feature_l2(student, teacher, cells))


def test_wrong_shapes_are_named():
    features = torch.zeros(1, 2, 3, 3)
    with pytest.raises(ConfigError, match=r"at positions \(N, H, W\), got .* and \(1, 3\)"):
        masked_feature_l2(features, features, torch.ones(1, 3, dtype=torch.bool))


def penalty(spec, targets, features=None, size=None):
    """What the term says of maps (2, C, 2, 2), and which positions it compared."""
    model = synreal.attach(Toy(), spec)
    features = torch.zeros(2, 16, 2, 2, requires_grad=True) if features is None else features
    step = Step({STUDENT: {"4": features}, TEACHER: {"4": torch.ones(2, 16, 2, 2)}}, targets, size)
    loss = model.terms["masked_feature_l2"](step)
    loss.backward()
    return float(loss.detach()), (features.grad != 0).any(1)


def test_masks_say_where_objects_are():
    masks = torch.zeros(2, 8, 8, dtype=torch.uint8)
    masks[0, :4, :3], masks[1, 4:, 4:], masks[1, :4, :2] = 7, 11, 5
    for spec, want in (
        ("masked_feature_l2(things=[5, 7, 11])", [[[True, False], [False, False]], [[False, False], [False, True]]]),
        ("masked_feature_l2(things=[5])", [[[False] * 2] * 2] * 2),
        ("masked_feature_l2(things=[5, 7], majority=0.76)", [[[False] * 2] * 2] * 2),
        ("masked_feature_l2(things=[0])", [[[False, True], [True, True]], [[False, True], [True, False]]]),
    ):
        loss, cells = penalty(spec, masks.long())
        assert cells.tolist() == want
        assert loss == pytest.approx(4.0 if cells.any() else 0)  # the length of 16 ones
    with pytest.raises(TrainingError, match=r"does not know which classes .* masked_feature_l2\(things=\[...\]\)"):
        penalty("masked_feature_l2", masks.long())


def test_boxes_say_where_objects_are():
    boxes = [torch.tensor([[0.0, 0, 4, 3], [4, 4, 8, 6], [4, 6, 8, 8]]), torch.zeros(0, 4)]
    labels = [torch.tensor([1, 2, 2]), torch.zeros(0, dtype=torch.int64)]
    targets = [{"boxes": b, "labels": c} for b, c in zip(boxes, labels, strict=True)]
    nothing = [[False, False], [False, False]]
    _, cells = penalty("masked_feature_l2", targets, size=(8, 8))
    assert cells.tolist() == [[[True, False], [False, True]], nothing]
    _, cells = penalty("masked_feature_l2(things=[1])", targets, size=(8, 8))  # torchvision's class 2
    assert cells.tolist() == [[[False, False], [False, True]], nothing]


def test_an_image_with_a_class_is_an_object_everywhere():
    classes = torch.tensor([1, 3])
    assert penalty("masked_feature_l2", classes)[1].all()
    assert penalty("masked_feature_l2(things=[3])", classes)[1].flatten(1).all(1).tolist() == [False, True]


@pytest.mark.parametrize("targets", [torch.zeros(2, 3), torch.zeros(2, 8, 8), "cats", [{"boxes": 1}]])
def test_other_targets_are_refused(targets):
    with pytest.raises(TrainingError, match=r"reads classes .* or a detector's list of boxes and labels, got"):
        penalty("masked_feature_l2(things=[0])", targets)


def test_things_are_those_that_daformer_names():
    spec = REGULARIZERS.spec("masked_feature_l2")
    assert spec.for_classes(CITYSCAPES).things == (6, 7, 11, 12, 13, 14, 15, 16, 17, 18)
    assert spec.for_classes(("background", "0", "1")).things == (1, 2)
    assert spec.for_classes(("car",)).things == (0,)
    assert spec.for_classes(("0", "background")).things == (0, 1)
    given = REGULARIZERS.spec("masked_feature_l2(things=[sky, 2])")
    assert given.for_classes(CITYSCAPES).things == (10, 2)
    with pytest.raises(ConfigError, match="Did you mean 'sky'"):
        REGULARIZERS.spec("masked_feature_l2(things=[skye])").for_classes(CITYSCAPES)
    with pytest.raises(ConfigError, match="things has 19, expected 0 to 18 or a name"):
        REGULARIZERS.spec("masked_feature_l2(things=[19])").for_classes(CITYSCAPES)
    with pytest.raises(ConfigError, match=r"names \(sky\), .* attach spec\.for_classes"):
        synreal.attach(Toy(), given)


def test_things_that_the_source_does_not_have_are_refused_before_it_is_read():
    with pytest.raises(ConfigError, match="class"):
        make_config({"task": "seg", "regularizers": "masked_feature_l2(things=[skye])"})
    assert make_config({"task": "seg", "regularizers": "masked_feature_l2(things=['3'])"}).terms[0].things == ("3",)


@pytest.mark.filterwarnings("ignore::synreal.core.teachers.UntrainedTeacherWarning")
def test_boxes_move_with_an_image_that_the_detector_resizes_at_random():
    torch.manual_seed(0)
    detector, _ = create_detector("fcos", "test_efficientnet", num_classes=3, weights="none", image_size=64)
    detector.transform.min_size = (64, 96, 128)
    model = synreal.attach(detector, "masked_feature_l2(stages=2)").train()
    steps = captured(model)
    images = [torch.rand(3, 64, 64)]
    targets = [{"boxes": torch.tensor([[0.0, 0, 32, 64]]), "labels": torch.tensor([1])}]
    sizes = set()
    for seed in range(6):
        torch.manual_seed(seed)
        model(images, targets=targets)
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        detector(images, targets)
        assert torch.equal(torch.get_rng_state(), state)  # nothing is drawn for the term
        (height, width), seen = steps[-1].size, steps[-1].targets
        assert steps[-1].maps[STUDENT]["2"].shape[2:] == (height // 8, width // 8)
        sizes.add(height)
        assert width == height
        assert seen[0]["boxes"].tolist() == [[0, 0, width / 2, height]]
        assert targets[0]["boxes"].tolist() == [[0, 0, 32, 64]]
    assert len(sizes) > 1
