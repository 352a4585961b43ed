"""Splitting a folder of images into training, validation and test images."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, TypeAlias

from gantrain.config.schema import Range
from gantrain.data.images.finding import find_images
from gantrain.data.names import nfc
from gantrain.data.sets.layout import PHASES, SubFolders, images_in, match, phase_folders, some_of
from gantrain.data.sets.single import classes_in, warn_of_empty_classes
from gantrain.data.tools.folder_writer import FileTask, already_written, write_folder
from gantrain.errors import ConfigError
from gantrain.runtime.directories import check_output
from gantrain.runtime.parallel import in_parallel
from gantrain.runtime.seeding import derive_seed

UnitInterval: TypeAlias = Annotated[float, Range(at_least=0, at_most=1)]


@dataclass(frozen=True)
class Unit:
    """The images that are assigned to a phase together: one image, or the two of a pair."""

    group: str  # The class, domain or entire set of images that is split in the given proportions.
    files: tuple[tuple[str, str, Path], ...]  # The domain (``A``, ``B`` or empty), name and path of each.


def split(
    folder: Path,
    out: Path,
    *,
    train: UnitInterval = 0.8,
    val: UnitInterval = 0.1,
    test: UnitInterval = 0.1,
    seed: int = 0,
    links: bool = False,
) -> None:
    """Copy images to ``out/train``, ``out/val`` and ``out/test``, or to ``out/trainA``, ``out/trainB`` etc.

    ``folder/A`` and ``folder/B`` are two domains (or ``trainA`` and ``trainB``, if there is no other phase), and pairs
    if they contain the same names, ignoring suffixes. Sub-folders that contain all images are classes, and each is
    split in the same proportions. Files with identical content, or pairs of such files, are assigned to the same phase.
    The random assignment depends only on the seed and on names.

    Args:
        folder: The images; it is not changed.
        out: The new folder.
        train: Fraction of the training images; ``train``, ``val`` and ``test`` must add up to 1.
        val: Fraction of the validation images.
        test: Fraction of the test images.
        seed: The seed of the assignment.
        links: Create symbolic links instead of copies.
    """
    fractions = {"train": train, "val": val, "test": test}
    fractions = {phase: fraction for phase, fraction in fractions.items() if fraction}
    if abs(sum(fractions.values()) - 1) > 1e-6:
        raise ConfigError(f"train={train:g} val={val:g} test={test:g}: the three must add up to 1")
    options = {"kind": "split", "shares": fractions, "seed": seed, "links": links}
    if already_written(out, inputs=(folder,), options=options):
        return
    check_output(out, [folder])
    units = _units(folder)
    duplicates = _group_by_content(units)
    phases = _assign_phases(units, duplicates, fractions, seed)
    empty = next((phase for phase in fractions if phase not in phases), None)
    if empty:
        largest = max(duplicates, key=len)
        listed = some_of([units[number].files[0][2] for number in largest])
        why = f"; {len(largest)} are identical and stay together: {listed}" if len(largest) > 1 else ""
        raise ConfigError(f"{empty}={fractions[empty]:g} is too small for the {len(units)} items in {folder}{why}")
    write = _link if links else _copy
    tasks = {
        f"{phase}{domain}/{name}": FileTask((path,), partial(write, path))
        for unit, phase in zip(units, phases, strict=True)
        for domain, name, path in unit.files
    }
    write_folder(out, tasks, inputs=(folder,), options=options, suffixes=("",))


def _units(folder: Path) -> list[Unit]:
    """All images of the folder, each in one unit."""
    domains = _domains(folder)
    sources = [images_in(top, key="") for top in domains.values()]
    files = {
        path: (domain, path.relative_to(source.folder).as_posix(), path)
        for domain, source in zip(domains, sources, strict=True)
        for path in source.paths
    }
    outside = set(find_images(folder, key="")) - files.keys()
    if outside:
        raise ConfigError(f"{min(outside)} is in none of {', '.join(map(str, domains.values()))}: move it, or those")
    if len(sources) == 2:
        pairs, alone, ambiguous = match(*sources)
        if not any(alone) and not ambiguous:
            return [Unit("all", (files[a], files[b])) for a, b in pairs.values()]
    if len(sources) == 1:
        warn_of_empty_classes(sources[0].folder, sources[0].paths)
    has_classes = len(sources) == 1 and classes_in(sources[0].folder, sources[0].paths)
    return [Unit(nfc(file[1].partition("/")[0]) if has_classes else file[0], (file,)) for file in files.values()]


def _domains(folder: Path) -> dict[str, Path]:
    """The folders of the domains A and B, or under an empty name, that of all images."""
    folders = SubFolders(folder)
    phases = {phase: found for phase in PHASES if (found := phase_folders(folders, phase, side_by_side=True))}
    if len(phases) > 1:
        raise ConfigError(f"{folder} is split already, into {' and '.join(phases)}: give one of these folders")
    a, b = next(iter(phases.values()), None) or folders.pair() or (folder, None)
    if b is None:
        return {"": a}
    beside = not phases and any({a, b}.isdisjoint(path.parents) for path in find_images(folder, key=""))
    return {"": folder} if beside else {"A": a, "B": b}  # Next to other folders, A and B are classes.


def _assign_phases(
    units: Sequence[Unit], duplicates: Sequence[Sequence[int]], fractions: Mapping[str, float], seed: int
) -> list[str]:
    """The phase of each unit: equal for duplicates, and otherwise as close to the fractions as possible per group."""
    sizes = Counter(unit.group for unit in units)
    missing = {group: _apportion(size, fractions) for group, size in sizes.items()}
    keys = [[f"{domain}/{name}" for domain, name, _ in unit.files] for unit in units]
    phases = [""] * len(units)
    for numbers in sorted(duplicates, key=lambda numbers: derive_seed(seed, "split", *keys[numbers[0]])):
        total = {phase: sum(missing[units[number].group][phase] for number in numbers) for phase in fractions}
        phase = max(total, key=total.__getitem__)
        for number in numbers:
            phases[number] = phase
            missing[units[number].group][phase] -= 1
    return phases


def _apportion(size: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """``size`` split into whole numbers by the largest remainder method."""
    counts = {phase: int(size * fraction + 1e-9) for phase, fraction in fractions.items()}
    by_remainder = sorted(fractions, key=lambda phase: counts[phase] - size * fractions[phase])
    for phase in by_remainder[: size - sum(counts.values())]:
        counts[phase] += 1
    return counts


def _group_by_content(units: Sequence[Unit]) -> list[list[int]]:
    """The indices of units whose files are all identical; pairs that share one, like an empty mask, are different."""
    paths = [path for unit in units for _, _, path in unit.files]
    digests = iter(in_parallel(_digest, paths, total=len(paths), label="compare"))
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for number, unit in enumerate(units):
        groups.setdefault(tuple(next(digests) for _ in unit.files), []).append(number)
    return list(groups.values())


def _digest(path: Path) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.digest()


def _copy(source: Path, path: Path) -> Path:
    return Path(shutil.copy2(source, path))


def _link(source: Path, path: Path) -> Path:
    path.symlink_to(source.resolve())
    return path
