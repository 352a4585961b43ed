"""The step of CUT and its networks, written out layer by layer after the authors' code."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from tiny import AdamByHand
from torch import Tensor, nn

from gantrain.runtime.seeding import derive_seed

LAYERS = {True: [0, 4, 8, 12], False: [0, 4, 8]}  # With and without filters, of a generator with one block.
STEPS = range(5, 9)  # With the seed of ``adam_updates``, some are mirrored and some are not.


# ---- the networks, layer by layer


def normal(x: Tensor) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) / ((x - mean).square().mean((2, 3), keepdim=True) + 1e-5).sqrt()


def halved(x: Tensor) -> Tensor:
    weights = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype) / 4
    x = F.pad(x, [1] * 4, "reflect").unfold(2, 3, 2).unfold(3, 3, 2)
    return torch.einsum("nchwij,i,j->nchw", x, weights, weights)


def doubled(x: Tensor) -> Tensor:
    for axis in (2, 3):
        size = x.size(axis)
        before = x.index_select(axis, torch.arange(-1, size - 1).clamp(min=0))
        after = x.index_select(axis, torch.arange(1, size + 1).clamp(max=size - 1))
        halves = torch.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = halves.flatten(axis, axis + 1)
    return x


def layers_of(generator: nn.Module, x: Tensor, *, smooth: bool) -> list[Tensor]:
    """The outputs of all layers of a generator with one block, none of them changed later."""
    at = dict(generator.named_parameters())

    def convolved(x: Tensor, key: str, **how: Any) -> Tensor:
        return F.conv2d(x, at[f"{key}.weight"], at[f"{key}.bias"], **how)

    found: list[Tensor] = []

    def add(x: Tensor) -> Tensor:
        found.append(x)
        return x

    x = add(F.pad(x, [3] * 4, "reflect"))
    x = add(add(normal(add(convolved(x, "model.1")))).relu())
    for _ in range(2):
        x = add(convolved(x, f"model.{len(found)}", padding=1, stride=1 if smooth else 2))
        x = add(add(normal(x)).relu())
        x = add(halved(x)) if smooth else x
    block = f"model.{len(found)}.conv_block"
    inner = normal(convolved(F.pad(x, [1] * 4, "reflect"), f"{block}.1")).relu()
    x = add(x + normal(convolved(F.pad(inner, [1] * 4, "reflect"), f"{block}.5")))
    for _ in range(2):
        if smooth:
            x = add(doubled(x))
            x = add(convolved(x, f"model.{len(found)}", padding=1))
        else:
            key = f"model.{len(found)}"
            x = add(F.conv_transpose2d(x, at[f"{key}.weight"], at[f"{key}.bias"], 2, 1, output_padding=1))
        x = add(add(normal(x)).relu())
    x = add(F.pad(x, [3] * 4, "reflect"))
    add(add(convolved(x, f"model.{len(found)}")).tanh())
    return found


def features_of(generator: nn.Module, x: Tensor, *, smooth: bool) -> list[Tensor]:
    """What the authors' code compares: an activation changes the norm before it, if it is computed at all."""
    layers, last = layers_of(generator, x, smooth=smooth), LAYERS[smooth][-1]
    norms = {2, 5, 9} if smooth else {2, 5, 8}
    return [layers[n + 1] if n in norms and n < last else layers[n] for n in LAYERS[smooth]]


def logits_of(discriminator: nn.Module, x: Tensor, *, smooth: bool) -> Tensor:
    at = dict(discriminator.named_parameters())
    numbers = [0, 3, 7, 10] if smooth else [0, 2, 5, 8]
    for place, number in enumerate(numbers):
        stride = 2 if place < 2 and not smooth else 1
        x = F.conv2d(x, at[f"model.{number}.weight"], at[f"model.{number}.bias"], stride, 1)
        if place == 3:
            return x
        x = F.leaky_relu(normal(x) if place else x, 0.2)
        x = halved(x) if smooth and place < 2 else x
    raise AssertionError


# ---- the step


def play_by_hand(model: Any, batches: Any, *, smooth: bool) -> tuple[list[dict[str, float]], list[bool]]:
    """The algorithm of the authors' code; the networks are changed. Returns the losses, and the steps mirrored."""
    g, head, d = model.generator, model.head, model.discriminator
    of_g, of_d = AdamByHand([*g.parameters(), *head.parameters()]), AdamByHand(d.parameters())
    logged, mirrored = [], []

    def vector(number: int, patch: Tensor) -> Tensor:
        first, one, second, two = head.get_submodule(f"mlp_{number}").parameters()
        x = second @ (first @ patch + one).relu() + two
        return x / (x.square().sum().sqrt() + 1e-7)

    def contrast(source: Tensor, target: Tensor, flip: bool, draws: torch.Generator) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        queries, keys = (features_of(g, images, smooth=smooth) for images in (target, source))
        for number, (query, key) in enumerate(zip(queries, keys, strict=True)):
            query = query.flip(3) if flip else query
            height, width = key.shape[2:]
            chosen = torch.randperm(height * width, generator=draws)[: model.num_patches].tolist()
            assert len(chosen) == min(model.num_patches, height * width)
            for image in range(len(source)):
                q = torch.stack([vector(number, query[image, :, p // width, p % width]) for p in chosen])
                k = torch.stack([vector(number, key[image, :, p // width, p % width]) for p in chosen]).detach()
                similar = q @ k.T / 0.07
                others = similar.masked_fill(torch.eye(len(chosen), dtype=torch.bool), -10 / 0.07)
                right = similar.diagonal()
                odds = torch.cat([right[:, None], others], 1).logsumexp(1)
                total = total + model.lambda_nce * (odds - right).mean() / len(source) / len(keys)
        return total

    for step in STEPS:
        batch = next(batches)
        a, b = batch["a"], batch["b"]
        draws = torch.Generator().manual_seed(derive_seed(7, "draws", step))
        flip = model.flip_equivariance and torch.rand((), generator=draws).item() < 0.5
        fake, identity = (layers_of(g, each.flip(3) if flip else each, smooth=smooth)[-1] for each in (a, b))
        d_fake = logits_of(d, fake.detach(), smooth=smooth).square().mean()
        d_real = (logits_of(d, b, smooth=smooth) - 1).square().mean()
        of_d.step((d_fake + d_real) * 0.5)
        terms = {
            "g_gan": (logits_of(d, fake, smooth=smooth) - 1).square().mean(),
            "nce": contrast(a, fake, flip, draws),
        }
        if model.nce_idt:
            terms["nce_y"] = contrast(b, identity, flip, draws)
            terms["g"] = terms["g_gan"] + (terms["nce"] + terms["nce_y"]) * 0.5
        else:
            terms["g"] = terms["g_gan"] + terms["nce"]
        of_g.step(terms["g"])
        logged.append({key: value.item() for key, value in {**terms, "d_real": d_real, "d_fake": d_fake}.items()})
        mirrored.append(flip)
    return logged, mirrored
