"""Which pictures a data set would read, told without reading them, and what is wrong with their folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gantrain.data.aligned import Aligned
from gantrain.data.base import IMAGE_KEYS, ImageDataset
from gantrain.data.folders import Layout, find_layout, pictures_in
from gantrain.data.headers import read_header
from gantrain.data.looking import ItemSource, Part, Wanted
from gantrain.data.pictures import EXTENSIONS, needs_range
from gantrain.data.shards import ShardSource
from gantrain.data.single import Pictures
from gantrain.data.sources import FolderSource, Source
from gantrain.data.torchvision_sets import TorchvisionDataset
from gantrain.data.unaligned import Unaligned
from gantrain.registry import DATASETS, ConfigError


@dataclass(frozen=True)
class Finding:
    """Something to know of a data set.

    Attributes:
        text: One line.
        stops: Whether training would stop.
        items: The pictures, or what is said of each.
    """

    text: str
    stops: bool
    items: Sequence[str] = ()


def survey(
    data: Mapping[str, Any], build: Callable[[Mapping[str, Any], str], ImageDataset]
) -> tuple[list[Part], list[Finding]]:
    """The pictures of the training and of the test phase, and what is wrong with where they lie.

    Args:
        data: The keys of the data set.
        build: Makes the data set of a phase from such keys, as for training.

    Raises:
        ConfigError: There is nothing that could be read.
    """
    parts: list[Part] = []
    findings: list[Finding] = []
    cls = DATASETS[data.get("mode", "")]
    # a depth that is given has no picture opened to find it
    unopened = {**data, "depth": "uint8"} if data.get("depth") == "auto" else data
    for phase in ("train", "test"):
        dataset, error = None, None
        try:
            dataset = build(unopened, phase)
        except ConfigError as raised:
            error = raised
        held_out = dataset is not None and dataset.held_out
        if issubclass(cls, (Aligned, Unaligned)) and "root" in data:
            try:
                layout = find_layout(str(data["root"]), phase, side_by_side=issubclass(cls, Aligned))
            except ConfigError as missing:
                if not parts:
                    raise error or missing from None
                findings.append(Finding(str(missing), stops=True))
                break
            held_out = layout.held_out
            there, found = _two_domains(layout, data, phase, dataset, paired=issubclass(cls, Aligned))
            parts += there
            findings += found or ([Finding(str(error), stops=True)] if error else [])
        elif dataset is not None:
            there, found = _one_set(dataset, data, phase)
            parts += there
            findings += found
        elif not parts:
            assert error is not None
            raise error
        else:
            findings.append(Finding(str(error), stops=True))
        if not held_out:
            findings.append(Finding("there are no other pictures to test on: pages will show training pictures", False))
            break
    return parts, findings + _unread_files(data, parts)


def _one_set(dataset: ImageDataset, data: Mapping[str, Any], phase: str) -> tuple[list[Part], list[Finding]]:
    if isinstance(dataset, Pictures):
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
                sources[domain] = pictures_in(folder)
        except ConfigError as error:
            findings.append(Finding(str(error), stops=True))
    if paired and len(sources) == 2:
        sources, wrong = _matched(sources)
        findings += wrong
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


def _matched(sources: Mapping[str, FolderSource]) -> tuple[dict[str, FolderSource], list[Finding]]:
    """Both in the order of A's pictures, if each has a partner; else as they are, and who has none or two."""
    sides: list[dict[str, Path]] = []
    twice: list[str] = []
    for source in sources.values():
        side: dict[str, Path] = {}
        for path in source.paths:
            stem = path.relative_to(source.folder).with_suffix("").as_posix()
            if stem in side:
                twice.append(f"{side[stem]} and {path}")
            side.setdefault(stem, path)
        sides.append(side)
    alone = [str(mine[stem]) for mine, other in (sides, sides[::-1]) for stem in mine if stem not in other]
    findings = []
    if alone:
        findings.append(
            Finding(f"pictures without a partner of the same name, suffix aside: {len(alone):,}", True, alone)
        )
    if twice:
        findings.append(Finding(f"pictures of the same name but for the suffix: {len(twice):,}", True, twice))
    if findings:
        return dict(sources), findings
    ordered = {
        domain: FolderSource(source.folder, [side[stem] for stem in sides[0]])
        for (domain, source), side in zip(sources.items(), sides, strict=True)
    }
    return ordered, []


def _wanted(source: Source, data: Mapping[str, Any], suffix: str) -> tuple[Wanted, list[Finding]]:
    """What training would ask of these pictures; without a range where it needs one, that of [0, 1]."""
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
    """That of the first picture that can be read, and where it is."""
    for index in range(len(source)):
        try:
            return read_header(source.open(index), channels, source.place(index)).depth, source.place(index)
        except (ConfigError, OSError):  # which is found when all are looked at
            continue
    return "uint8", ""


def _unread_files(data: Mapping[str, Any], parts: Sequence[Part]) -> list[Finding]:
    """Files beside the pictures that nobody will read, by their extensions."""
    kinds = Counter[str]()
    folders: set[Path] = set()
    for source in (part.source for part in parts):
        if isinstance(source, ShardSource):
            kinds.update(source.index.unread)
        # a pattern means to leave files out
        elif isinstance(source, FolderSource) and Path(str(data.get("root", ""))).expanduser().is_dir():
            folders.add(source.folder)
    others = [
        path
        for folder in sorted(folders)
        for path in folder.rglob("*")
        if path.suffix.lower() not in EXTENSIONS and not path.name.startswith(".") and path.is_file()
    ]
    kinds.update(path.suffix or path.name for path in others)
    said = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common())
    return [Finding(f"files that are not read, for their extensions: {said}", False)] if kinds else []
