"""The parts of a data set by phase and domain, and what is wrong with its folders."""

from __future__ import annotations

import copy
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np

from gantrain.config.schema import PositiveInt, checked
from gantrain.data.base import IMAGE_KEYS, ImageDataset, drawn
from gantrain.data.images.convert import ValueRange, needs_range
from gantrain.data.images.finding import is_image, suffix_of, walk
from gantrain.data.images.headers import read_header
from gantrain.data.images.reader import Depth, ImageReader
from gantrain.data.images.sources import FolderSource, Source
from gantrain.data.images.transforms import Preprocess
from gantrain.data.sets.aligned import Aligned
from gantrain.data.sets.layout import find_layout, images_in, match
from gantrain.data.sets.shards import ShardSource
from gantrain.data.sets.two_domains import TwoDomains
from gantrain.data.settings import build_dataset
from gantrain.data.tools.inspect import Part
from gantrain.errors import ConfigError
from gantrain.registry import DATASETS


@dataclass(frozen=True)
class Finding:
    """A defect or property of a data set."""

    text: str  # One line.
    stops: bool  # Whether training would stop.
    items: Sequence[str] = ()  # The images concerned, or a line about each.


class DecodedImages(Source):
    """The images of any data set as encoded arrays; ``key`` is the key of the image in each item."""

    def __init__(self, dataset: ImageDataset, key: str) -> None:
        self._dataset = dataset
        self._key = key

    def __len__(self) -> int:
        return len(self._dataset)

    def name(self, index: int) -> str:
        return str(index)

    def location(self, index: int) -> str:
        return f"{self._key} {index}"

    def open(self, index: int) -> bytes:
        """The image as an ``.npy`` file, (H, W, C)."""
        file = io.BytesIO()
        np.save(file, self._dataset.item(index, seed=0)[self._key].permute(1, 2, 0).numpy())
        return file.getvalue()

    def stamp(self, indices: Sequence[int]) -> str:
        return self._dataset.fingerprint


def find_parts(data: Mapping[str, Any]) -> tuple[list[Part], list[Finding]]:
    """The images of the training and the test phase, and defects of their folders, from the keys of the data set."""
    parts: list[Part] = []
    findings: list[Finding] = []
    for phase in ("train", "test"):
        try:
            found, defects, held_out = _parts_of_phase(data, phase)
        except ConfigError as error:
            if not parts:
                raise
            findings.append(Finding(str(error), stops=True))
            break
        parts += found
        findings += defects
        if not held_out:
            findings.append(Finding("there are no other images to test on: pages will show training images", False))
            break
    return parts, findings + _unread_files(data, parts)


def select(part: Part, *, fraction: float | None, max_size: int | None, seed: int) -> Part:
    """The images that ``data.fraction`` and ``data.max_size`` select."""
    size = len(part)
    indices = (range(size) if fraction is None else drawn(size, fraction, seed))[:max_size]
    if len(indices) == size:
        return part
    labels = None if part.labels is None else [part.labels[index] for index in indices]
    return replace(part, readers=tuple(reader.subset(indices) for reader in part.readers), labels=labels, total=size)


def _parts_of_phase(data: Mapping[str, Any], phase: str) -> tuple[list[Part], list[Finding], bool]:
    """The parts of a phase, defects, and whether the test phase has other images."""
    auto = data.get("depth") == "auto"
    data = {**data, "depth": "uint8"} if auto else data  # With a given depth, no image is opened to find it.
    try:
        dataset = build_dataset(data, phase=phase)
    except ConfigError as error:
        parts, findings, held_out = _parts_of_folders(data, phase, error)
    else:
        parts, findings, held_out = _parts_of(dataset, phase), [], dataset.held_out
        auto = auto and hasattr(dataset, "readers")
        if dataset.unlabelled:
            findings.append(Finding(f"{phase}: the images have no labels: {dataset.unlabelled}", False))
    for number, part in enumerate(parts if auto else ()):
        readers, missing = zip(*map(_with_stored_depth, part.readers), strict=True)
        parts[number] = replace(part, readers=readers)
        findings += chain.from_iterable(missing)
    return parts, findings, held_out


def _parts_of(dataset: ImageDataset, phase: str) -> list[Part]:
    """The parts of a data set by its readers; a data set without readers is inspected by its items."""
    classes = {"class_names": dataset.spec.class_names, "labels": dataset.labels}
    readers: Mapping[str, ImageReader] = getattr(dataset, "readers", {})
    if readers:
        preprocess: Preprocess | None = getattr(dataset, "preprocess", None)
        return _grouped(phase, readers, paired=isinstance(dataset, Aligned), preprocess=preprocess, **classes)
    decoded = {}
    for key in (key for key in IMAGE_KEYS if key in dataset.spec.channels):
        depth = dataset.spec.depth[key]
        value_range = (-1, 1) if depth == "float32" else None
        source, channels = DecodedImages(dataset, key), dataset.spec.channels[key]
        decoded[key] = ImageReader(source, channels=channels, depth=cast(Depth, depth), value_range=value_range)
    return _grouped(phase, decoded, paired=False, **classes)


def _grouped(phase: str, readers: Mapping[str, ImageReader], *, paired: bool, **attributes: Any) -> list[Part]:
    """A part for each reader, or one for two readers that share their source; ``paired`` refers to two parts."""
    if len(readers) == 2 and len({id(reader.source) for reader in readers.values()}) == 1:
        return [Part(phase, " | ".join(readers), tuple(readers.values()), **attributes)]
    return [Part(phase, domain, (reader,), paired=paired, **attributes) for domain, reader in readers.items()]


def _parts_of_folders(
    data: Mapping[str, Any], phase: str, error: ConfigError
) -> tuple[list[Part], list[Finding], bool]:
    """The images of each domain of a data set that can't be built because of ``error``, and the detailed reasons.

    Without folders of two domains, ``error`` is raised.
    """
    cls = DATASETS[data.get("mode", "")]
    if not issubclass(cls, TwoDomains) or "root" not in data:
        raise error
    try:
        layout = find_layout(str(data["root"]), phase, side_by_side=cls.side_by_side)
    except ConfigError:
        raise error from None
    sources: dict[str, FolderSource] = {}
    findings: list[Finding] = []
    for domain, folder in {"A": layout.a, "B": layout.b or layout.a}.items():
        try:
            sources[domain] = images_in(folder)
        except ConfigError as empty:
            findings.append(Finding(str(empty), stops=True))
    if layout.b is None:
        sources["B"] = sources["A"]
    elif cls.side_by_side and len(sources) == 2:
        findings += _mismatches(sources["A"], sources["B"])
    readers = {}
    for domain, source in sources.items():
        suffix = "_b" if domain == "B" else ""
        readers[domain] = ImageReader(
            source,
            channels=checked(data.get(f"channels{suffix}"), PositiveInt, f"data.channels{suffix}"),
            depth=checked(data.get("depth"), Depth, "data.depth"),
            value_range=checked(data.get(f"range{suffix}"), ValueRange | None, f"data.range{suffix}"),
        )
    parts = _grouped(phase, readers, paired=False)
    return parts, findings or [Finding(str(error), stops=True)], layout.held_out


def _mismatches(a: FolderSource, b: FolderSource) -> list[Finding]:
    """All images without a partner, or with several."""
    _, (alone_a, alone_b), ambiguous = match(a, b)
    kinds = {
        "images without a partner of the same name, ignoring suffixes": [str(path) for path in alone_a + alone_b],
        "images that differ only in their suffixes": [f"{one} and {other}" for one, other in ambiguous],
    }
    return [Finding(f"{text}: {len(items):,}", True, items) for text, items in kinds.items() if items]


def _with_stored_depth(reader: ImageReader) -> tuple[ImageReader, list[Finding]]:
    """The reader in the depth of its first readable image; a missing range is a finding and becomes [0, 1]."""
    depth, location, findings = "uint8", "", []
    for index in range(len(reader)):
        location = reader.location(index)
        with suppress(ConfigError, OSError):  # It is reported when all images are inspected.
            depth = read_header(reader.open(index), reader.format.channels, location).depth
            break
    value_range = reader.format.value_range
    if depth == "float32" and value_range is None:
        findings.append(Finding(str(needs_range(location, reader.format.suffix)), stops=True))
        value_range = (0, 1)
    found = copy.copy(reader)
    found.format = replace(reader.format, depth=depth, value_range=value_range, convert=False)
    return found, findings


def _unread_files(data: Mapping[str, Any], parts: Sequence[Part]) -> list[Finding]:
    """Files in the folders of images that are not read, by extension, and broken links."""
    kinds = Counter[str]()
    broken: list[str] = []
    folders: set[Path] = set()
    for source in (part.readers[0].source for part in parts):
        if isinstance(source, ShardSource):
            kinds.update(source.index.unread)
        # With a pattern, other files are left out on purpose.
        elif isinstance(source, FolderSource) and Path(str(data.get("root", ""))).expanduser().is_dir():
            folders.add(source.folder)
    for found in (found for folder in sorted(folders) for found in walk(folder)):
        broken += map(str, found.broken)
        kinds.update(suffix_of(path) for path in found.files if not is_image(path))
    counts = ", ".join(f"{kind} ({count:,})" for kind, count in kinds.most_common())
    findings = [Finding(f"files that are not read because of their extensions: {counts}", False)] if kinds else []
    return findings + ([Finding(f"broken links: {len(broken):,}", False, sorted(broken))] if broken else [])
