"""Statistics of the images of a data set, and the defects that would stop training."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from statistics import median_low
from typing import Any

import numpy as np

from gantrain.data.errors import MAX_CONSECUTIVE_ERRORS, MAX_ERROR_RATIO
from gantrain.data.images.cache import GB, Cache
from gantrain.data.images.store import Pixels
from gantrain.data.tools.dataset_parts import Finding
from gantrain.data.tools.inspect import Inspection, Part, inspect_images

IMBALANCE = 10  # The ratio of the largest to the smallest class from which on there is a warning.
LISTED = 1000  # The maximum number of images listed for a warning; those that stop training are all listed.


@dataclass
class Summary:
    """Statistics of the images of a part, in a few bytes per image."""

    part: Part
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)  # (height, width)
    channels: Counter[int] = field(default_factory=Counter)
    depths: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)  # The reasons.
    misfits: list[str] = field(default_factory=list)  # The reasons why images can't be cropped.
    bad: array[int] = field(default_factory=lambda: array("L"))  # Indices of both.
    upscaled: array[int] = field(default_factory=lambda: array("L"))  # Indices of images smaller than the crop.
    other_colour: array[int] = field(default_factory=lambda: array("L"))  # Indices of gray in colour, or vice versa.
    clipped: array[int] = field(default_factory=lambda: array("L"))  # Indices of those mostly outside data.range.
    stored: int = 0  # The size of all files in bytes.
    cached: int = 0  # The size of all images in a cache, in bytes.
    scaled: Pixels = field(init=False)  # (N, 2), height and width once scaled; -1 if unknown.
    digests: Pixels = field(init=False)  # (N, 2), the halves of each file's hash; 0 if it was not read.
    thumbnails: dict[int, Pixels] = field(default_factory=dict)  # By the index of the image.

    def __post_init__(self) -> None:
        self.scaled = np.full((len(self.part), 2), -1, dtype=np.int32)
        self.digests = np.zeros((len(self.part), 2), dtype=np.uint64)

    def add(self, index: int, image: Inspection) -> None:
        """Add an image."""
        self.stored += image.size
        self.unreadable += filter(None, [image.unreadable])
        self.misfits += filter(None, [image.misfit])
        if image.unreadable or image.misfit:
            self.bad.append(index)
        if image.header is None:
            return
        height, width, channels, depth = image.header
        self.sizes[height, width] += 1
        self.channels[channels] += 1
        self.depths[depth] += 1
        preprocess = self.part.preprocess
        crop = preprocess.crop_size if preprocess is not None and preprocess.scales else (0, 0)
        if not image.misfit and (height < crop[0] or width // len(self.part.readers) < crop[1]):
            self.upscaled.append(index)
        requested = {reader.format.channels for reader in self.part.readers}
        if (image.colour is True and requested == {1}) or (image.colour is False and requested == {3}):
            self.other_colour.append(index)
        if image.clipped:
            self.clipped.append(index)
        if image.scaled is not None:
            self.scaled[index] = image.scaled[:2]
            self.cached += image.scaled[2]
        if image.digest:
            self.digests[index] = np.frombuffer(image.digest, dtype=np.uint64)
        if image.thumbnail is not None:
            self.thumbnails[index] = image.thumbnail

    @cached_property
    def classes(self) -> dict[str, int]:
        """The number of images of each class."""
        counts = Counter(self.part.labels or ())
        return {name: counts[number] for number, name in enumerate(self.part.class_names)}

    def row(self) -> dict[str, str]:
        """The statistics as text, by row of the table."""
        heights, widths, aspects = Counter[float](), Counter[float](), Counter[float]()
        for (height, width), count in self.sizes.items():
            heights[height] += count
            widths[width] += count
            aspects[width / height] += count
        shown = {
            "images": f"{len(self.part):,}" + (f" of {self.part.total:,}" if self.part.total else ""),
            "unreadable": f"{len(self.unreadable):,}",
            "height": _spread(heights, "{:.0f}"),
            "width": _spread(widths, "{:.0f}"),
            "width / height": _spread(aspects, "{:.3g}"),
            "sizes": f"{len(self.sizes):,} different" if len(self.sizes) != 1 else "all equal",
            "channels": _counted(self.channels),
            "depth": _counted(self.depths),
            "stored": in_bytes(self.stored),
        }
        shown |= {"cached, disk or memory": in_bytes(self.cached)} if self.cached else {}
        return shown | ({"classes": f"{len(self.part.class_names):,}"} if self.part.labels is not None else {})


def summarise(part: Part, *, quick: bool) -> Summary:
    """Inspect all images of a part; ``quick`` reads only headers."""
    summary = Summary(part)
    for index, image in enumerate(inspect_images(part, quick=quick)):
        summary.add(index, image)
    return summary


def findings_in(summaries: Sequence[Summary], data: Mapping[str, Any]) -> list[Finding]:
    """Defects of single images, duplicates, and defects of all images together, with all keys under ``data``."""
    skips = data.get("on_error") == "skip"
    training = [summary for summary in summaries if summary.part.phase == "train"]
    findings = [
        *(finding for phase in ("train", "test") for finding in _bad_images(summaries, phase, skips=skips)),
        *_duplicates(summaries),
        *(finding for summary in summaries for finding in _warnings(summary)),
        *(finding for summary in training for finding in _different_sizes(summary, data.get("batch_size", 1))),
    ]
    needed, limit = sum(summary.cached for summary in training), data.get("cache_limit", Cache.cache_limit)
    if data.get("cache") in ("disk", "memory") and needed > limit * GB:
        text = f"data.cache={data['cache']} takes {in_bytes(needed)}, and data.cache_limit is {limit:g} GB"
        findings.append(Finding(f"{text}: raise it to {-(-needed // GB)}, or set data.cache=off", stops=True))
    return findings


def in_bytes(count: int) -> str:
    """A number of bytes in a readable unit."""
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def _bad_images(summaries: Sequence[Summary], phase: str, *, skips: bool) -> Iterator[Finding]:
    """The images of a phase that can't be part of a batch, and whether they would stop training."""
    own = [summary for summary in summaries if summary.part.phase == phase]
    unequal = f"{phase}: pairs scaled to different sizes, which data.preprocess=resize_and_crop would make equal"
    kinds = {unequal: _unequal_pairs(own)}
    for summary in own:
        kinds[f"{summary.part.title}: images that can't be read or converted"] = summary.unreadable
        kinds[f"{summary.part.title}: images that can't be cropped"] = summary.misfits
    bad = sum(map(len, kinds.values()))
    count = max((len(summary.part) for summary in own), default=0)
    # Testing skips any number, as long as an image is left.
    most = max(1, int(count * MAX_ERROR_RATIO)) if phase == "train" else count - 1
    stops = not skips or bad > most or any(_longest_run(summary.bad) >= MAX_CONSECUTIVE_ERRORS for summary in own)
    yield from (Finding(f"{text}: {len(items):,}", stops, items) for text, items in kinds.items() if items)


def _different_sizes(summary: Summary, batch_size: int) -> Iterator[Finding]:
    """Images of different sizes, which can't be combined in a batch."""
    if batch_size == 1 or summary.part.preprocess is None or summary.part.preprocess.cuts:
        return
    sizes = Counter(map(tuple, summary.scaled[(summary.scaled >= 0).all(axis=1)].tolist()))
    if len(sizes) > 1:
        text = f"{summary.part.title}: images have {len(sizes):,} different sizes, and data.batch_size={batch_size}"
        ways = "choose a data.preprocess that crops, or data.batch_size=1"
        yield Finding(f"{text}: {ways}", True, [f"{list(size)}: {n:,}" for size, n in sizes.most_common(LISTED)])


def _longest_run(numbers: Sequence[int]) -> int:
    """The length of the longest run of consecutive numbers in an increasing sequence."""
    ends = np.flatnonzero(np.diff(np.asarray(numbers, dtype=np.int64)) != 1) + 1
    return int(np.diff([0, *ends, len(numbers)]).max())


def _warnings(summary: Summary) -> Iterator[Finding]:
    part = summary.part
    if summary.upscaled:
        text = f"{part.title}: images smaller than data.crop_size, which are scaled up: {len(summary.upscaled):,}"
        yield Finding(text, False, _locations(part, summary.upscaled))
    if summary.other_colour:
        gray = part.readers[0].format.channels == 1
        text = "in colour, in a gray data set" if gray else "in gray, in a colour data set"
        every = len(summary.other_colour) == sum(summary.sizes.values())
        locations = [] if every else _locations(part, summary.other_colour)
        text = f"{part.title}: images {text}: {'all' if every else f'{len(summary.other_colour):,}'}"
        yield Finding(text, False, locations)
    if summary.clipped:
        text = f"{part.title}: images most of whose values are outside data.range: {len(summary.clipped):,}"
        yield Finding(text, False, _locations(part, summary.clipped))
    if len(summary.depths) > 1:
        yield Finding(f"{part.title}: images of different depths: {_counted(summary.depths)}", False)
    classes = summary.classes
    if classes and max(classes.values()) >= IMBALANCE * min(classes.values()):
        most, least = (choose(classes, key=classes.__getitem__) for choose in (max, min))
        yield Finding(f"{part.title}: {classes[most]:,} images of {most}, {classes[least]:,} of {least}", False)
    rare = [name for name, count in classes.items() if count <= 1]
    if rare and part.phase == "train":
        yield Finding(f"{part.title}: classes with at most one image, too few to learn: {len(rare):,}", False, rare)


def _unequal_pairs(summaries: Sequence[Summary]) -> list[str]:
    """Pairs in two folders that would be scaled to different sizes, so that they can't be cropped alike."""
    if not all(summary.part.paired for summary in summaries) or len(summaries) != 2:
        return []
    a, b = summaries
    known = (a.scaled >= 0).all(axis=1) & (b.scaled >= 0).all(axis=1)
    return [
        f"{a.part.location(index)} {a.scaled[index].tolist()} and {b.part.location(index)} {b.scaled[index].tolist()}"
        for index in np.flatnonzero(known & (a.scaled != b.scaled).any(axis=1)).tolist()
    ]


def _duplicates(summaries: Sequence[Summary]) -> Iterator[Finding]:
    """Identical files: in training and test, in both domains, or within one part."""
    kinds: dict[str, list[str]] = {
        "files that are both in training and test": [],
        "files that are in both domains": [],
        "files that exist more than once": [],
    }
    leaks, across, within = kinds.values()
    for group in sorted(_groups(summaries)):
        parts = [summaries[number].part for number, _ in group]
        items = leaks if len({part.phase for part in parts}) > 1 else across if len(set(map(id, parts))) > 1 else within
        items.append(" = ".join(part.location(index) for part, (_, index) in zip(parts, group, strict=True)))
    for text, items in kinds.items():
        if items:
            yield Finding(f"{text}: {len(items):,}", False, items[:LISTED])


def _groups(summaries: Sequence[Summary]) -> Iterator[list[tuple[int, int]]]:
    """Groups of images with the same digest, as indices of the summary and of the image."""
    if not summaries:
        return
    digests = np.concatenate([summary.digests for summary in summaries])
    owners = np.repeat(np.arange(len(summaries)), [len(summary.digests) for summary in summaries])
    starts = np.cumsum([0, *(len(summary.digests) for summary in summaries)])
    order = np.lexsort(digests.T)
    ordered = digests[order]
    equal = (ordered[1:] == ordered[:-1]).all(axis=1) & ordered[1:].any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], equal, [False]]).astype(np.int8)))
    for first, last in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        numbers = sorted(order[first : last + 1].tolist())
        yield [(int(owners[number]), int(number - starts[owners[number]])) for number in numbers]


def _locations(part: Part, indices: Sequence[int]) -> list[str]:
    return [part.location(index) for index in islice(indices, LISTED)]


def _spread(counts: Counter[float], form: str) -> str:
    """Minimum, median and maximum, if they differ."""
    if not counts:
        return ""
    values = sorted(counts.elements())
    shown = [form.format(value) for value in (values[0], median_low(values), values[-1])]
    return shown[0] if shown[0] == shown[2] else f"{shown[0]} .. {shown[1]} .. {shown[2]}"


def _counted(counts: Counter[Any]) -> str:
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ", ".join(f"{value} ({count:,})" for value, count in counts.most_common())
