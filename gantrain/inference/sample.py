"""What `gantrain test` shows of a model that starts from noise: samples, a grid, interpolations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gantrain.errors import ConfigError
from gantrain.models.base import COLUMNS, LatentGAN
from gantrain.report.images import grid, layout, to_image
from gantrain.report.pages.results_page import Interpolation, Row

INTERPOLATIONS = 5  # rows of the interpolation grid
BATCH = 100  # samples made at a time


@dataclass(frozen=True)
class Samples:
    """What was written.

    Attributes:
        rows: One per sample.
        walk: The interpolations.
        images: Grids by caption.
    """

    rows: list[Row]
    walk: Interpolation
    images: dict[str, Path]


def wanted_labels(model: LatentGAN, labels: Sequence[int] | None, num: int) -> Tensor | None:
    """At least ``num`` labels, (N,), each wanted class as often as any other; None for models without labels.

    Raises:
        ConfigError: The model has no labels, or not those.
    """
    if not model.uses_labels:
        if labels is not None:
            raise ConfigError(f"labels={labels}: this model makes images without labels")
        return None
    wanted = labels if labels is not None else list(range(model.spec.num_classes))
    if not wanted or max(wanted) >= model.spec.num_classes:
        raise ConfigError(f"labels={labels}: name some of the classes 0 to {model.spec.num_classes - 1}")
    return torch.tensor(wanted).repeat_interleave(math.ceil(num / len(wanted)))


def save_samples(model: LatentGAN, folder: Path, *, num: int, labels: Tensor | None, seed: int) -> Samples:
    """Write samples one by one, and grids of them.

    Args:
        model: In evaluation mode.
        folder: Where to; the samples go into ``samples`` there.
        num: How many, for a model without labels.
        labels: Of the samples, for one with.
        seed: Of the noise.
    """
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    latent = model.latents(len(labels) if labels is not None else num, seed=seed).to(device)
    samples = _sample(model, latent, labels)
    rows = []
    for number, image in enumerate(samples):
        label = model.spec.class_names[int(labels[number])] if labels is not None else None
        path = folder / "samples" / f"{number:05}{_safe(f'_{label}') if label is not None else ''}.png"
        to_image(image).save(path)
        rows.append(Row(name=path.stem, images={"sample": path}, size=(image.size(-1), image.size(-2)), label=label))
    columns = min(COLUMNS, math.isqrt(len(samples))) if labels is None else len(labels) // len(labels.unique())
    grid(samples, columns).save(folder / "grid.png")
    ways = _interpolations(model, seed, labels)
    walk = Interpolation(folder / "interpolations.png", layout(len(ways), ways, COLUMNS))
    grid(ways, COLUMNS).save(walk.path)
    grids = {}
    for name, images in model.visuals({}).items():
        grids[f"{name}, from the noise of the training page"] = folder / f"training_{name}.png"
        grid(images, COLUMNS).save(folder / f"training_{name}.png")
    return Samples(rows, walk, grids)


def _sample(model: LatentGAN, latent: Tensor, labels: Tensor | None) -> Tensor:
    parts = []
    for start in range(0, len(latent), BATCH):
        of_batch = None if labels is None else labels[start : start + BATCH].to(latent.device)
        parts.append(model.sample(latent[start : start + BATCH], of_batch).cpu())
    return torch.cat(parts)


def _interpolations(model: LatentGAN, seed: int, labels: Tensor | None) -> Tensor:
    """Rows of ``COLUMNS`` images on the way from one latent vector to another, each row of one class."""
    device = next(model.parameters()).device
    ends = model.latents(2 * INTERPOLATIONS, seed=seed + 1).to(device)
    share = torch.linspace(0, 1, COLUMNS, device=device, dtype=ends.dtype)[None, :, None]
    start, end = ends[:INTERPOLATIONS, None], ends[INTERPOLATIONS:, None]
    between = start + share * (end - start)
    if model.noise == "normal":
        # keep the variance of the noise, which the midpoint of two draws would halve
        noise = slice(model.latent_dim)  # and not that of codes
        between[..., noise] /= (share.square() + (1 - share).square()).sqrt()
    rows = None
    if labels is not None:
        classes = labels.unique()
        rows = classes[torch.arange(INTERPOLATIONS) % len(classes)].repeat_interleave(COLUMNS)
    return _sample(model, between.flatten(0, 1), rows)


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)
