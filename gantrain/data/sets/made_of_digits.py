"""Pairs, two unpaired domains and an LMDB made of the shipped digits, to try things without a download."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gantrain.config.schema import Range
from gantrain.data.sets.aligned import Aligned
from gantrain.data.sets.digits import Digits
from gantrain.data.sets.lsun import Lsun
from gantrain.data.sets.unaligned import Unaligned
from gantrain.data.tools.lmdb_tools import room_for, writing
from gantrain.data.tools.making import atomic_dir
from gantrain.registry import DATASETS
from gantrain.runtime import distributed

# in fewer pixels neither an outline nor stripes can be told
Size: TypeAlias = Annotated[int, Range(at_least=16, at_most=65536)]
Phase: TypeAlias = Literal["train", "test"]
Pixels: TypeAlias = NDArray[np.uint8]

PHASES: tuple[Phase, ...] = ("train", "test")
INK = 16  # of 255: with more, both sides of the outline of a thin stroke would fall on the same pixels
STRIPES = np.array([[255, 80, 0], [0, 190, 255]])  # a blur of both is gray, which nobody takes for stripes
STRIPES_ACROSS = 8  # the width of a stripe is this part of the image's


@DATASETS.register("edges2digits")
class Edges2Digits(Aligned):
    """Outlines of the 5,000 shipped digits beside the digits themselves, written on first use.

    Args:
        root: The folder; if there is one already, it is read as it is.
        crop_size: Height and width of what is written, in pixels, and of what is read.
        others: As for any folder of pairs.
    """

    def __init__(self, *, root: str, crop_size: Size, **others: Any) -> None:
        _write_once(Path(root).expanduser(), crop_size, write_edges2digits)
        super().__init__(root=root, crop_size=crop_size, **others)


@DATASETS.register("digits2stripes")
class Digits2Stripes(Unaligned):
    """Half of the 5,000 shipped digits, and the other half filled with coloured stripes, written on first use.

    Args:
        root: The folder; if there is one already, it is read as it is.
        crop_size: Height and width of what is written, in pixels, and of what is read.
        others: As for any two folders.
    """

    def __init__(self, *, root: str, crop_size: Size, **others: Any) -> None:
        _write_once(Path(root).expanduser(), crop_size, write_digits2stripes)
        super().__init__(root=root, crop_size=crop_size, **others)


@DATASETS.register("digits_lmdb")
class DigitsLmdb(Lsun):
    """The 5,000 shipped digits in LMDB files as LSUN has them, but with classes, written on first use.

    Args:
        root: The folder; if there is one already, it is read as it is.
        crop_size: Height and width of what is written, in pixels, and of what is read.
        others: As for any category of LSUN.
    """

    def __init__(self, *, root: str, crop_size: Size, **others: Any) -> None:
        _write_once(Path(root).expanduser(), crop_size, write_digits_lmdb)
        super().__init__(root=root, crop_size=crop_size, **others)


def write_edges2digits(root: Path, size: int) -> None:
    """``root/train`` and ``root/test``: gray, the outline of a digit on the left, the digit on the right."""
    for phase in PHASES:
        for name, digit, _ in _digits(phase, size):
            _save(root / phase / name, np.hstack([outline(digit), digit]))


def write_digits2stripes(root: Path, size: int) -> None:
    """``root/trainA`` and so on, in colour: digits in A, others with stripes in B, as many of each class (within one).

    The stripes stand in the same place in every image. Were they shifted at random, a cycle could only close if the
    shift was hidden in the plain digit.
    """
    for phase in PHASES:
        seen: Counter[int] = Counter()
        for name, digit, label in _digits(phase, size):
            domain = "AB"[seen[label] % 2]
            seen[label] += 1
            gray = np.repeat(digit[..., None], 3, axis=2)
            _save(root / f"{phase}{domain}" / name, gray if domain == "A" else striped(digit))


def write_digits_lmdb(root: Path, size: int) -> None:
    """``root/digits_train_lmdb`` and ``root/digits_test_lmdb``: gray PNG files under CLASS/NAME."""
    for phase in PHASES:
        images = {f"{label}/{name}".encode(): _png(digit) for name, digit, label in _digits(phase, size)}
        room = room_for(map(len, images.values()))
        with (
            writing(root / f"digits_{phase}_lmdb", room) as environment,
            environment.begin(write=True) as transaction,
            transaction.cursor() as cursor,
        ):
            cursor.putmulti(sorted(images.items()))


def outline(digit: Pixels) -> Pixels:
    """The pixels (H, W) of a digit that touch what is not ink above, below or beside them: 255, all else 0."""
    ink = np.pad(digit > INK, 1)
    inside = ink[:-2, 1:-1] & ink[2:, 1:-1] & ink[1:-1, :-2] & ink[1:-1, 2:]
    return ((ink[1:-1, 1:-1] & ~inside) * 255).astype(np.uint8)


def striped(digit: Pixels) -> Pixels:
    """A digit (H, W) in stripes of two colours (H, W, 3) that fall to the right, across the slant of handwriting."""
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
    Image.fromarray(pixels).save(path, compress_level=1)


def _write_once(root: Path, size: int, write: Callable[[Path, int], None]) -> None:
    """Fill ``root`` unless it is there; whoever is interrupted leaves no half of it."""
    with distributed.rank_zero_first():
        if not root.exists():
            with atomic_dir(root) as folder:
                write(folder, size)
