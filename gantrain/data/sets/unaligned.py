"""Two domains of unpaired images."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from gantrain.data.base import Batch, ImageDataset, drawn
from gantrain.data.images.sources import FolderSource
from gantrain.data.images.store import ImageCache
from gantrain.data.names import fingerprint_of
from gantrain.data.sets.layout import Layout, images_in, spec_of
from gantrain.data.sets.two_domains import TwoDomains
from gantrain.registry import DATASETS
from gantrain.runtime.seeding import derive_seed


@DATASETS.register("unaligned")
class Unaligned(TwoDomains):
    """Two folders of images; an epoch has as many items as the larger domain has images.

    For the phase ``train``: ``ROOT/trainA`` and ``ROOT/trainB``, or ``ROOT/A/train`` and ``ROOT/B/train``, or
    ``ROOT/train/A`` and ``ROOT/train/B``; sub-folders are searched. ``val`` replaces a missing ``test``. ``ROOT/A`` and
    ``ROOT/B``, without phases, are used in all of them. In training, each image of ``a`` is combined with a random one
    of ``b``; in other phases, with the one of the same index, modulo the size of the smaller domain. The two images of
    an item are cropped and mirrored independently.

    Args:
        serial: Whether training, too, combines images of the same index, without shuffling.
        others: The arguments of ``TwoDomains``.
    """

    side_by_side = False

    def __init__(self, *, serial: bool, phase: str, **others: Any) -> None:
        super().__init__(phase=phase, **others)
        self.shuffled = not serial
        self.paired = serial
        self._by_index = serial or phase != "train"
        self.fingerprint = fingerprint_of([*self.readers["A"].names, "", *self.readers["B"].names])

    def _find(self, layout: Layout) -> tuple[FolderSource, FolderSource]:
        assert layout.b is not None
        return images_in(layout.a), images_in(layout.b)

    def first(self, count: int) -> ImageDataset:
        return self._with(lambda size: range(min(count, size)))

    def sample(self, fraction: float, seed: int) -> ImageDataset:
        return self._with(lambda size: drawn(size, fraction, seed))

    def unaugmented(self) -> Unaligned:
        other = super().unaugmented()
        other._by_index = True
        return other

    def _with(self, chosen: Callable[[int], Sequence[int]]) -> ImageDataset:
        """The same data set with only the ``chosen`` indices of each domain, given its size."""
        part = copy.copy(self)
        part.readers = {domain: reader.subset(chosen(len(reader))) for domain, reader in self.readers.items()}
        return part

    def __len__(self) -> int:
        return max(map(len, self.readers.values()))

    def item(self, index: int, seed: int) -> Batch:
        """``a`` and ``b`` (C, H, W), and ``name`` and ``name_b``, their paths relative to their folders."""
        reader_a, reader_b = self.reader("a"), self.reader("b")
        a = index % len(reader_a)
        b = (index if self._by_index else derive_seed(seed, "b")) % len(reader_b)
        return {
            "a": reader_a.prepared(a, self.preprocess, derive_seed(seed, "a")),
            "b": reader_b.prepared(b, self.preprocess, derive_seed(seed, "view of b")),
            "name": reader_a.name(a),
            "name_b": reader_b.name(b),
        }

    def use_cache(self, cache: ImageCache, indices: Sequence[int] | None = None) -> None:
        """Decode every image of both domains once: any item may contain an image of any index."""
        for reader in self.readers.values():
            reader.use_cache(cache, self.preprocess)
        self.in_memory = all(reader.is_cached for reader in self.readers.values())

    def of_domain(self, domain: str) -> ImageDataset:
        return OneDomain(self, domain)


class OneDomain(ImageDataset):
    """The images of one of two domains, ``a`` or ``b``."""

    def __init__(self, whole: Unaligned, key: str) -> None:
        self.held_out, self.shuffled, self.preprocess = whole.held_out, whole.shuffled, whole.preprocess
        self._whole, self._key, self._reader = whole, key, whole.reader(key)
        self.fingerprint = fingerprint_of(self._reader.names)
        self.spec = spec_of({key: self._reader}, self._reader.nominal_size(self.preprocess))

    def __len__(self) -> int:
        return len(self._reader)

    def stamp(self) -> str:
        return self._reader.stamp()

    def unaugmented(self) -> ImageDataset:
        return OneDomain(self._whole.unaugmented(), self._key)

    def item(self, index: int, seed: int) -> Batch:
        """``a`` or ``b`` (C, H, W), and ``name``, the path relative to its folder."""
        image = self._reader.prepared(index, self.preprocess, seed)
        return {self._key: image, "name": self._reader.name(index)}
