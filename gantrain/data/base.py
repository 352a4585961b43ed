"""The interface of data sets, and the description of their images from which networks are built."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from gantrain.config.renamed import RenamedMethod, rename_overrides, renamed
from gantrain.data.images.deferred import Deferred
from gantrain.data.images.store import ImageCache
from gantrain.data.names import fingerprint_of
from gantrain.data.slots import stack
from gantrain.errors import ConfigError
from gantrain.runtime.seeding import derive_seed

# Keys: `image` (N, C, H, W) and `label` (N,) for models that generate from noise, `a` and `b` for those that translate,
# `name` (N names). Images leave the data set in their stored depth and the stream in [-1, 1].
Batch: TypeAlias = dict[str, Any]

IMAGE_KEYS = ("image", "a", "b")
HALF_RANGES = {torch.uint8: 127.5, torch.uint16: 32767.5}  # Half of the largest value, which becomes 0.
# The modes of the data that come with gantrain, whose settings and lengths of runs suit them.
BUILT_IN = ("digits", "digits_lmdb", "stacked_digits", "digits2stripes", "edges2digits")


@dataclass(frozen=True)
class ImageSpec:
    """What networks need to know about a data set; stored in checkpoints, so that testing needs no training data."""

    height: int  # In pixels.
    width: int  # In pixels.
    channels: dict[str, int]  # Per domain: ``{"image": 1}``, or ``{"a": 3, "b": 1}``.
    depth: dict[str, str]  # The stored type per domain: ``uint8``, ``uint16`` or ``float32``.
    class_names: tuple[str, ...] = ()  # Empty if images have no labels.
    # The stored values per domain that become -1 and 1, unless they are the range of the type.
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 without labels."""
        return len(self.class_names)

    def shape(self, domain: str) -> tuple[int, int, int]:
        """Channels, height and width of the images of a domain."""
        return self.channels[domain], self.height, self.width

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ImageSpec:
        """The inverse of ``to_dict``."""
        ranges = {domain: (low, high) for domain, (low, high) in values["ranges"].items()}
        return cls(**{**values, "class_names": tuple(values["class_names"]), "ranges": ranges})


class ImageDataset(Dataset[Batch], ABC):
    """A data set whose random augmentations are functions of a seed.

    Attributes:
        spec: Sizes, channels and classes.
        labels: One class number per item, or None.
        unlabelled: Why there are no labels though there seem to be classes; or empty.
        in_memory: Whether items are so cheap to read, in memory or in a cache, that worker processes gain nothing.
        held_out: Whether the test phase has other images than the training phase.
        fingerprint: Differs between sets of as many other images; empty where the configuration determines the images.
        shuffled: Whether training shuffles the items in every epoch.
        paired: Whether ``a`` and ``b`` of an item correspond.
    """

    spec: ImageSpec
    labels: Sequence[int] | None = None
    unlabelled: str = ""
    in_memory: bool = False
    held_out: bool = True
    fingerprint: str = ""
    shuffled: bool = True
    paired: bool = True

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        rename_overrides(cls)

    @abstractmethod
    def __len__(self) -> int:
        """Number of items."""

    @abstractmethod
    def item(self, index: int, seed: int) -> Batch:
        """One item without batch dimension; crops and flips depend on ``seed`` alone."""

    def items(self, indices: Sequence[int], seeds: Sequence[int]) -> Batch:
        """Items as one batch; to be overridden where that is faster than one item after another."""
        return collate([self.item(index, seed) for index, seed in zip(indices, seeds, strict=True)])

    def first(self, count: int) -> ImageDataset:
        """The data set restricted to the first ``count`` images of each domain."""
        return Selection(self, range(min(count, len(self))))

    def sample(self, fraction: float, seed: int) -> ImageDataset:
        """The data set restricted to a random fraction of each domain, at least one image, in the same order."""
        return Selection(self, drawn(len(self), fraction, seed))

    def use_class_names(self, names: Sequence[str]) -> None:
        """Number the classes in the order of ``names``, those of a run, if they are the same classes.

        Data sets that always number their classes in the same order need not override it.
        """

    def stamp(self) -> str:
        """Changes whenever the stored images may have changed; the fingerprint, unless a data set knows more."""
        return self.fingerprint

    def distinct(self) -> ImageDataset:
        """Each image once, with its label, even if training repeats some or hides their labels."""
        return self

    def unaugmented(self) -> ImageDataset:
        """The same items as tests show them: scaled and cropped to the center, but neither at random nor mirrored.

        To be overridden by data sets that augment the images of the training phase.
        """
        return self

    def deferring(self) -> ImageDataset:
        """The same items, whose JPEGs may be ``Deferred``: decoded later, on the device of the run.

        To be overridden by data sets that read images with an ``ImageReader``.
        """
        raise ConfigError("data.decode_device=cuda: this data set has no image files to decode: leave it out")

    keep = RenamedMethod("use_cache")

    def use_cache(self, cache: ImageCache, indices: Sequence[int] | None = None) -> None:
        """Take decoded images from a cache from now on, those of the items at ``indices``, or of all if it is None.

        Data sets that decode no images need not override it.
        """

    def of_domain(self, domain: str) -> ImageDataset:
        """The items with each image of a domain once: all items, unless domains differ in number."""
        return self

    @property
    def keys(self) -> frozenset[str]:
        """The keys of its items, except names."""
        return frozenset(self.spec.channels) | ({"label"} if self.labels is not None else set())


class Selection(ImageDataset):
    """The items of a data set at ``indices``, optionally with labels for only some of them.

    For semi-supervised learning, only the items at ``known`` have labels; the label of every other item is -1, and the
    known items are repeated until they make up about half of an epoch, so that each batch has some.
    """

    def __init__(self, dataset: ImageDataset, indices: Sequence[int], known: Sequence[int] | None = None) -> None:
        for name in ("spec", "unlabelled", "in_memory", "held_out", "fingerprint", "shuffled", "paired"):
            setattr(self, name, getattr(dataset, name))
        self._dataset = dataset
        self._known = None if known is None else frozenset(known)
        self._indices = list(indices)
        if known:
            self._indices += list(known) * max(0, round(len(indices) / len(known)) - 1)
        self._select_labels()

    def _select_labels(self) -> None:
        if self._dataset.labels is not None:
            labels = self._dataset.labels
            self.labels = [-1 if self._hides(index) else labels[index] for index in self._indices]

    def __len__(self) -> int:
        return len(self._indices)

    def item(self, index: int, seed: int) -> Batch:
        index = self._indices[index]
        item = self._dataset.item(index, seed)
        if self._hides(index):
            item["label"] = -1
        return item

    def items(self, indices: Sequence[int], seeds: Sequence[int]) -> Batch:
        below = [self._indices[index] for index in indices]
        batch = self._dataset.items(below, seeds)
        hidden = [position for position, index in enumerate(below) if self._hides(index)]
        if hidden:
            batch["label"][hidden] = -1
        return batch

    def unaugmented(self) -> ImageDataset:
        other = copy.copy(self)
        other._dataset = self._dataset.unaugmented()
        other.spec = other._dataset.spec
        return other

    def deferring(self) -> ImageDataset:
        other = copy.copy(self)
        other._dataset = self._dataset.deferring()
        return other

    def use_cache(self, cache: ImageCache, indices: Sequence[int] | None = None) -> None:
        below = self._indices if indices is None else [self._indices[index] for index in indices]
        self._dataset.use_cache(cache, below)
        self.in_memory = self._dataset.in_memory

    def stamp(self) -> str:
        return fingerprint_of([self._dataset.stamp(), *map(str, self._indices)])

    def distinct(self) -> ImageDataset:
        return self if self._known is None else Selection(self._dataset, list(dict.fromkeys(self._indices)))

    def use_class_names(self, names: Sequence[str]) -> None:
        self._dataset.use_class_names(names)
        self.spec = self._dataset.spec
        self._select_labels()

    def of_domain(self, domain: str) -> ImageDataset:
        below = self._dataset.of_domain(domain)
        return self if below is self._dataset else Selection(below, [i for i in self._indices if i < len(below)])

    def _hides(self, index: int) -> bool:
        return self._known is not None and index not in self._known


def collate(items: Sequence[Batch]) -> Batch:
    """Items as one batch: tensors and numbers are stacked, names listed, and images where one is deferred.

    Raises:
        ConfigError: Their images differ in size.
    """
    for item in items:
        if image_shapes(item) != image_shapes(items[0]):
            sizes = " and ".join(
                f"{one.get('name', 'an image')} ({' and '.join(f'{h} x {w}' for _, h, w in image_shapes(one))})"
                for one in (items[0], item)
            )
            raise ConfigError(
                f"data.preprocess leaves images of different sizes in one batch: {sizes}; give a mode that crops "
                "(resize_and_crop, scale_width_and_crop, scale_shortside_and_crop), or data.batch_size=1"
            )
    columns = {key: [item[key] for item in items] for key in items[0]}
    return {key: _collated(values) for key, values in columns.items()}


def _collated(values: list[Any]) -> Any:
    if any(isinstance(value, Deferred) for value in values):
        return values
    return stack(values) if isinstance(values[0], Tensor) else default_collate(values)


def image_shapes(item: Batch) -> list[torch.Size]:
    """The shape of each image of an item."""
    return [item[key].shape for key in IMAGE_KEYS if key in item]


def drawn(size: int, fraction: float, seed: int) -> list[int]:
    """A random fraction of ``range(size)``, at least one index, ascending."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "fraction"))
    part = torch.randperm(size, generator=generator)[: max(1, round(fraction * size))]
    return part.sort().values.tolist()


def first_of_each_class(labels: Sequence[int], count: int) -> list[int]:
    """The first ``count`` indices with equally many of each class (within one)."""
    seen: Counter[int] = Counter()
    ranked = []
    for index, label in enumerate(labels):
        ranked.append((seen[label], index))
        seen[label] += 1
    return sorted(index for _, index in sorted(ranked)[:count])


def to_signed_range(images: Tensor, dtype: torch.dtype, *, out: Tensor | None = None) -> Tensor:
    """Stored images as ``dtype`` in [-1, 1], where floating-point images must be already; ``out`` receives them."""
    signed = images.to(dtype) if out is None else out.copy_(images)
    half = HALF_RANGES.get(images.dtype)
    return signed if half is None else signed.div_(half).sub_(1)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] as 8 bits, rounded to the nearest."""
    return images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


__getattr__ = renamed(__name__, "to_unit_range", f"{__name__}.to_signed_range")
