"""Common functions of the data sets of image folders: where images are located, and what describes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from gantrain.data.base import ImageSpec
from gantrain.data.images.finding import contents, existing, find_images, images_under, is_image
from gantrain.data.images.reader import ImageReader
from gantrain.data.images.sources import FolderSource, Source
from gantrain.data.names import SPELLINGS, nfc, plain
from gantrain.data.sets.catalog import BY_REQUEST, NAMES
from gantrain.errors import ConfigError

Direction: TypeAlias = Literal["a_to_b", "b_to_a"]

# Paths below the root, for a phase; see ``SubFolders`` for other spellings.
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


def resized(spec: ImageSpec, size: tuple[int, int]) -> ImageSpec:
    """The specification with images of this height and width."""
    return replace(spec, height=size[0], width=size[1])


@dataclass(frozen=True)
class Layout:
    """The image folders of a phase."""

    a: Path  # The folder of domain A, or of both domains.
    b: Path | None  # The folder of domain B; None if each file contains both domains, side by side.
    held_out: bool  # Whether the test phase has other images than the training phase.


class SubFolders:
    """The sub-folders of a folder by phase and domain, in any usual spelling; each folder is listed at most once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._found: dict[Path, SubFolders] = {}

    @cached_property
    def _listed(self) -> list[Path]:
        return contents(self.path).folders

    def find(self, phase: str = "", domain: str = "") -> SubFolders | None:
        """The folder ``PhaseDomain``: ``trainA``, or ``Training_a`` if there is no other; None if there is none.

        Raises:
            ConfigError: There are several, and none has the first spelling.
        """
        exact = self.path / f"{phase}{domain}"
        spellings = {spelling + domain.lower() for spelling in SPELLINGS.get(phase, (plain(phase),))}
        found = sorted(folder for folder in self._listed if plain(folder.name) in spellings)
        if len(found) > 1 and exact not in found:
            raise ConfigError(
                f"data.root: {found[0]} and {found[1]} are both named as the folder {exact.name}: rename one of them"
            )
        path = exact if exact in found else next(iter(found), None)
        return None if path is None else self._found.setdefault(path, SubFolders(path))

    def pair(self, phase: str = "") -> tuple[Path, Path] | None:
        """The folders of the domains A and B, if there are both."""
        a, b = (self.find(phase, domain) for domain in "AB")
        return (a.path, b.path) if a and b else None


def find_layout(root: str, phase: str, *, side_by_side: bool) -> Layout:
    """The folders of a phase. ``val`` replaces a missing ``test``; a root without phases is used for all of them.

    With ``side_by_side``, a single folder of files that contain both domains is accepted.
    """
    folder = root_path(root)
    if not folder.is_dir():
        raise no_folder(folder)
    folders = SubFolders(folder)
    found = {each: phase_folders(folders, each, side_by_side) for each in dict.fromkeys((phase, *PHASES))}
    pair = found[phase] or (found["val"] if phase == "test" else None)
    if pair:
        return Layout(*pair, held_out=bool(found["test"] or found["val"]))
    whole = _all_folders(folders, side_by_side)
    if whole and not any(found.values()):
        return Layout(*whole, held_out=False)
    ways = [f"{phase} (each image A left, B right)"] if side_by_side else []
    ways += [pair.format(phase=phase) for pair in PAIRS]
    raise ConfigError(f"data.root: nothing for the phase {phase} in {folder} (looked for {'; '.join(ways)})")


def root_path(root: str) -> Path:
    """``data.root`` as a path."""
    return existing(Path(root).expanduser())


def no_folder(folder: Path) -> ConfigError:
    """The error for a missing folder, with a hint if it has the name of a public data set."""
    does = "fetches it" if folder.name in NAMES else "explains how to get it" if folder.name in BY_REQUEST else ""
    hint = f"; gantrain data download {folder.name} {does}" if does else ""
    return ConfigError(f"data.root: there is no folder {folder}{hint}")


def phase_folders(root: SubFolders, phase: str, side_by_side: bool) -> tuple[Path, Path | None] | None:
    """The folders of A and B, or with ``side_by_side``, of both and None; None if there are none for the phase."""
    whole, *domains = root.find(phase), root.find(domain="A"), root.find(domain="B")
    inside = whole.pair() if whole else None
    # In ROOT/train/A + ROOT/train/B, no images are side by side.
    if side_by_side and whole and not inside and any(True for _ in images_under(whole.path)):
        return whole.path, None
    a, b = (domain and domain.find(phase) for domain in domains)
    return root.pair(phase) or ((a.path, b.path) if a and b else inside)


def _all_folders(root: SubFolders, side_by_side: bool) -> tuple[Path, Path | None] | None:
    """``phase_folders`` without phases; images must then be in the root itself, not in an unrelated sub-folder."""
    pair = root.pair()
    if pair or not side_by_side:
        return pair
    return (root.path, None) if any(map(is_image, contents(root.path).files)) else None


def divided(root: Path) -> dict[str, Path]:
    """The folders of phases, by phase; none unless there is a folder for training and another one."""
    folders = SubFolders(root) if root.is_dir() else None
    found = {phase: folder.path for phase in PHASES if (folder := folders and folders.find(phase))}
    return found if "train" in found and len(found) > 1 else {}


def of_phase(root: Path, phase: str) -> Path | None:
    """The folder of a phase, ``val`` replacing a missing ``test``; None for a root without phases."""
    folders = divided(root)
    if phase == "test" and phase not in folders:
        phase = "val"
    if not folders or phase in folders:
        return folders.get(phase)
    other = SubFolders(root).find(phase)
    return other.path if other else root / phase


class Matches(NamedTuple):
    """The images of two folders, matched by relative path without suffix, in any Unicode form."""

    pairs: dict[str, tuple[Path, Path]]  # The keys are the paths in the first folder.
    alone: list[list[Path]]  # The images of either folder without a partner.
    ambiguous: list[tuple[Path, Path]]  # Images of one folder that differ only in their suffixes.


def match(a: FolderSource, b: FolderSource) -> Matches:
    """Match the images of two folders."""
    (of_a, twice_a), (of_b, twice_b) = stems_of(a), stems_of(b)
    others = {nfc(stem): path for stem, path in of_b.items() if stem not in of_a}  # Perhaps in another Unicode form.
    found = ((stem, path, of_b.get(stem) or others.pop(nfc(stem), None)) for stem, path in of_a.items())
    pairs = {stem: (path, partner) for stem, path, partner in found if partner is not None}
    taken = {path for pair in pairs.values() for path in pair}
    alone = [[path for path in each.values() if path not in taken] for each in (of_a, of_b)]
    return Matches(pairs, alone, twice_a + twice_b)


def pairs_of(a: FolderSource, b: FolderSource, key: str = "data.root: ") -> dict[str, tuple[Path, Path]]:
    """The pairs of images of two folders by relative path without suffix.

    Raises:
        ConfigError: An image has no partner, or several; the message begins with ``key``.
    """
    pairs, (alone_a, alone_b), ambiguous = match(a, b)
    if ambiguous:
        raise differ_in_suffix(*ambiguous[0], key)
    if alone_a or alone_b:
        raise ConfigError(
            f"{key}images are matched by name, ignoring suffixes, and {len(alone_a)} in {a.folder} and "
            f"{len(alone_b)} in {b.folder} have no partner: {some_of(alone_a + alone_b)}"
        )
    return pairs


def differ_in_suffix(one: Path, other: Path, key: str = "") -> ConfigError:
    """The error for two images of which only one can be read."""
    return ConfigError(f"{key}{one} and {other} differ only in their suffixes: rename or remove one")


def stems_of(source: FolderSource) -> tuple[dict[str, Path], list[tuple[Path, Path]]]:
    """The images of a folder by relative path without suffix, and pairs of images for which this is the same."""
    found: dict[str, Path] = {}
    twice: list[tuple[Path, Path]] = []
    for path in source.paths:
        first = found.setdefault(path.relative_to(source.folder).with_suffix("").as_posix(), path)
        if first is not path:
            twice.append((first, path))
    return found, twice


def labels_of(source: Source, classes: Sequence[str], names: Iterable[str]) -> list[int]:
    """The class index of each image, from the name of its class.

    Raises:
        ConfigError: An image is in none of the classes.
    """
    numbers = {nfc(name): number for number, name in enumerate(classes)}
    labels = [numbers.get(nfc(name), -1) for name in names]
    stray = labels.index(-1) if -1 in labels else len(labels)
    if stray < len(source):
        location = source.location(stray)
        raise ConfigError(f"data.root: {location} is in none of the classes of the training images: {classes}")
    return labels


def some_of(paths: Sequence[Path]) -> str:
    """The first few paths, for a message."""
    more = f" and {len(paths) - NAMED:,} more" if len(paths) > NAMED else ""
    return ", ".join(map(str, paths[:NAMED])) + more


def images_in(folder: Path, key: str = "data.root: ") -> FolderSource:
    """All images of a folder and its sub-folders; see ``find_images``."""
    return FolderSource(folder, find_images(folder, key))
