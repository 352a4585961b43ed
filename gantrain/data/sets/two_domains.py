"""Base class of the data sets of two domains."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import ClassVar, TypeVar

from gantrain.config.schema import PositiveInt
from gantrain.data.base import ImageDataset
from gantrain.data.images.convert import ValueRange
from gantrain.data.images.reader import Depth, ImageReader
from gantrain.data.images.sources import FolderSource
from gantrain.data.images.transforms import Decoder, Mode, Preprocess, Size
from gantrain.data.names import fingerprint_of
from gantrain.data.sets.layout import Direction, Layout, find_layout, resized, spec_of

T = TypeVar("T", bound="TwoDomains")


class TwoDomains(ImageDataset):
    """Images of two domains, A and B, in folders.

    Args:
        root: The folder.
        direction: ``a_to_b`` yields the images of domain A as ``a`` and those of B as ``b``; ``b_to_a`` swaps them.
            The arguments below always refer to the domains A and B.
        channels: Number of channels of domain A.
        channels_b: Number of channels of domain B.
        range: The stored values of A that become -1 and 1; null for the full range of the type.
        range_b: The same for B.
        depth: ``auto`` for the depth of the first image of each domain.
        preprocess: How images are scaled and cropped; see ``Preprocess``.
        load_size: Height and width in pixels to which images are scaled, a number or [height, width].
        crop_size: Height and width in pixels of the crop, which is what networks see; at most ``load_size``.
        flip: Whether half of the images, drawn at random, are mirrored in training.
        decoder: ``exact`` scales as Pillow; ``fast`` is faster and differs by one grey level in places;
            ``draft`` also decodes JPEGs at a fraction of their size, which differs more.
        phase: ``train`` for training; any other for testing.

    Attributes:
        side_by_side: Whether A and B may be the left and the right half of the same files.
        preprocess: Applied to each image.
        readers: The readers of the domains ``A`` and ``B``; they share their source if A and B are side by side.
    """

    side_by_side: ClassVar[bool]

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
        phase: str,
        decoder: Decoder,
    ) -> None:
        self.preprocess = Preprocess(
            preprocess=preprocess,
            load_size=load_size,
            crop_size=crop_size,
            flip=flip,
            training=phase == "train",
            decoder=decoder,
        )
        layout = find_layout(root, phase, side_by_side=self.side_by_side)
        self.held_out = layout.held_out
        a, b = self._find(layout)
        columns = 2 if layout.b is None else 1
        self.readers = {
            "A": ImageReader(a, channels=channels, depth=depth, value_range=range, columns=columns),
            "B": ImageReader(b, channels=channels_b, depth=depth, value_range=range_b, suffix="_b", columns=columns),
        }
        self._domains = dict(zip(("a", "b"), "AB" if direction == "a_to_b" else "BA", strict=True))
        readers = {key: self.reader(key) for key in self._domains}
        self.spec = spec_of(readers, readers["a"].nominal_size(self.preprocess))

    @abstractmethod
    def _find(self, layout: Layout) -> tuple[FolderSource, FolderSource]:
        """The images of the domains A and B."""

    def stamp(self) -> str:
        return fingerprint_of(reader.stamp() for reader in self.readers.values())

    def unaugmented(self: T) -> T:
        other = copy.copy(self)
        other.preprocess = self.preprocess.unaugmented()
        other.readers = {domain: reader.uncached() for domain, reader in self.readers.items()}
        other.spec = resized(self.spec, other.reader("a").nominal_size(other.preprocess))
        return other

    def deferring(self: T) -> T:
        other = copy.copy(self)
        other.readers = {domain: reader.deferring() for domain, reader in self.readers.items()}
        return other

    def reader(self, key: str) -> ImageReader:
        """The reader of the images that items contain under ``a`` or ``b``."""
        return self.readers[self._domains[key]]
