"""Dividing a folder of images into those to train on, to choose by and to test on."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gantrain.data.images.sources import FolderSource
from gantrain.data.sets.layout import PHASES, phase_folders, some_of, stems_of, two_folders
from gantrain.data.sets.single import classes_in
from gantrain.data.tools.making import Recipe, check_place, images_below, make
from gantrain.errors import ConfigError
from gantrain.runtime.parallel import in_parallel
from gantrain.runtime.seeding import derive_seed

CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Unit:
    """What must not be torn apart: an image, or the two of a pair.

    Attributes:
        part: What is divided in the given proportions: a class, a domain, or all images.
        files: The domain of each (``A``, ``B`` or none), its name and where it is.
    """

    part: str
    files: tuple[tuple[str, str, Path], ...]


def split(folder: Path, out: Path, *, train: float, val: float, test: float, seed: int, links: bool) -> None:
    """Copies in ``out/train``, ``out/val`` and ``out/test``, or in ``out/trainA``, ``out/trainB`` and so on.

    ``folder/A`` and ``folder/B`` are two domains (or ``trainA`` and ``trainB``, if there is no other phase), and pairs
    if they hold the same names without suffix. Sub-folders that hold every image are classes, and each is divided in
    the same proportions. Files of the same content, or pairs of which both are, are not torn apart. Chance depends on
    the seed and on names alone.

    Args:
        folder: Is not changed.
        out: New.
        train: The share of the images to train on; together with the next two it makes 1.
        val: To choose by.
        test: To test on.
        seed: Of the division.
        links: Make symbolic links instead of copies.

    Raises:
        ConfigError: The shares don't make 1, nothing is left for one of them, or the folder is divided already.
    """
    shares = {"train": train, "val": val, "test": test}
    shares = {phase: share for phase, share in shares.items() if share}
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ConfigError(f"train={train:g} val={val:g} test={test:g}: the three must make 1 together")
    check_place(out, [folder])
    units = _units(folder)
    groups = _of_equal_content(units)
    phases = _divided(units, groups, shares, seed)
    empty = [phase for phase in shares if phase not in phases]
    if empty:
        most = max(groups, key=len)
        named = some_of([units[number].files[0][2] for number in most])
        why = f"; {len(most)} are equal and stay together: {named}" if len(most) > 1 else ""
        raise ConfigError(f"{empty[0]}={shares[empty[0]]:g}: nothing is left for it of {len(units)} in {folder}{why}")
    write = _link if links else _copy
    plan = {
        f"{phase}{domain}/{name}": Recipe((path,), partial(write, path))
        for unit, phase in zip(units, phases, strict=True)
        for domain, name, path in unit.files
    }
    options = {"kind": "split", "shares": shares, "seed": seed, "links": links}
    make(out, plan, inputs=(folder,), options=options, suffixes=("",))


def _units(folder: Path) -> list[Unit]:
    """All images of the folder, each once."""
    everything = images_below(folder)
    domains = _domains(folder)
    units: list[Unit] = []
    if len(domains) == 2 and (paired := _pairs(domains)):
        units = [Unit("all", files) for files in paired]
    else:
        for domain, top in domains.items():
            paths = images_below(top)
            classes = [] if domain else classes_in(top, paths)
            names = [path.relative_to(top) for path in paths]
            units += [
                Unit(name.parts[0] if classes else domain, ((domain, name.as_posix(), path),))
                for name, path in zip(names, paths, strict=True)
            ]
    outside = set(everything).difference(path for unit in units for _, _, path in unit.files)
    if outside:
        raise ConfigError(f"{min(outside)} lies in none of {', '.join(map(str, domains.values()))}: move it, or those")
    return units


def _domains(folder: Path) -> dict[str, Path]:
    """Where the images of A and B lie, or all."""
    phases = {phase: found for phase in PHASES if (found := phase_folders(folder, phase, side_by_side=True))}
    if len(phases) > 1:
        raise ConfigError(f"{folder} is divided already, into {' and '.join(phases)}: give one of these folders")
    a, b = next(iter(phases.values()), None) or two_folders(folder, "A + B") or (folder, None)
    if b is None:
        return {"": a}
    beside = not phases and any({a, b}.isdisjoint(path.parents) for path in images_below(folder))
    return {"": folder} if beside else {"A": a, "B": b}  # beside others, A and B are classes


def _pairs(domains: Mapping[str, Path]) -> list[tuple[tuple[str, str, Path], ...]]:
    """The files of each pair; none if these are no pairs."""
    a, b = (FolderSource(top, images_below(top)) for top in domains.values())
    (of_a, twice_a), (of_b, twice_b) = stems_of(a), stems_of(b)
    if twice_a or twice_b or of_a.keys() != of_b.keys():
        return []
    return [
        (
            ("A", path.relative_to(a.folder).as_posix(), path),
            ("B", of_b[stem].relative_to(b.folder).as_posix(), of_b[stem]),
        )
        for stem, path in of_a.items()
    ]


def _divided(
    units: Sequence[Unit], groups: Sequence[Sequence[int]], shares: Mapping[str, float], seed: int
) -> list[str]:
    """The phase of each unit: those of equal content together, then as near to the shares as may be in every part."""
    sizes = Counter(unit.part for unit in units)
    wanted = {part: _whole(size, shares) for part, size in sizes.items()}
    keys = [[f"{domain}/{name}" for domain, name, _ in unit.files] for unit in units]
    groups = sorted(groups, key=lambda group: derive_seed(seed, "split", *keys[group[0]]))
    phases = [""] * len(units)
    for group in groups:
        missing = {phase: sum(wanted[units[number].part][phase] for number in group) for phase in shares}
        phase = max(missing, key=missing.__getitem__)
        for number in group:
            phases[number] = phase
            wanted[units[number].part][phase] -= 1
    return phases


def _whole(size: int, shares: Mapping[str, float]) -> dict[str, int]:
    """``size`` divided into whole numbers, the largest remainders rounded up."""
    counts = {phase: int(size * share + 1e-9) for phase, share in shares.items()}
    by_remainder = sorted(shares, key=lambda phase: counts[phase] - size * shares[phase])
    for phase in by_remainder[: size - sum(counts.values())]:
        counts[phase] += 1
    return counts


def _of_equal_content(units: Sequence[Unit]) -> list[list[int]]:
    """The numbers of units whose files are all equal; pairs that share one, like an empty mask, are not the same."""
    paths = [path for unit in units for _, _, path in unit.files]
    digests = iter(in_parallel(digest_of, paths, total=len(paths), label="compare"))
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for number, unit in enumerate(units):
        groups.setdefault(tuple(next(digests) for _ in unit.files), []).append(number)
    return list(groups.values())


def digest_of(path: Path) -> bytes:
    """Sixteen bytes that differ where files do."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.digest()


def _copy(source: Path, path: Path) -> Path:
    return Path(shutil.copy2(source, path))


def _link(source: Path, path: Path) -> Path:
    path.symlink_to(source.resolve())
    return path
