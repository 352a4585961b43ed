"""Instance norm in few operations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gantrain.networks.instance import InstanceNorm2d


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("dtype", "training"), [(torch.float32, True), (torch.bfloat16, True), (torch.float32, False)])
def test_instance_norm_is_bit_identical_to_that_of_torch(dtype, training: bool, layout, batch: int) -> None:
    torch.manual_seed(0)
    images = torch.randn(batch, 3, 5, 7, dtype=dtype).contiguous(memory_format=layout)
    weights = torch.randn(batch, 3, 5, 7, dtype=dtype)
    found = []
    for norm in (InstanceNorm2d(3), nn.InstanceNorm2d(3)):
        inputs = images.detach().clone(memory_format=torch.preserve_format).requires_grad_()
        output = nn.functional.relu(norm.train(training)(inputs), inplace=True)
        (output * weights).sum().backward()
        found.append((output, inputs.grad))
    (output, gradient), (expected, expected_gradient) = found
    assert output.count_nonzero() > 0
    assert torch.equal(output, expected)
    assert torch.equal(gradient, expected_gradient)
