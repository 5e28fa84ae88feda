import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synreal.errors import ConfigError
from synreal.functional import box_masks, covered_cells, object_cells
from tests.functional.test_pooling import PROPERTY
from tests.reference import maths


def blocks(seed, side):
    """Masks of 2 x 2 blocks of four classes and the ignored one."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.tensor([0, 1, 2, 3, 255])[torch.randint(5, (2, side // 2, side // 2), generator=generator)]
    return coarse.repeat_interleave(2, 1).repeat_interleave(2, 2).to(torch.uint8)


@pytest.mark.parametrize("side", [4, 6, 12])
@PROPERTY
@given(seed=st.integers(0, 1 << 16), majority=st.sampled_from([0.51, 0.75, 1.0]))
def test_cells_agree_with_the_definition(side, seed, majority):
    masks, size = blocks(seed, 12), (side, 4)
    got = object_cells(masks, (1, 3), size, majority)
    assert torch.equal(got, maths.object_cells(masks, (1, 3), size, majority))


def test_a_cell_of_two_things_is_of_neither():
    masks = torch.tensor([[[1, 1, 2, 2]]])
    assert not object_cells(masks, (1, 2), (1, 1)).any()
    assert object_cells(masks, (1, 2), (1, 2)).all()
    assert object_cells(torch.tensor([[[1, 1, 1, 255]]]), (1,), (1, 1)).all()  # three quarters are enough
    assert not object_cells(torch.tensor([[[1, 1, 1, 255]]]), (1,), (1, 1), 0.76).any()


def test_pixels_of_a_box_are_those_whose_centre_it_holds():
    boxes = [torch.tensor([[0.5, 1.0, 2.5, 2.6], [3.0, 0.0, 4.0, 4.0]]), torch.zeros(0, 4)]
    want = torch.zeros(2, 4, 5, dtype=torch.bool)
    want[0, 1:3, 0:2] = True
    want[0, :, 3] = True
    assert torch.equal(box_masks(boxes, (4, 5)), want)
    assert covered_cells(want, (2, 1)).tolist() == [[[False], [False]]] * 2
    assert covered_cells(want[:, :, :2], (2, 1), 0.6).tolist() == [[[False], [False]]] * 2
    assert covered_cells(want[:, 1:3, :2], (1, 1)).flatten().tolist() == [True, False]


@pytest.mark.parametrize("majority", [0.5, 1.1])
def test_a_share_that_two_classes_could_have_is_refused(majority):
    with pytest.raises(ConfigError, match=rf"majority must lie in \(0.5, 1\], got {majority}"):
        covered_cells(torch.ones(1, 2, 2, dtype=torch.bool), (1, 1), majority)


def test_what_is_no_mask_is_refused():
    with pytest.raises(ConfigError, match=r"integer \(N, H, W\), got torch.float32 \(1, 2, 2\)"):
        object_cells(torch.ones(1, 2, 2), (1,), (1, 1))
