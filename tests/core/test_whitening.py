import pytest
import torch

import synreal
from synreal.core.whitening import InstanceNorm, Whitening, whitening_layers
from synreal.errors import StageError
from synreal.transforms import InstanceWhitening
from tests.regularizers.contract import batch, network


def test_instance_norm_keeps_the_order_in_memory_and_refuses_one_position():
    layer = InstanceNorm(3, affine=True)
    maps = torch.randn(2, 3, 4, 5)
    want = (maps - maps.mean((2, 3), keepdim=True)) / (maps.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(maps), want, rtol=1e-4, atol=1e-5)
    last = layer(maps.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, want, rtol=1e-4, atol=1e-5)
    for mode in (True, False):
        with pytest.raises(StageError, match="InstanceNorm gets a map of one position"):
            layer.train(mode)(torch.rand(2, 3, 1, 1))
    assert list(Whitening(3).parameters()) == []


def test_a_whitened_student_can_be_attached():
    student, pretrained = network(), network()
    InstanceWhitening().apply(student)
    model = synreal.attach(student, "feature_l2", reference=pretrained).train()
    assert model(batch(0)[0])["penalty"] > 0
    assert whitening_layers(model.reference.network) == {}
