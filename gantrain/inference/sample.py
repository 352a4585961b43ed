"""What `gantrain test` writes for a model that generates from noise: samples, a grid, interpolations."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gantrain.data.names import nfc
from gantrain.errors import ConfigError, nearest
from gantrain.inference.image_folder import ImageFolder
from gantrain.inference.nearest import FindNearest
from gantrain.models.base import COLUMNS, LatentGAN
from gantrain.report.images import grid, layout
from gantrain.report.pages.results_page import Interpolation, Row
from gantrain.runtime import console

NEAREST = 16  # Samples that are shown beside the nearest training images.
INTERPOLATIONS = 5  # Rows of the interpolation grid.
BATCH_SIZE = 100


@dataclass(frozen=True)
class Samples:
    """The images that were written."""

    rows: list[Row]  # One per sample.
    interpolation: Interpolation
    images: dict[str, Path]  # Further grids by caption.


def wanted_labels(model: LatentGAN, labels: int | str | Sequence[int | str] | None, num: int) -> Tensor | None:
    """At least ``num`` labels, (N,), with equally many of each class; None for an unconditional model.

    ``labels`` are class numbers or names.

    Raises:
        ConfigError: The model has no labels, or no such class.
    """
    if not model.uses_labels:
        if labels is not None:
            raise ConfigError(f"labels={labels}: this model has no labels")
        return None
    names = model.spec.class_names
    typed = range(len(names)) if labels is None else [labels] if isinstance(labels, (int, str)) else labels
    classes = [_class_number(label, names) for label in typed]
    if not classes:
        raise ConfigError(f"labels={labels}: give class numbers from 0 to {len(names) - 1}, or names")
    return torch.tensor(classes).repeat_interleave(math.ceil(num / len(classes)))


def _class_number(label: int | str, names: Sequence[str]) -> int:
    """The number of a class that is given by its number or its name."""
    known = [nfc(name) for name in names]
    if isinstance(label, str) and nfc(label) in known:
        return known.index(nfc(label))
    if isinstance(label, str) or label >= len(names):
        hint = nearest(str(label), names)
        raise ConfigError(f"labels=[{label}]: expected class numbers from 0 to {len(names) - 1}, or names; {hint}")
    if str(label) in names and names[label] != str(label):
        console.err(
            f"labels: {label} is the number of the class {names[label]}; '{label}' in quotation marks is a name",
        )
    return label


def save_samples(
    model: LatentGAN,
    folder: Path,
    *,
    num: int,
    labels: Tensor | None,
    seed: int,
    find_nearest: FindNearest | None = None,
) -> Samples:
    """Write samples of a model in evaluation mode to ``folder/samples``, in the depth of its data, and grids of them.

    One sample is generated for each of ``labels``, or ``num`` without labels; ``seed`` is the seed of the noise. Beside
    the first samples are the training images that ``find_nearest`` finds.
    """
    files = ImageFolder(folder, run=model.spec, data=None)
    device = next(model.parameters()).device
    latents = model.latents(len(labels) if labels is not None else num, seed=seed).to(device)
    samples = _sample(model, latents, labels)
    rows = []
    nearest = find_nearest(samples[:NEAREST]) if find_nearest is not None else ()
    for number, image in enumerate(samples):
        label = model.spec.class_names[int(labels[number])] if labels is not None else None
        suffix = "" if label is None else "_" + re.sub(r"[^\w.-]", "_", label)
        name = f"{number:05}{suffix}"
        path = files.write("samples", f"{name}.png", image)
        shown = {"sample": path}
        if number < len(nearest):
            shown["nearest training image"] = files.write("nearest", f"{name}.png", nearest[number])
        rows.append(Row(name=name, images=shown, size=(image.size(-1), image.size(-2)), label=label))
    columns = min(COLUMNS, math.isqrt(len(samples))) if labels is None else len(labels) // len(labels.unique())
    grid(samples, columns).save(folder / "grid.png")
    between = _interpolations(model, seed, labels)
    interpolation = Interpolation(folder / "interpolations.png", layout(between, COLUMNS))
    grid(between, COLUMNS).save(interpolation.path)
    grids = {}
    for name, images in model.visuals({}).items():
        path = grids[f"{name}, from the noise of the training page"] = folder / f"training_{name}.png"
        grid(images, COLUMNS).save(path)
    return Samples(rows, interpolation, grids)


def _sample(model: LatentGAN, latents: Tensor, labels: Tensor | None) -> Tensor:
    inputs = [latents] if labels is None else [latents, labels.to(latents.device)]
    batches = zip(*(each.split(BATCH_SIZE) for each in inputs), strict=True)
    return torch.cat([model.sample(*batch).cpu() for batch in batches])


def _interpolations(model: LatentGAN, seed: int, labels: Tensor | None) -> Tensor:
    """Rows of ``COLUMNS`` images between two latent vectors, each row of one class."""
    device = next(model.parameters()).device
    ends = model.latents(2 * INTERPOLATIONS, seed=seed + 1).to(device)
    weight = torch.linspace(0, 1, COLUMNS, device=device, dtype=ends.dtype)[None, :, None]
    start, end = ends[:INTERPOLATIONS, None], ends[INTERPOLATIONS:, None]
    between = start + weight * (end - start)
    if model.noise == "normal":
        # Restore the variance of the noise, which is halved midway between two independent draws. The entries after it
        # are codes.
        between[..., : model.latent_dim] /= (weight.square() + (1 - weight).square()).sqrt()
    row_labels = None
    if labels is not None:
        classes = labels.unique()
        row_labels = classes[torch.arange(INTERPOLATIONS) % len(classes)].repeat_interleave(COLUMNS)
    return _sample(model, between.flatten(0, 1), row_labels)
