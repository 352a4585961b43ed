"""Which images a data set would read, told without reading them, and what is wrong with their folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from gantrain.data.base import IMAGE_KEYS, ImageDataset, drawn
from gantrain.data.images.convert import EXTENSIONS, needs_range
from gantrain.data.images.headers import read_header
from gantrain.data.images.sources import FolderSource, Source, SubsetSource
from gantrain.data.sets.aligned import Aligned
from gantrain.data.sets.layout import Layout, find_layout, images_in, stems_of, without_partner
from gantrain.data.sets.shards import ShardSource
from gantrain.data.sets.single import Images
from gantrain.data.sets.torchvision_sets import TorchvisionDataset
from gantrain.data.sets.unaligned import Unaligned
from gantrain.data.tools.inspect import ItemSource, Part, Wanted
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS


@dataclass(frozen=True)
class Finding:
    """Something to know of a data set.

    Attributes:
        text: One line.
        stops: Whether training would stop.
        items: The images, or what is said of each.
    """

    text: str
    stops: bool
    items: Sequence[str] = ()


Build: TypeAlias = Callable[[Mapping[str, Any], str], ImageDataset]


def survey(data: Mapping[str, Any], build: Build) -> tuple[list[Part], list[Finding]]:
    """The images of the training and of the test phase, and what is wrong with where they lie.

    Args:
        data: The keys of the data set.
        build: Makes the data set of a phase from such keys, as for training.

    Raises:
        ConfigError: There is nothing that could be read.
    """
    parts: list[Part] = []
    findings: list[Finding] = []
    for phase in ("train", "test"):
        try:
            there, found, held_out = _survey_phase(data, phase, build)
        except ConfigError as error:
            if not parts:
                raise
            findings.append(Finding(str(error), stops=True))
            break
        parts += there
        findings += found
        if not held_out:
            findings.append(Finding("there are no other images to test on: pages will show training images", False))
            break
    return parts, findings + _unread_files(data, parts)


def _survey_phase(data: Mapping[str, Any], phase: str, build: Build) -> tuple[list[Part], list[Finding], bool]:
    """Its images, what is wrong, and whether there are others to test on."""
    cls = DATASETS[data.get("mode", "")]
    paired = issubclass(cls, Aligned)
    dataset, failure = None, None
    try:
        # a depth that is given has no image opened to find it
        dataset = build({**data, "depth": "uint8"} if data.get("depth") == "auto" else data, phase)
    except ConfigError as error:
        failure = error
    if (paired or issubclass(cls, Unaligned)) and "root" in data:  # whose folders tell more than the first mistake
        try:
            layout = find_layout(str(data["root"]), phase, side_by_side=paired)
        except ConfigError as missing:
            raise failure or missing from None
        parts, findings = _two_domains(layout, data, phase, dataset, paired=paired)
        return parts, findings or ([Finding(str(failure), stops=True)] if failure else []), layout.held_out
    if dataset is None:
        assert failure is not None
        raise failure
    return *_one_set(dataset, data, phase), dataset.held_out


def chosen(part: Part, *, fraction: float | None, max_size: int | None, seed: int) -> Part:
    """What ``data.fraction`` and ``data.max_size`` leave of it."""
    size = len(part.source)
    indices = (range(size) if fraction is None else drawn(size, fraction, seed))[:max_size]
    if len(indices) == size:
        return part
    labels = None if part.labels is None else [part.labels[index] for index in indices]
    return replace(part, source=SubsetSource(part.source, indices), labels=labels, whole=size)


def _one_set(dataset: ImageDataset, data: Mapping[str, Any], phase: str) -> tuple[list[Part], list[Finding]]:
    if isinstance(dataset, Images):
        found = dataset.found
        wanted, findings = _wanted(found.source, data, "")
        part = Part(phase, "image", found.source, (wanted,), dataset.preprocess, found.class_names, found.labels)
        return [part], findings
    if isinstance(dataset, TorchvisionDataset) and dataset.source is not None:
        wanted = Wanted(dataset.spec.channels["image"], "uint8", None, False, "")
        return [Part(phase, "image", dataset.source, (wanted,), dataset.preprocess)], []
    parts = []
    for key in (key for key in IMAGE_KEYS if key in dataset.spec.channels):
        depth = dataset.spec.depth[key]
        wanted = Wanted(dataset.spec.channels[key], depth, (-1, 1) if depth == "float32" else None, True, "")
        source = ItemSource(dataset, key)
        parts.append(Part(phase, key, source, (wanted,), None, dataset.spec.class_names, dataset.labels))
    return parts, []


def _two_domains(
    layout: Layout, data: Mapping[str, Any], phase: str, dataset: ImageDataset | None, *, paired: bool
) -> tuple[list[Part], list[Finding]]:
    preprocess = getattr(dataset, "preprocess", None)
    sources: dict[str, FolderSource] = {}
    findings: list[Finding] = []
    for domain, folder in {"A": layout.a, "B": layout.b}.items():
        try:
            if folder is not None:
                sources[domain] = images_in(folder)
        except ConfigError as error:
            findings.append(Finding(str(error), stops=True))
    if paired and len(sources) == 2:
        sources["A"], sources["B"], findings = _matched(sources["A"], sources["B"])
    paired = paired and not findings
    parts = []
    for domain, source in sources.items():
        wanted, found = _wanted(source, data, "_b" if domain == "B" else "")
        findings += found
        if layout.b is not None:
            parts.append(Part(phase, domain, source, (wanted,), preprocess, paired=paired))
            continue
        wanted_b, found = _wanted(source, data, "_b")
        findings += found
        parts.append(Part(phase, "A | B", source, (wanted, wanted_b), preprocess))
    return parts, findings


def _matched(a: FolderSource, b: FolderSource) -> tuple[FolderSource, FolderSource, list[Finding]]:
    """Both in the order of A's images, if each has a partner; else as they are, and who has none or two."""
    (side_a, twice_a), (side_b, twice_b) = stems_of(a), stems_of(b)
    alone = [str(path) for side in without_partner(side_a, side_b) for path in side]
    twice = [f"{one} and {other}" for one, other in [*twice_a, *twice_b]]
    findings = [
        Finding(f"images {what}: {len(items):,}", True, items)
        for what, items in (
            ("without a partner of the same name, suffix aside", alone),
            ("of the same name but for the suffix", twice),
        )
        if items
    ]
    return a, b if findings else FolderSource(b.folder, [side_b[stem] for stem in side_a]), findings


def _wanted(source: Source, data: Mapping[str, Any], suffix: str) -> tuple[Wanted, list[Finding]]:
    """What training would ask of these images; without a range where it needs one, that of [0, 1]."""
    depth, value_range = data.get("depth", "auto"), data.get(f"range{suffix}")
    channels = data[f"channels{suffix}"]
    convert = depth != "auto"
    first = ""
    if depth == "auto":
        depth, first = _first_depth(source, channels)
    findings = []
    if depth == "float32" and value_range is None and first:
        findings.append(Finding(str(needs_range(first, suffix)), stops=True))
        value_range = (0, 1)
    limits = None if value_range is None else (value_range[0], value_range[1])
    return Wanted(channels, depth, limits, convert, suffix), findings


def _first_depth(source: Source, channels: int) -> tuple[str, str]:
    """That of the first image that can be read, and where it is."""
    for index in range(len(source)):
        try:
            return read_header(source.open(index), channels, source.location(index)).depth, source.location(index)
        except (ConfigError, OSError):  # which is found when all are looked at
            continue
    return "uint8", ""


def _unread_files(data: Mapping[str, Any], parts: Sequence[Part]) -> list[Finding]:
    """What lies beside the images and nobody will read: files, by their extensions, and links that lead nowhere."""
    kinds = Counter[str]()
    broken: list[str] = []
    folders: set[Path] = set()
    for source in (part.source for part in parts):
        if isinstance(source, ShardSource):
            kinds.update(source.index.unread)
        # a pattern means to leave files out
        elif isinstance(source, FolderSource) and Path(str(data.get("root", ""))).expanduser().is_dir():
            folders.add(source.folder)
    for path in (path for folder in sorted(folders) for path in sorted(folder.rglob("*"))):
        if path.is_symlink() and not path.exists():
            broken.append(str(path))
        elif path.suffix.lower() not in EXTENSIONS and not path.name.startswith(".") and path.is_file():
            kinds[path.suffix or path.name] += 1
    said = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common())
    findings = [Finding(f"files that are not read, for their extensions: {said}", False)] if kinds else []
    return findings + (
        [Finding(f"links to files that are not there: {len(broken):,}", False, broken)] if broken else []
    )
