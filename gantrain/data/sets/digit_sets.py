"""Data sets derived from the shipped digits: pairs, two unpaired domains and an LMDB; they need no download."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gantrain.config.schema import Range
from gantrain.data.sets.aligned import Aligned
from gantrain.data.sets.digits import Digits
from gantrain.data.sets.lmdb_index import map_size, open_for_writing
from gantrain.data.sets.lsun import Lsun
from gantrain.data.sets.unaligned import Unaligned
from gantrain.registry import DATASETS
from gantrain.runtime import distributed
from gantrain.runtime.directories import atomic_dir

# In fewer pixels, neither outlines nor stripes are recognizable.
Size: TypeAlias = Annotated[int, Range(at_least=16, at_most=65536)]
Phase: TypeAlias = Literal["train", "test"]
Pixels: TypeAlias = NDArray[np.uint8]

PHASES: tuple[Phase, ...] = ("train", "test")
INK = 16  # The threshold, of 255. With a higher one, both outlines of a thin stroke would be the same pixels.
STRIPES = np.array([[255, 80, 0], [0, 190, 255]])  # A blur of both is gray and can't be mistaken for stripes.
STRIPES_ACROSS = 8  # The width of the image in stripes.


class WrittenOnFirstUse:
    """Base class of data sets that write their files to ``root`` if it does not exist.

    Args:
        root: The folder; if it exists, it is read as it is.
        crop_size: Height and width of the images, in pixels, both written and read.
    """

    @staticmethod
    @abstractmethod
    def write(root: Path, size: int) -> None:
        """Write images of this height and width to a new folder."""

    def __init__(self, *, root: str, crop_size: Size, **others: Any) -> None:
        folder = Path(root).expanduser()
        with distributed.rank_zero_first():
            if not folder.exists():
                with atomic_dir(folder) as unfinished:
                    self.write(unfinished, crop_size)
        super().__init__(root=root, crop_size=crop_size, **others)  # type: ignore[call-arg]


def outline(digit: Pixels) -> Pixels:
    """The outline (H, W) of a digit: 255 for pixels with ink next to a pixel without, 4-connected; 0 elsewhere."""
    ink = np.pad(digit > INK, 1)
    inside = ink[:-2, 1:-1] & ink[2:, 1:-1] & ink[1:-1, :-2] & ink[1:-1, 2:]
    return ((ink[1:-1, 1:-1] & ~inside) * 255).astype(np.uint8)


def striped(digit: Pixels) -> Pixels:
    """A digit (H, W) in diagonal stripes of two colours (H, W, 3), across the slant of handwriting."""
    rows, columns = np.indices(digit.shape)
    stripe = (columns - rows) * STRIPES_ACROSS // digit.shape[1] % 2
    return (digit[..., None] / 255 * STRIPES[stripe]).round().astype(np.uint8)


def _digits(phase: Phase, size: int) -> Iterator[tuple[str, Pixels, int]]:
    """File name, pixels (H, W) and class of each digit of a phase."""
    digits = Digits(load_size=size, phase=phase)
    for index, label in enumerate(digits.labels):
        yield f"{index:05}_digit_{label}.png", digits.item(index, seed=0)["image"][0].numpy(), label


def _png(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _save(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_png(pixels))


@DATASETS.register("edges2digits")
class Edges2Digits(WrittenOnFirstUse, Aligned):
    """Outlines of the 5,000 shipped digits beside the digits."""

    @staticmethod
    def write(root: Path, size: int) -> None:
        """Write ``root/train`` and ``root/test``: gray, the outline of a digit on the left, the digit on the right."""
        for phase in PHASES:
            for name, digit, _ in _digits(phase, size):
                _save(root / phase / name, np.hstack([outline(digit), digit]))


@DATASETS.register("digits2stripes")
class Digits2Stripes(WrittenOnFirstUse, Unaligned):
    """One half of the 5,000 shipped digits, and the other half filled with coloured stripes."""

    @staticmethod
    def write(root: Path, size: int) -> None:
        """Write ``root/trainA`` etc. in colour: digits in A, other digits with stripes in B, balanced in every class.

        The stripes have the same position in every image. With a random one, a cycle could be consistent only if the
        position was hidden in the plain digit.
        """
        for phase in PHASES:
            seen: Counter[int] = Counter()
            for name, digit, label in _digits(phase, size):
                domain = "AB"[seen[label] % 2]
                seen[label] += 1
                gray = np.repeat(digit[..., None], 3, axis=2)
                _save(root / f"{phase}{domain}" / name, gray if domain == "A" else striped(digit))


@DATASETS.register("digits_lmdb")
class DigitsLmdb(WrittenOnFirstUse, Lsun):
    """The 5,000 shipped digits in LMDB files like those of LSUN, but with classes."""

    @staticmethod
    def write(root: Path, size: int) -> None:
        """Write ``root/digits_train_lmdb`` and ``root/digits_test_lmdb``: gray PNG files with keys CLASS/NAME."""
        for phase in PHASES:
            images = {f"{label}/{name}".encode(): _png(digit) for name, digit, label in _digits(phase, size)}
            with (
                open_for_writing(root / f"digits_{phase}_lmdb", map_size(map(len, images.values()))) as environment,
                environment.begin(write=True) as transaction,
                transaction.cursor() as cursor,
            ):
                cursor.putmulti(sorted(images.items()))
