"""How well generated label images of Cityscapes agree with the real ones."""

from __future__ import annotations

import torch
from torch import Tensor

from gantrain.errors import ConfigError
from gantrain.metrics.base import Features, PairMetric, Shape
from gantrain.metrics.features.segmenter import Segmenter
from gantrain.registry import METRICS
from gantrain.runtime import console

# The colours of mcordts/cityscapesScripts, helpers/labels.py: the 19 classes that are evaluated, by their train ids,
CLASSES = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}
# and those whose pixels are not.
IGNORED = {
    "unlabeled": (0, 0, 0),
    "dynamic": (111, 74, 0),
    "ground": (81, 0, 81),
    "parking": (250, 170, 160),
    "rail track": (230, 150, 140),
    "guard rail": (180, 165, 180),
    "bridge": (150, 100, 100),
    "tunnel": (150, 120, 90),
    "caravan": (0, 0, 90),
    "trailer": (0, 0, 110),
}


@METRICS.register("cityscapes")
class CityscapesLabels(PairMetric):
    """Scores of label images, or of photos that are generated from labels, over the pixels of all pairs.

    ``pixel_accuracy``, ``class_accuracy`` and ``class_iou`` as in junyanz/pytorch-CycleGAN-and-pix2pix,
    scripts/eval_cityscapes: the share of pixels with the right class, and the means over classes of that share among a
    class's real pixels and of the intersection over the union. A pixel of a generated label image has the class of the
    nearest of 19 colours; one of a generated photo has the class that a segmenter finds (there it is an FCN-8s). Real
    labels of any other class are left out. A class without any pixel is not in the means.

    Args:
        segmenter: The path of an ONNX file, see ``Segmenter``, whose classes have the train ids of cityscapesScripts as
            numbers; None if no photos are to be scored.
    """

    higher_is_better = {"pixel_accuracy": True, "class_accuracy": True, "class_iou": True}

    def __init__(self, segmenter: str | None) -> None:
        self.segmenter = None if segmenter is None else Segmenter(segmenter, len(CLASSES))
        self.identity = "" if self.segmenter is None else self.segmenter.identity
        self._has_warned = False

    def check(self, features: Features | None, shape: Shape, *, generated: int, real: int) -> None:
        if shape[0] != 3:
            raise ConfigError(f"metrics=cityscapes compares colours of labels, and the images have {shape[0]} channels")
        if self.segmenter is not None:
            self.segmenter(torch.zeros(1, *shape, dtype=torch.uint8))

    def compute(self, generated: Tensor, real: Tensor) -> dict[str, Tensor]:
        """For every name, the correct, the real and the generated pixels of each class, (N, 3, 19).

        ``generated`` are photos if there is a segmenter, and label images otherwise; ``real`` are label images.
        """
        if generated.shape[1] != 3:
            raise ValueError(f"label images have 3 channels, and these have {generated.shape[1]}")
        return self._compare(
            nearest_class(generated, len(CLASSES)) if self.segmenter is None else self.segmenter(generated), real
        )

    def compute_from(self, generated: Tensor, real: Tensor, source: Tensor) -> dict[str, Tensor]:
        """The same; photos are compared with the labels that they are translated from, and labels with real ones."""
        if source.shape[1] != 3 or palette_distance(source) >= palette_distance(real):
            return self._compare(nearest_class(generated, len(CLASSES)), real)
        if self.segmenter is not None:
            return self._compare(self.segmenter(generated), source)
        if not self._has_warned:
            console.above_bars(
                "warning: metrics=cityscapes needs metrics.segmenter=FILE.onnx to score generated photos"
            )
        self._has_warned = True
        return {}

    def _compare(self, found: Tensor, real: Tensor) -> dict[str, Tensor]:
        """``compute`` for classes (N, H, W); any number that is no class is wrong."""
        count = len(CLASSES)
        wanted = nearest_class(real, count + len(IGNORED))
        counts = []
        for one, other in zip(found.to(wanted.device).flatten(1), wanted.flatten(1), strict=True):
            scored = other < count
            one, other = one[scored], other[scored]
            parts = (other[one == other], other, one[(one >= 0) & (one < count)])
            counts.append(torch.stack([torch.bincount(part, minlength=count) for part in parts]))
        return dict.fromkeys(self.higher_is_better, torch.stack(counts).double())

    def reduce(self, name: str, values: Tensor) -> float:
        correct, real, generated = values.double().sum(dim=0)
        if name == "pixel_accuracy":
            return (correct.sum() / real.sum()).item()
        occurs = real if name == "class_accuracy" else real + generated - correct
        return (correct / occurs)[occurs > 0].mean().item()


def nearest_class(images: Tensor, count: int) -> Tensor:
    """The number of the nearest of the first ``count`` colours for each pixel, (N, H, W), from (N, 3, H, W) uint8.

    Of equally near colours the first is taken.
    """
    return _nearest(images, count)[0]


def palette_distance(images: Tensor) -> float:
    """The mean squared distance of pixels to the nearest colour of a label: small for label images."""
    return _nearest(images, len(CLASSES) + len(IGNORED))[1].double().mean().item()


def _nearest(images: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The number of the nearest colour for each pixel, and its squared distance."""
    pixels = images.int()
    best = torch.full_like(pixels[:, 0], 2**30)
    number = torch.zeros_like(pixels[:, 0], dtype=torch.int64)
    for place, colour in enumerate([*CLASSES.values(), *IGNORED.values()][:count]):
        distance = (pixels - pixels.new_tensor(colour)[:, None, None]).square().sum(dim=1)
        number = torch.where(distance < best, place, number)
        best = torch.minimum(best, distance)
    return number, best
