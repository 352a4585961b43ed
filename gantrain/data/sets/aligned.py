"""Paired images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gantrain.data.base import Batch
from gantrain.data.images.sources import FolderSource
from gantrain.data.images.store import ImageCache
from gantrain.data.names import fingerprint_of
from gantrain.data.sets.layout import Layout, images_in, pairs_of
from gantrain.data.sets.two_domains import TwoDomains
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS


@DATASETS.register("aligned")
class Aligned(TwoDomains):
    """Pairs of images, side by side in one file or with the same name in two folders.

    For the phase ``train``: ``ROOT/train`` with A on the left half of each image and B on its right, or
    ``ROOT/trainA`` and ``ROOT/trainB``, or ``ROOT/A/train`` and ``ROOT/B/train``, or ``ROOT/train/A`` and
    ``ROOT/train/B``; sub-folders are searched. ``val`` replaces a missing ``test``. Images directly in the root, or
    ``ROOT/A`` and ``ROOT/B``, without phases, are used in all of them. Both images of a pair are cropped and mirrored
    alike. The arguments are those of ``TwoDomains``.
    """

    side_by_side = True

    def __init__(self, **others: Any) -> None:
        super().__init__(**others)
        a, b = self.readers["A"], self.readers["B"]
        shared = a.source is b.source
        self._decode_once = shared and a.format == b.format
        self.fingerprint = fingerprint_of(a.names + ([] if shared else b.names))

    def _find(self, layout: Layout) -> tuple[FolderSource, FolderSource]:
        a = images_in(layout.a)
        if layout.b is None:
            return a, a
        b = images_in(layout.b)
        of_a, of_b = zip(*pairs_of(a, b).values(), strict=True)
        return FolderSource(a.folder, of_a), FolderSource(b.folder, of_b)

    def __len__(self) -> int:
        return len(self.readers["A"])

    def item(self, index: int, seed: int) -> Batch:
        """``a`` and ``b`` (C, H, W), and ``name``, the path of ``a`` relative to its folder."""
        # The images of both domains are the first and the last column of files side by side.
        first = self.readers["A"].scaled(index, self.preprocess)
        last = first if self._decode_once else self.readers["B"].scaled(index, self.preprocess)
        pair = {"A": first[0], "B": last[-1]}
        a, b = (self.readers[domain].location(index) for domain in "AB")
        if pair["A"].shape[:2] != pair["B"].shape[:2]:
            sizes = " and ".join(str(list(pixels.shape[:2])) for pixels in pair.values())
            raise ConfigError(
                f"{a} and {b} would be scaled to different sizes, {sizes}: "
                "data.preprocess=resize_and_crop makes all sizes equal"
            )
        # The common seed gives both images the same crop and flip.
        images = {key: self.preprocess.cut(pair[domain], seed, name=a) for key, domain in self._domains.items()}
        return {**images, "name": self.reader("a").name(index)}

    def use_cache(self, cache: ImageCache, indices: Sequence[int] | None = None) -> None:
        readers = [self.readers["A"]] if self._decode_once else list(self.readers.values())
        for reader in readers:
            reader.use_cache(cache, self.preprocess, indices)
        self.in_memory = all(reader.is_cached for reader in readers)
