"""Common functions of the data sets of image folders: where images are located, and what describes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from gantrain.data.base import ImageSpec
from gantrain.data.images.convert import find_images, images_under, is_image
from gantrain.data.images.reader import ImageReader
from gantrain.data.images.sources import FolderSource
from gantrain.data.sets.catalog import BY_REQUEST, NAMES
from gantrain.errors import ConfigError

Direction: TypeAlias = Literal["a_to_b", "b_to_a"]

# Paths below the root, for a phase; "A" may also be "a".
PAIRS = ("{phase}A + {phase}B", "A/{phase} + B/{phase}", "{phase}/A + {phase}/B")
PHASES = ("train", "test", "val")
NAMED = 5  # Images listed in a message.


def spec_of(readers: Mapping[str, ImageReader], size: tuple[int, int], class_names: Iterable[str] = ()) -> ImageSpec:
    """The specification of a data set with these readers, by key, and images of this height and width."""
    height, width = size
    formats = {key: reader.format for key, reader in readers.items()}
    return ImageSpec(
        height=height,
        width=width,
        channels={key: each.channels for key, each in formats.items()},
        depth={key: each.depth for key, each in formats.items()},
        class_names=tuple(class_names),
        ranges={key: each.value_range for key, each in formats.items() if each.value_range is not None},
    )


def fingerprint_of(names: Iterable[str]) -> str:
    """A hexadecimal hash of the names, 16 digits long."""
    digest = hashlib.blake2b(digest_size=8)
    between = ""
    for name in names:  # Joining a million names would need three times their memory.
        digest.update(f"{between}{name}".encode("utf-8", "surrogateescape"))
        between = "\n"
    return digest.hexdigest()


@dataclass(frozen=True)
class Layout:
    """The image folders of a phase."""

    a: Path  # The folder of domain A, or of both domains.
    b: Path | None  # The folder of domain B; None if each file contains both domains, side by side.
    held_out: bool  # Whether the test phase has other images than the training phase.


def find_layout(root: str, phase: str, *, side_by_side: bool) -> Layout:
    """The folders of a phase. ``val`` replaces a missing ``test``; a root without phases is used for all of them.

    Args:
        root: ``data.root``.
        phase: ``train``, ``test`` or any other.
        side_by_side: Whether a single folder of files that contain both domains is accepted.

    Raises:
        ConfigError: There is no such folder.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise no_folder(folder)
    found = {each: phase_folders(folder, each, side_by_side) for each in dict.fromkeys((phase, *PHASES))}
    pair = found[phase] or (found["val"] if phase == "test" else None)
    if pair:
        return Layout(*pair, held_out=bool(found["test"] or found["val"]))
    whole = _all_folders(folder, side_by_side)
    if whole and not any(found.values()):
        return Layout(*whole, held_out=False)
    ways = [f"{phase} (each image A left, B right)"] if side_by_side else []
    ways += [pair.format(phase=phase) for pair in PAIRS]
    raise ConfigError(f"data.root: nothing for the phase {phase} in {folder} (looked for {'; '.join(ways)})")


def no_folder(folder: Path) -> ConfigError:
    """The error for a missing folder, with a hint if it has the name of a public data set."""
    does = "fetches it" if folder.name in NAMES else "explains how to get it" if folder.name in BY_REQUEST else ""
    hint = f"; gantrain data download {folder.name} {does}" if does else ""
    return ConfigError(f"data.root: there is no folder {folder}{hint}")


def phase_folders(root: Path, phase: str, side_by_side: bool) -> tuple[Path, Path | None] | None:
    """The folders of A and B, or with ``side_by_side``, of both and None; None if there are none for the phase."""
    pairs = [two_folders(root, pair.format(phase=phase)) for pair in PAIRS]
    # In ROOT/train/A + ROOT/train/B, no images are side by side.
    if side_by_side and not pairs[-1] and _holds_images(root / phase):
        return root / phase, None
    return next((pair for pair in pairs if pair), None)


def _all_folders(root: Path, side_by_side: bool) -> tuple[Path, Path | None] | None:
    """``phase_folders`` without phases; images must then be in the root itself, not in an unrelated sub-folder."""
    pair = two_folders(root, "A + B")
    if pair or not side_by_side:
        return pair
    return (root, None) if any(is_image(path) for path in root.glob("[!.]*")) else None


def divided(root: Path) -> list[str]:
    """The phases that have a folder; none unless there is a folder for training and another one."""
    there = [phase for phase in PHASES if (root / phase).is_dir()]
    return there if "train" in there and len(there) > 1 else []


def of_phase(root: Path, phase: str) -> Path | None:
    """The folder of a phase, ``val`` replacing a missing ``test``; None for a root without phases."""
    there = divided(root)
    return root / ("val" if phase == "test" and "test" not in there else phase) if there else None


def two_folders(root: Path, names: str) -> tuple[Path, Path] | None:
    """Two folders, if both exist, with upper or lower case letters for the domains."""
    for spelling in (names, names.replace("A", "a").replace("B", "b")):
        a, b = (root / name for name in spelling.split(" + "))
        if a.is_dir() and b.is_dir():
            return a, b
    return None


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(True for _ in images_under(folder))


def match(a: FolderSource, b: FolderSource) -> list[tuple[Path, Path]]:
    """Pairs of images of two folders that have the same relative path, ignoring suffixes.

    Raises:
        ConfigError: An image has no partner, or several.
    """
    (side_a, twice_a), (side_b, twice_b) = stems_of(a), stems_of(b)
    if twice_a or twice_b:
        one, other = [*twice_a, *twice_b][0]
        raise ConfigError(f"data.root: {one} and {other} differ only in their suffixes: rename or remove one")
    alone = without_partner(side_a, side_b)
    if any(alone):
        raise ConfigError(
            f"data.root: images are matched by name, ignoring suffixes, and {len(alone[0])} in {a.folder} and "
            f"{len(alone[1])} in {b.folder} have no partner: {some_of([*alone[0], *alone[1]])}"
        )
    return [(path, side_b[stem]) for stem, path in side_a.items()]


def stems_of(source: FolderSource) -> tuple[dict[str, Path], list[tuple[Path, Path]]]:
    """The images of a folder by relative path without suffix, and pairs of images for which this is the same."""
    found: dict[str, Path] = {}
    twice: list[tuple[Path, Path]] = []
    for path in source.paths:
        first = found.setdefault(path.relative_to(source.folder).with_suffix("").as_posix(), path)
        if first is not path:
            twice.append((first, path))
    return found, twice


def without_partner(a: Mapping[str, Path], b: Mapping[str, Path]) -> tuple[list[Path], list[Path]]:
    """The images of either side whose key is missing on the other side."""
    return [a[key] for key in a if key not in b], [b[key] for key in b if key not in a]


def some_of(paths: Sequence[Path]) -> str:
    """The first few paths, for a message."""
    more = f" and {len(paths) - NAMED:,} more" if len(paths) > NAMED else ""
    return ", ".join(map(str, paths[:NAMED])) + more


def images_in(folder: Path) -> FolderSource:
    """All images of a folder and its sub-folders."""
    return FolderSource(folder, find_images(folder))
