"""The perceptrons of patches."""

from __future__ import annotations

import pytest
import torch

from gantrain.networks.patch_head import PatchHead


def test_each_layer_has_a_perceptron_with_the_keys_of_the_authors() -> None:
    head = PatchHead(channels=[3, 5], outputs=4, gain=0.02).double()
    shapes = {key: tuple(value.shape) for key, value in head.state_dict().items()}
    assert shapes == {
        **{"mlp_0.0.weight": (4, 3), "mlp_0.0.bias": (4,), "mlp_0.2.weight": (4, 4), "mlp_0.2.bias": (4,)},
        **{"mlp_1.0.weight": (4, 5), "mlp_1.0.bias": (4,), "mlp_1.2.weight": (4, 4), "mlp_1.2.bias": (4,)},
    }
    patches = torch.randn(7, 5, dtype=torch.float64)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
    first, one, second, two = head.mlp_1.parameters()
    expected = (patches @ first.T + one).clamp(min=0) @ second.T + two
    torch.testing.assert_close(head(patches, 1), expected, atol=1e-12, rtol=0)


def test_it_is_initialised_by_xavier_with_its_gain() -> None:
    torch.manual_seed(0)
    head = PatchHead(channels=[256], outputs=128, gain=0.02)
    assert head.mlp_0[0].weight.std().item() == pytest.approx(0.02 * (2 / (256 + 128)) ** 0.5, rel=0.02)
    assert head.mlp_0[2].weight.std().item() == pytest.approx(0.02 * (2 / (128 + 128)) ** 0.5, rel=0.02)
    assert not head.mlp_0[0].bias.any()
