"""Two sets of images, none of which belongs to any other."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from gantrain.config.schema import PositiveInt
from gantrain.data.base import Batch, ImageDataset, drawn
from gantrain.data.images.convert import ValueRange
from gantrain.data.images.reader import Depth, ImageReader
from gantrain.data.images.store import ImageCache
from gantrain.data.images.transforms import Decoder, Mode, Preprocess, Size
from gantrain.data.sets.layout import Direction, find_layout, fingerprint_of, images_in, spec_of
from gantrain.registry import DATASETS
from gantrain.runtime.seeding import derive_seed


@DATASETS.register("unaligned")
class Unaligned(ImageDataset):
    """Two folders of images; an epoch goes through the larger.

    For the phase ``train``: ``ROOT/trainA`` and ``ROOT/trainB``, or ``ROOT/A/train`` and ``ROOT/B/train``, or
    ``ROOT/train/A`` and ``ROOT/train/B``; sub-folders are searched. ``test`` falls back to ``val``; ``ROOT/A`` and
    ``ROOT/B`` without phases serve them all. In training each image of ``a`` meets one of ``b`` drawn anew, in other
    phases the one of the same number, the smaller set beginning anew at its end.

    Args:
        root: The folder.
        direction: ``b_to_a`` calls the images of B ``a`` and those of A ``b``, wherever the keys below say A and B.
        channels: Of A.
        channels_b: Of B.
        range: The stored values of A that become -1 and 1; null for the whole range of the type.
        range_b: Those of B.
        depth: ``auto`` for that of the first image of each domain.
        preprocess: See ``Preprocess``; the two images of an item are cut and mirrored each for itself.
        load_size: See there.
        crop_size: See there.
        flip: Whether half of the images are mirrored in training.
        serial: Whether images of the same number meet in training too, in their order.
        phase: ``train`` is training; any other is not.
        decoder: See ``Preprocess``.

    Attributes:
        preprocess: What is done to each image.
    """

    def __init__(
        self,
        *,
        root: str,
        direction: Direction,
        channels: PositiveInt,
        channels_b: PositiveInt,
        range: ValueRange | None,
        range_b: ValueRange | None,
        depth: Depth,
        preprocess: Mode,
        load_size: Size,
        crop_size: Size,
        flip: bool,
        serial: bool,
        phase: str,
        decoder: Decoder,
    ) -> None:
        training = phase == "train"
        self.preprocess = Preprocess(
            preprocess=preprocess,
            load_size=load_size,
            crop_size=crop_size,
            flip=flip,
            training=training,
            decoder=decoder,
        )
        layout = find_layout(root, phase, side_by_side=False)
        assert layout.b is not None
        self.held_out = layout.held_out
        self.shuffled = not serial
        self.paired = serial
        self._by_number = serial or not training
        folder_a = ImageReader(images_in(layout.a), channels=channels, depth=depth, value_range=range)
        folder_b = ImageReader(images_in(layout.b), channels=channels_b, depth=depth, value_range=range_b, suffix="_b")
        self._a, self._b = (folder_a, folder_b) if direction == "a_to_b" else (folder_b, folder_a)
        self.fingerprint = fingerprint_of([*folder_a.names, "", *folder_b.names])
        self.spec = spec_of({"a": self._a, "b": self._b}, self._a.nominal_size(self.preprocess))

    def first(self, count: int) -> ImageDataset:
        """The same with no more than ``count`` images, the first ones, in either set."""
        return self._with(*(range(min(count, len(domain))) for domain in (self._a, self._b)))

    def sample(self, fraction: float, seed: int) -> ImageDataset:
        """The same with that part of either set, at least one image, drawn by ``seed``."""
        return self._with(*(drawn(len(domain), fraction, seed) for domain in (self._a, self._b)))

    def _with(self, of_a: Sequence[int], of_b: Sequence[int]) -> ImageDataset:
        part = copy.copy(self)
        part._a, part._b = self._a.subset(of_a), self._b.subset(of_b)
        return part

    def __len__(self) -> int:
        """How many images the larger set holds."""
        return max(len(self._a), len(self._b))

    def item(self, index: int, seed: int) -> Batch:
        """``a`` and ``b`` (C, H, W), and ``name`` and ``name_b``, their paths below their folders."""
        a = index % len(self._a)
        b = (index if self._by_number else derive_seed(seed, "b")) % len(self._b)
        return {
            "a": self._a.prepared(a, self.preprocess, derive_seed(seed, "a")),
            "b": self._b.prepared(b, self.preprocess, derive_seed(seed, "view of b")),
            "name": self._a.name(a),
            "name_b": self._b.name(b),
        }

    def use_cache(self, cache: ImageCache, indices: Sequence[int] | None = None) -> None:
        """Decode each image of either set once; an item of another number may hold it."""
        self._a.use_cache(cache, self.preprocess)
        self._b.use_cache(cache, self.preprocess)
        self.in_memory = self._a.is_cached and self._b.is_cached

    def of_domain(self, domain: str) -> ImageDataset:
        """The images of ``a`` or of ``b``, each once."""
        return OneDomain(self, domain, {"a": self._a, "b": self._b}[domain], self.preprocess)


class OneDomain(ImageDataset):
    """One of the two sets of images alone.

    Args:
        whole: Of which it is a part.
        key: What items call their image: ``a`` or ``b``.
        domain: The images.
        preprocess: What is done to each.
    """

    def __init__(self, whole: Unaligned, key: str, domain: ImageReader, preprocess: Preprocess) -> None:
        self.held_out = whole.held_out
        self.shuffled = whole.shuffled
        self.fingerprint = fingerprint_of(domain.names)
        self.spec = spec_of({key: domain}, domain.nominal_size(preprocess))
        self._key = key
        self._domain = domain
        self.preprocess = preprocess

    def __len__(self) -> int:
        """How many images there are."""
        return len(self._domain)

    def item(self, index: int, seed: int) -> Batch:
        """``a`` or ``b`` (C, H, W), and ``name``, the path below its folder."""
        image = self._domain.prepared(index, self.preprocess, seed)
        return {self._key: image, "name": self._domain.name(index)}
