"""Settings that suit a data set: its size, the shape of its images, and its classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import median_low
from typing import Any, NamedTuple

from gantrain.config.overrides import command_line
from gantrain.data.base import BUILT_IN, ImageDataset
from gantrain.data.tools.check import Summary, summarise
from gantrain.data.tools.dataset_parts import find_parts, select

# With fewer images the discriminator memorises them: Karras et al. 2020, arXiv:2006.06676.
IMAGES_FROM_NOISE = 5000
FEW_IMAGES = "model.augment=[color,translation,cutout]"
WITHOUT_COLOR = "model.augment=[translation,cutout]"
COLORIZES = "colorization"  # Its images are lightness and colour.
UNEQUAL = 2  # The ratio of the largest to the smallest class from which on classes are balanced.
MULTIPLE = 8  # Sides of images are multiples of it, which all networks from noise but those of ``FEW_SIZES`` accept.
FEW_SIZES = "resnet_gan"  # Its networks take squares of a few sizes, and refuse others with these.
SMALLEST = 16
HALVED = 32  # Translated images are halved five times, so their sides are multiples of it.
SAMPLE = 200  # The number of images whose headers are read before a run.
SMALL = 64  # The side up to which the weight of FastCUT for photographs of 256 pixels is too high: docs/letters.md.
WEAK = 2  # The weight for them.
CUT = "cut"
THIN = 32  # The side up to which CUT is better without filters in its generator: docs/zoo.md and docs/letters.md.
NEARLY = 0.07  # The relative distortion of images up to which a larger size is preferred to their exact shape.
WIDE = 1.15  # The ratio of the sides from which on images are not treated as squares.


class Recommendation(NamedTuple):
    """A setting for a data set."""

    override: str  # ``key=value``, to be typed.
    reason: str


def recommended(
    summaries: Sequence[Summary], config: Mapping[str, Any], *, images: int, classes: Sequence[int]
) -> list[Recommendation]:
    """The settings that a run on these images should have, except those that it has.

    Args:
        summaries: Of the parts of a data set, or of some of its images.
        config: The composed training configuration.
        images: The number of training images.
        classes: The number of training images of each class; empty without classes.
    """
    data = config["data"]
    if data["mode"] in BUILT_IN:
        return []
    training = [summary for summary in summaries if summary.part.phase == "train"]
    from_noise = all(summary.part.domain == "image" for summary in training)
    shapes = Counter[tuple[int, int]]()
    for summary in training:
        for (height, width), count in summary.sizes.items():
            shapes[height, width // len(summary.part.readers)] += count
    networks = [network["name"] for network in config["network"].values() if isinstance(network, Mapping)]
    colorizes = config["model"]["name"] == COLORIZES
    found = [] if colorizes else _channels(training, data)
    if FEW_SIZES not in networks:
        found += _size(shapes, data) if from_noise and not colorizes else _translated_size(shapes, data)
    found += _of_small(shapes, config)
    seen, of = (sum(map(size, training)) for size in (lambda each: len(each.part), lambda each: each.part.whole))
    if seen < of:
        found = [each._replace(reason=f"{each.reason} (as seen in {seen:,} of {of:,} images)") for each in found]
    if from_noise and images < IMAGES_FROM_NOISE and not config["model"].get("augment"):
        few = "one image is" if images == 1 else f"{images:,} images are"
        reason = f"{few} few: without augmentation the discriminator memorises them"
        override = WITHOUT_COLOR if colorizes else FEW_IMAGES
        found.append(Recommendation(override, f"{reason} (Zhao et al. 2020, arXiv:2006.10738)"))
    if classes and max(classes) >= UNEQUAL * max(1, min(classes)) and not data.get("balance"):
        sizes = f"classes have {min(classes):,} to {max(classes):,} of {sum(classes):,} images"
        found.append(Recommendation("data.balance=true", f"{sizes}: each is drawn equally often"))
    trainer = config.get("trainer", {})
    ranks, part = (value if isinstance(value := trainer.get(key), int) else 1 for key in ("devices", "micro_batch"))
    fitting = images // (ranks * part) * ranks * part  # A batch of one image can be too small for a norm.
    if from_noise and images < data.get("batch_size", 1) and fitting > 1:
        found.append(Recommendation(f"data.batch_size={fitting}", "a batch has more images than the data set"))
    return found


def _of_small(shapes: Counter[tuple[int, int]], config: Mapping[str, Any]) -> list[Recommendation]:
    """For CUT and FastCUT on small images, or on large ones that are cropped to a small size."""
    model, side = config["model"], config["data"].get("crop_size")
    if not shapes or not isinstance(side, int):
        return []
    side = min(side, median_low(min(shape) for shape in shapes.elements()))
    if model.get("flip_equivariance"):
        weight = model.get("lambda_nce", WEAK)  # A plug-in's model may have none.
        reason = f"images of {side} pixels hardly change with {weight:g}, the weight for large photographs"
        return [Recommendation(f"model.lambda_nce={WEAK}", reason)] if side <= SMALL and weight > WEAK else []
    generator = config["network"].get("generator")
    filters = isinstance(generator, Mapping) and generator.get("antialias") and "upsample" in generator
    if model["name"] != CUT or side > THIN or not filters:
        return []
    reason = f"the generator's filters blur strokes of two pixels in images of {side} pixels"
    return [Recommendation(f"network.generator.{key}", reason) for key in ("antialias=false", "upsample=resize")]


def _channels(training: Sequence[Summary], data: Mapping[str, Any]) -> list[Recommendation]:
    """For images that are all stored in gray."""
    stored = {channels for summary in training for channels in summary.channels}
    if stored != {1} or data.get("channels") != 3 or data.get("channels_b", 3) != 3:
        return []
    return [Recommendation("data.channels=1", "images are in gray")]


def _size(shapes: Counter[tuple[int, int]], data: Mapping[str, Any]) -> list[Recommendation]:
    """A size of the shape of most images, which enlarges none of them and has at most as many pixels as the given."""
    load_size = data.get("load_size")
    if not shapes or not isinstance(load_size, int):
        return []
    height, width = shapes.most_common(1)[0][0]
    ratio = _common_ratio(shapes)
    if ratio is None:
        height = width = median_low(min(shape) for shape in shapes.elements())
    scale = min(1.0, load_size / math.sqrt(height * width))
    sides = _multiples(scale * height, scale * width)
    if ratio is not None and sides[0] != sides[1]:
        reason = f"images are {ratio:.3g} times as wide as high, and squares leave out the rest of them"
        return [Recommendation(f"data.load_size=[{sides[0]},{sides[1]}]", reason)]
    if sides[0] >= load_size:
        return []
    return [Recommendation(f"data.load_size={sides[0]}", f"images of {height} x {width} pixels would be enlarged")]


def _multiples(height: float, width: float) -> tuple[int, int]:
    """The largest sides that are allowed, at most these, and whose ratio is that of these, or nearly."""
    heights, widths = (
        range(SMALLEST, max(SMALLEST, math.floor(side + 1e-6)) + 1, MULTIPLE) for side in (height, width)
    )

    def rank(sides: tuple[int, int]) -> tuple[float, int]:
        return max(NEARLY, abs(math.log(sides[1] / sides[0] * height / width))), -sides[0] * sides[1]

    return min(product(heights, widths), key=rank)


def _translated_size(shapes: Counter[tuple[int, int]], data: Mapping[str, Any]) -> list[Recommendation]:
    """For translation, where networks may require squares: their side, and crops instead of distorted images."""
    found = []
    crop_size = data.get("crop_size")
    shorter = median_low(min(shape) for shape in shapes.elements()) if shapes else 0
    side = max(HALVED, shorter // HALVED * HALVED)
    scales = data.get("preprocess") != "none"
    if shorter and scales and isinstance(crop_size, int) and side < crop_size > shorter:
        reason = f"images have a shorter side of {shorter} pixels, and would be enlarged"
        found = [Recommendation(f"data.{key}={side}", reason) for key in ("load_size", "crop_size")]
    uneven = sum(count for (height, width), count in shapes.items() if not 1 / WIDE < width / height < WIDE)
    distorts = data.get("preprocess") == "resize_and_crop" and isinstance(data.get("load_size"), int)
    if distorts and uneven and 2 * uneven >= shapes.total():
        reason = "most images are not square: they would be distorted, instead of which squares are cut from them"
        found.append(Recommendation("data.preprocess=scale_shortside_and_crop", reason))
    return found


def _common_ratio(shapes: Counter[tuple[int, int]]) -> float | None:
    """The width by the height of nine in ten images, unless they differ or are nearly square."""
    ratio = (common := shapes.most_common(1)[0][0])[1] / common[0]
    alike = sum(count for (height, width), count in shapes.items() if abs(math.log(width / height / ratio)) < 0.05)
    return None if 1 / WIDE < ratio < WIDE or alike < 0.9 * shapes.total() else ratio


def sampled(
    config: Mapping[str, Any], data: Mapping[str, Any], dataset: ImageDataset, *, images: int
) -> list[Recommendation]:
    """``recommended`` from the headers of some images, with the keys of the data set and the training images."""
    parts = [part for part in find_parts(data)[0] if part.phase == "train"]
    chosen = [select(part, fraction=min(1.0, SAMPLE / len(part)), max_size=None, seed=0) for part in parts]
    labels = Counter(dataset.labels or ())
    classes = [labels[number] for number in range(dataset.spec.num_classes)]
    return recommended([summarise(part, quick=True) for part in chosen], config, images=images, classes=classes)


def lines(found: Sequence[Recommendation], typed: Sequence[str]) -> list[str]:
    """Each setting with its reason, and at last a command that has them all; nothing without settings.

    Args:
        found: The recommendations.
        typed: The overrides of the command.
    """
    if not found:
        return []
    kept = [word for word in typed if not word.startswith("dry_run=")]
    command = command_line("train", kept, *(each.override for each in found))
    return [*(f"recommended {override}: {reason}" for override, reason in found), f"to apply    {command}"]
