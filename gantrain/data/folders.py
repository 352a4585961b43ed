"""What the data sets of one's own pictures have in common: where files lie, and how those of a domain are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from gantrain.data.base import ImageSpec
from gantrain.data.domain import Domain
from gantrain.data.pictures import find_images, is_picture
from gantrain.data.sources import FolderSource
from gantrain.registry import ConfigError

Direction: TypeAlias = Literal["a_to_b", "b_to_a"]

# below the root, for a phase; "A" may be "a"
PAIRS = ("{phase}A + {phase}B", "A/{phase} + B/{phase}", "{phase}/A + {phase}/B")
PHASES = ("train", "test", "val")


def spec_of(domains: Mapping[str, Domain], size: tuple[int, int], class_names: Iterable[str] = ()) -> ImageSpec:
    """The description of a data set with these domains, by key, and pictures of that height and width."""
    height, width = size
    readings = {key: domain.reading for key, domain in domains.items()}
    return ImageSpec(
        height=height,
        width=width,
        channels={key: reading.channels for key, reading in readings.items()},
        depth={key: reading.depth for key, reading in readings.items()},
        class_names=tuple(class_names),
        ranges={key: reading.value_range for key, reading in readings.items() if reading.value_range is not None},
    )


def fingerprint_of(names: Iterable[str]) -> str:
    """Sixteen digits that differ where names do."""
    digest = hashlib.blake2b(digest_size=8)
    between = ""
    for name in names:  # a million of them, joined, would take their memory thrice
        digest.update(f"{between}{name}".encode("utf-8", "surrogateescape"))
        between = "\n"
    return digest.hexdigest()


@dataclass(frozen=True)
class Layout:
    """Where the pictures of a phase lie.

    Attributes:
        a: The folder of the first domain, or of both.
        b: That of the second; None where each picture holds both, side by side.
        held_out: Whether other pictures are there to test on.
    """

    a: Path
    b: Path | None
    held_out: bool


def find_layout(root: str, phase: str, *, side_by_side: bool) -> Layout:
    """The folders of a phase; those of ``val`` for a ``test`` that is not there, all for a root that has no phases.

    Args:
        root: As typed.
        phase: ``train``, ``test`` or any other.
        side_by_side: Whether one folder of pictures that hold both domains will do.

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
    ways = [f"{phase} (each picture A left, B right)"] if side_by_side else []
    ways += [pair.format(phase=phase) for pair in PAIRS]
    raise ConfigError(f"data.root: nothing for the phase {phase} in {folder} (looked for {'; '.join(ways)})")


def no_folder(folder: Path) -> ConfigError:
    """What to say of a missing folder, which may be one that is handed out."""
    from gantrain.data.download import NAMES

    hint = f"; gantrain data download {folder.name} fetches it" if folder.name in NAMES else ""
    return ConfigError(f"data.root: there is no folder {folder}{hint}")


def phase_folders(root: Path, phase: str, side_by_side: bool) -> tuple[Path, Path | None] | None:
    """Those of A and B, or if ``side_by_side`` that of both and None; None where there are none for the phase."""
    pairs = [two_folders(root, pair.format(phase=phase)) for pair in PAIRS]
    # in ROOT/train/A + ROOT/train/B no picture is side by side
    if side_by_side and not pairs[-1] and _holds_pictures(root / phase):
        return root / phase, None
    return next((pair for pair in pairs if pair), None)


def _all_folders(root: Path, side_by_side: bool) -> tuple[Path, Path | None] | None:
    """The same without phases; pictures then lie in the root itself, lest a root above the right one be taken."""
    pair = two_folders(root, "A + B")
    if pair or not side_by_side:
        return pair
    return (root, None) if any(is_picture(path) for path in root.iterdir()) else None


def two_folders(root: Path, names: str) -> tuple[Path, Path] | None:
    """Two folders, both of which are there, with capital letters or small ones."""
    for spelling in (names, names.replace("A", "a").replace("B", "b")):
        a, b = (root / name for name in spelling.split(" + "))
        if a.is_dir() and b.is_dir():
            return a, b
    return None


def _holds_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(is_picture(path) for path in folder.rglob("*"))


def match(a: FolderSource, b: FolderSource) -> list[tuple[Path, Path]]:
    """Pictures of two folders by their paths below them, without suffix.

    Raises:
        ConfigError: A picture has no partner, or two.
    """
    sides = [_by_stem(a), _by_stem(b)]
    alone = [[mine[stem] for stem in mine if stem not in other] for mine, other in (sides, sides[::-1])]
    if any(alone):
        some = ", ".join(str(path) for path in [*alone[0], *alone[1]][:5])
        raise ConfigError(
            f"data.root: pictures are matched by name without suffix, and {len(alone[0])} in {a.folder} and "
            f"{len(alone[1])} in {b.folder} have no partner: {some}" + (", ..." if sum(map(len, alone)) > 5 else "")
        )
    return [(path, sides[1][stem]) for stem, path in sides[0].items()]


def _by_stem(source: FolderSource) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in source.paths:
        stem = path.relative_to(source.folder).with_suffix("").as_posix()
        if stem in found:
            raise ConfigError(f"data.root: {found[stem]} and {path} have the same name but for the suffix")
        found[stem] = path
    return found


def pictures_in(folder: Path) -> FolderSource:
    """All that lie in a folder or below."""
    return FolderSource(folder, find_images(folder))
