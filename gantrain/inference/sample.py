"""What `gantrain test` writes for a model that generates from noise: samples, a grid, interpolations."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gantrain.data.names import nfc
from gantrain.errors import ConfigError, nearest
from gantrain.inference.image_folder import ImageFolder
from gantrain.inference.model import Model
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
    samples = torch.cat(list(sampled(model, latents, labels)))
    rows = []
    nearest = find_nearest(samples[:NEAREST]) if find_nearest is not None else ()
    for number, image in enumerate(samples):
        label = model.spec.class_names[int(labels[number])] if labels is not None else None
        name = sample_name(number, label)
        path = files.write("samples", f"{name}.png", image)
        shown = {"sample": path}
        if number < len(nearest):
            shown["nearest in training"] = files.write("nearest", f"{name}.png", nearest[number])
        rows.append(Row(name=name, images=shown, size=(image.size(-1), image.size(-2)), label=label))
    columns = min(COLUMNS, math.isqrt(len(samples))) if labels is None else len(labels) // len(labels.unique())
    grid(samples, columns).save(folder / "grid.png")
    walks = _interpolations(model, seed, labels)
    interpolation = Interpolation(folder / "interpolations.png", layout(walks, COLUMNS))
    grid(walks, COLUMNS).save(interpolation.path)
    grids = {}
    for name, images in model.visuals({}).items():
        path = grids[f"{name}, from the noise of the training page"] = folder / f"training_{name}.png"
        grid(images, COLUMNS).save(path)
    return Samples(rows, interpolation, grids)


def sample_name(number: int, label: str | None) -> str:
    """The name of a sample's file, without suffix."""
    return f"{number:05}{_label_in_name(label)}"


def _label_in_name(label: str | None) -> str:
    return "" if label is None else "_" + re.sub(r"[^\w.-]", "_", label)


def sampled(model: LatentGAN | Model, latents: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    """Yield batches of samples, on the CPU, in order."""
    inputs = [latents] if labels is None else [latents, labels.to(latents.device)]
    for batch in zip(*(each.split(BATCH_SIZE) for each in inputs), strict=True):
        yield model.sample(*batch).cpu()


def truncated(model: LatentGAN, latents: Tensor, truncation: float | None) -> Tensor:
    """Latents of a model, whose normal noise is mapped to the normal distribution truncated to +-``truncation``.

    Truncation trades variety for quality (Brock et al. 2019, arXiv:1809.11096). Every value is mapped to the one with
    the same quantile, so that the same seed gives similar images with and without it.

    Raises:
        ConfigError: The noise is uniform.
    """
    if truncation is None:
        return latents
    if model.noise != "normal":
        raise ConfigError(f"truncation={truncation} is for normal noise, and this model has model.noise={model.noise}")
    noise = latents[:, : model.latent_dim].double()
    inside = torch.erf(noise / math.sqrt(2)) * math.erf(truncation / math.sqrt(2))
    mapped = (torch.erfinv(inside) * math.sqrt(2)).clamp(-truncation, truncation)
    return torch.cat([mapped.to(latents), latents[:, model.latent_dim :]], dim=1)


def between(model: LatentGAN, start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Latents from ``start`` (weight 0) to ``end`` (weight 1), with the variance of the model's noise."""
    mixed = start + weight * (end - start)
    if model.noise == "normal":
        # The variance is halved midway between two independent draws. The entries after the noise are codes.
        mixed[..., : model.latent_dim] /= (weight.square() + (1 - weight).square()).sqrt()
    return mixed


def walks_between(
    model: LatentGAN, latents: Tensor, labels: Tensor | None, steps: int
) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Latents and labels of animations by name: from each sample to the next in ``steps`` frames, and to the first.

    For a model with labels, there is an animation for each class.

    Raises:
        ConfigError: There are fewer than two samples for an animation.
    """
    walks: dict[str, tuple[Tensor, Tensor | None]] = {}
    for label in [None] if labels is None else labels.unique().tolist():
        ends = latents if label is None else latents[labels == label]
        if len(ends) < 2:
            raise ConfigError(f"interpolate={steps} needs two samples, or two of each class: give a larger num")
        weight = (torch.arange(steps) / steps).to(ends)[None, :, None]
        mixed = between(model, ends[:, None], ends.roll(-1, 0)[:, None], weight).flatten(0, 1)
        name = f"interpolation{_label_in_name(None if label is None else model.spec.class_names[label])}"
        walks[name] = mixed, None if label is None else torch.full((len(mixed),), label)
    return walks


def _interpolations(model: LatentGAN, seed: int, labels: Tensor | None) -> Tensor:
    """Rows of ``COLUMNS`` images between two latent vectors, each row of one class."""
    device = next(model.parameters()).device
    ends = model.latents(2 * INTERPOLATIONS, seed=seed + 1).to(device)
    weight = torch.linspace(0, 1, COLUMNS, device=device, dtype=ends.dtype)[None, :, None]
    start, end = ends[:INTERPOLATIONS, None], ends[INTERPOLATIONS:, None]
    mixed = between(model, start, end, weight)
    row_labels = None
    if labels is not None:
        classes = labels.unique()
        row_labels = classes[torch.arange(INTERPOLATIONS) % len(classes)].repeat_interleave(COLUMNS)
    return torch.cat(list(sampled(model, mixed.flatten(0, 1), row_labels)))
