"""Pairs of images that show the same."""

from __future__ import annotations

from collections.abc import Sequence

from gantrain.config.schema import PositiveInt
from gantrain.data.base import Batch, ImageDataset
from gantrain.data.images.convert import ValueRange
from gantrain.data.images.reader import Depth, ImageReader
from gantrain.data.images.sources import FolderSource
from gantrain.data.images.store import ImageCache, Pixels
from gantrain.data.images.transforms import Decoder, Mode, Preprocess, Size
from gantrain.data.sets.layout import Direction, find_layout, fingerprint_of, images_in, match, spec_of
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS


@DATASETS.register("aligned")
class Aligned(ImageDataset):
    """Pairs of images, side by side in one file or under one name in two folders.

    For the phase ``train``: ``ROOT/train`` with A on the left half of each image and B on its right, or
    ``ROOT/trainA`` and ``ROOT/trainB``, or ``ROOT/A/train`` and ``ROOT/B/train``, or ``ROOT/train/A`` and
    ``ROOT/train/B``; sub-folders are searched. ``test`` falls back to ``val``; images right in the root, or
    ``ROOT/A`` and ``ROOT/B``, without any phase serve them all.

    Args:
        root: The folder.
        direction: ``b_to_a`` calls the images of B ``a`` and those of A ``b``, wherever the keys below say A and B.
        channels: Of A.
        channels_b: Of B.
        range: The stored values of A that become -1 and 1; null for the whole range of the type.
        range_b: Those of B.
        depth: ``auto`` for that of the first image of each domain.
        preprocess: See ``Preprocess``; both images of a pair are cut and mirrored alike.
        load_size: See there.
        crop_size: See there.
        flip: Whether half of the pairs are mirrored in training.
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
        layout = find_layout(root, phase, side_by_side=True)
        self.held_out = layout.held_out
        side_by_side = layout.b is None
        of_a = of_b = images_in(layout.a)
        if layout.b is not None:
            of_b = images_in(layout.b)
            pairs = match(of_a, of_b)
            of_a = FolderSource(of_a.folder, [a for a, _ in pairs])
            of_b = FolderSource(of_b.folder, [b for _, b in pairs])
        columns = 2 if side_by_side else 1
        self._a = ImageReader(of_a, channels=channels, depth=depth, value_range=range, columns=columns)
        self._b = ImageReader(of_b, channels=channels_b, depth=depth, value_range=range_b, suffix="_b", columns=columns)
        self._read_alike = side_by_side and self._a.format == self._b.format
        self._keys = ("a", "b") if direction == "a_to_b" else ("b", "a")
        domains = dict(zip(self._keys, (self._a, self._b), strict=True))
        self._named = domains["a"]
        self.fingerprint = fingerprint_of(self._a.names + ([] if side_by_side else self._b.names))
        self.spec = spec_of({key: domains[key] for key in ("a", "b")}, self._a.nominal_size(self.preprocess))

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self._a)

    def item(self, index: int, seed: int) -> Batch:
        """``a`` and ``b`` (C, H, W), and ``name``, the path of ``a`` below its folder."""
        pair = self._scaled(index)
        if pair[0].shape[:2] != pair[1].shape[:2]:
            sizes = " and ".join(str(list(pixels.shape[:2])) for pixels in pair)
            raise ConfigError(
                f"{self._a.location(index)} and {self._b.location(index)} would be scaled to different sizes, {sizes}: "
                "data.preprocess=resize_and_crop makes all sizes alike"
            )
        name = self._a.location(index)
        images = [self.preprocess.cut(pixels, seed, name=name) for pixels in pair]  # one seed: both move together
        return {**dict(zip(self._keys, images, strict=True)), "name": self._named.name(index)}

    def use_cache(self, cache: ImageCache, indices: Sequence[int] | None = None) -> None:
        """Decode each image once; one that holds both domains, for both."""
        self._a.use_cache(cache, self.preprocess, indices)
        if not self._read_alike:
            self._b.use_cache(cache, self.preprocess, indices)
        self.in_memory = self._a.is_cached and (self._read_alike or self._b.is_cached)

    def _scaled(self, index: int) -> tuple[Pixels, Pixels]:
        """Of A and of B."""
        a = self._a.scaled(index, self.preprocess)
        b = a if self._read_alike else self._b.scaled(index, self.preprocess)
        return a[0], b[-1]
