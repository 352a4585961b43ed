"""The layers of the residual networks of SNGAN, written out plainly, and the comparison with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, Tensor]


def shaken(network: nn.Module) -> nn.Module:
    """The network in float64 with gains, biases and gammas that are not initial ones."""
    network.double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


def conv(x: Tensor, state: State, key: str) -> Tensor:
    weight = state[f"{key}.weight"]
    return F.conv2d(x, weight, state.get(f"{key}.bias"), padding=weight.size(2) // 2)


def twice(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def halved(x: Tensor) -> Tensor:
    return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4


def class_norm(x: Tensor, labels: Tensor, state: State, key: str) -> Tensor:
    """Conditional batch norm, image by image and channel by channel."""
    images = []
    for image, label in zip(range(len(x)), labels.tolist(), strict=True):
        maps = []
        for channel in range(x.size(1)):
            values = x[:, channel]
            mean = values.sum() / values.numel()
            variance = ((values - mean) ** 2).sum() / values.numel()
            gain, bias = (state[f"{key}.{name}.weight"][label, channel] for name in ("gain", "bias"))
            maps.append(gain * (x[image, channel] - mean) / (variance + 1e-5) ** 0.5 + bias)
        images.append(torch.stack(maps))
    return torch.stack(images)


def attended(x: Tensor, state: State, key: str = "") -> Tensor:
    """Self-attention, position by position: equations 1 to 3 of Zhang et al. 2019, with keys and values pooled."""
    of = {name: state[f"{key}{name}.weight"][:, :, 0, 0] for name in ("query", "key", "value", "output")}
    height, width = x.shape[2:]
    images = []
    for image in x:
        at = {(i, j): image[:, i, j] for i in range(height) for j in range(width)}
        pooled: dict[str, list[Tensor]] = {"key": [], "value": []}
        for name, found in pooled.items():
            for i in range(0, height - 1, 2):
                for j in range(0, width - 1, 2):
                    block = torch.stack([of[name] @ at[i + a, j + b] for a in (0, 1) for b in (0, 1)])
                    found.append(block.max(dim=0).values)
        rows = []
        for i in range(height):
            for j in range(width):
                scores = [of["query"] @ at[i, j] @ each for each in pooled["key"]]
                exponentials = torch.stack(scores).exp()
                shares = exponentials / exponentials.sum()
                mixed = sum(share * value for share, value in zip(shares, pooled["value"], strict=True))
                rows.append(at[i, j] + state[f"{key}gamma"] * (of["output"] @ mixed))
        images.append(torch.stack(rows, dim=1).view(-1, height, width))
    return torch.stack(images)


def assert_same_with_gradients(network: nn.Module, formula: Callable[[State], Tensor], *inputs: Tensor) -> None:
    """A network computes its formula of the state, and the gradients in all its parameters are those of the formula."""
    output = network(*inputs)
    weights = torch.randn_like(output)
    names = [name for name, _ in network.named_parameters()]
    found = torch.autograd.grad((output * weights).sum(), list(network.parameters()))
    state = {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}
    wanted = formula(state)
    torch.testing.assert_close(output, wanted, atol=1e-10, rtol=1e-10)
    gradients = torch.autograd.grad((wanted * weights).sum(), [state[name] for name in names])
    for name, one, other in zip(names, found, gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-8, rtol=1e-8, msg=name)
        assert other.abs().max() > 1e-12 or ".bias" in name, name
