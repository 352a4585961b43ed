"""What the images of a data set are, all together, and which of them would stop training."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from gantrain.data.errors import MAX_CONSECUTIVE_ERRORS, MAX_ERROR_RATIO
from gantrain.data.images.cache import GB, Cache
from gantrain.data.images.store import Pixels
from gantrain.data.images.transforms import as_pair
from gantrain.data.tools.inspect import Inspection, Part, inspect_images
from gantrain.data.tools.surveying import Finding

IMBALANCE = 10  # images of the largest class for each of the smallest, from which on it is worth a word
LISTED = 1000  # images of which a warning is listed by name; what stops training is listed to the last


@dataclass
class Summary:
    """What the images of a part are, in a few bytes for each.

    Attributes:
        part: Which.
        sizes: How many have each (height, width).
        channels: How many have each number of channels.
        depths: How many have each depth.
        unreadable: Why, for each that can't be read.
        misfits: Why, for each that can't be cut.
        bad: The numbers of both.
        small: The numbers of those that are smaller than ``data.crop_size`` and would be made larger.
        other_colour: The numbers of those in colour where gray is wanted, or the other way round.
        stored: Bytes.
        cached: Bytes, once scaled.
        scaled: Height and width, once scaled, of each; -1 where that isn't known.
        digests: Two halves of each file's; 0 where it was not read.
        thumbnails: By number.
    """

    part: Part
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    depths: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)
    bad: array[int] = field(default_factory=lambda: array("L"))
    small: array[int] = field(default_factory=lambda: array("L"))
    other_colour: array[int] = field(default_factory=lambda: array("L"))
    stored: int = 0
    cached: int = 0
    scaled: Pixels = field(init=False)
    digests: Pixels = field(init=False)
    thumbnails: dict[int, Pixels] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scaled = np.full((len(self.part.source), 2), -1, dtype=np.int32)
        self.digests = np.zeros((len(self.part.source), 2), dtype=np.uint64)

    def add(self, index: int, look: Inspection, crop: tuple[int, int] | None) -> None:
        """Count an image in."""
        self.stored += look.size
        self.unreadable += [look.unreadable] if look.unreadable else []
        self.misfits += [look.misfit] if look.misfit else []
        if look.unreadable or look.misfit:
            self.bad.append(index)
        if look.header is None:
            return
        height, width, channels, depth = look.header
        self.sizes[height, width] += 1
        self.channels[channels] += 1
        self.depths[depth] += 1
        if crop and not look.misfit and (height < crop[0] or width // len(self.part.wanted) < crop[1]):
            self.small.append(index)
        wanted = {wanted.channels for wanted in self.part.wanted}
        if (look.colour is True and wanted == {1}) or (look.colour is False and wanted == {3}):
            self.other_colour.append(index)
        if look.scaled is not None:
            self.scaled[index] = look.scaled[:2]
            self.cached += look.scaled[2]
        if look.digest:
            self.digests[index] = np.frombuffer(look.digest, dtype=np.uint64)
        if look.thumbnail is not None:
            self.thumbnails[index] = look.thumbnail

    @cached_property
    def classes(self) -> dict[str, int]:
        """How many images there are of each class."""
        counts = Counter(self.part.labels or ())
        return {name: counts[number] for number, name in enumerate(self.part.class_names)}

    def row(self) -> dict[str, str]:
        """The facts, in a person's words."""
        heights, widths, aspects = Counter[float](), Counter[float](), Counter[float]()
        for (height, width), count in self.sizes.items():
            heights[height] += count
            widths[width] += count
            aspects[width / height] += count
        shown = {
            "images": f"{len(self.part.source):,}" + (f" of {self.part.whole:,}" if self.part.whole else ""),
            "unreadable": f"{len(self.unreadable):,}",
            "height": _spread(heights, "{:.0f}"),
            "width": _spread(widths, "{:.0f}"),
            "width / height": _spread(aspects, "{:.3g}"),
            "sizes": f"{len(self.sizes):,} different" if len(self.sizes) != 1 else "all alike",
            "channels": _counted(self.channels),
            "depth": _counted(self.depths),
            "stored": in_bytes(self.stored),
        }
        shown |= {"cached, disk or memory": in_bytes(self.cached)} if self.cached else {}
        return shown | ({"classes": f"{len(self.part.class_names):,}"} if self.part.labels is not None else {})


def summarise(part: Part, data: Mapping[str, Any], *, quick: bool) -> Summary:
    """Inspection at every image of a part.

    Args:
        part: Which.
        data: The keys of the data set.
        quick: Read headers only.
    """
    summary = Summary(part)
    size = data.get("crop_size") if part.preprocess is not None else None
    crop = as_pair(tuple(size) if isinstance(size, list) else size) if size is not None else None
    for index, look in enumerate(inspect_images(part, quick=quick)):
        summary.add(index, look, crop)
    return summary


def findings_in(summaries: Sequence[Summary], *, skips: bool) -> list[Finding]:
    """What is wrong with the images of a data set; ``skips`` is whether training leaves out a few bad ones."""
    return [
        *(finding for phase in ("train", "test") for finding in _bad(summaries, phase, skips=skips)),
        *_equal_contents(summaries),
        *(finding for summary in summaries for finding in _odd(summary)),
    ]


def findings_together(summaries: Sequence[Summary], data: Mapping[str, Any]) -> list[Finding]:
    """What stops training although each image for itself would do; ``data`` has the keys of batches and cache too."""
    training = [summary for summary in summaries if summary.part.phase == "train"]
    findings = [finding for summary in training for finding in _unlike(summary, data.get("batch_size", 1))]
    needed, limit = sum(summary.cached for summary in training), data.get("cache_limit", Cache.cache_limit)
    if data.get("cache") in ("disk", "memory") and needed > limit * GB:
        text = f"data.cache={data['cache']} takes {in_bytes(needed)}, and data.cache_limit is {limit:g} GB"
        findings.append(Finding(f"{text}: raise it to {-(-needed // GB)}, or set data.cache=off", stops=True))
    return findings


def in_bytes(count: int) -> str:
    """A number of bytes as people read it."""
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def _bad(summaries: Sequence[Summary], phase: str, *, skips: bool) -> Iterator[Finding]:
    """The images of a phase of which no batch can be made, and whether training would stop at them."""
    own = [summary for summary in summaries if summary.part.phase == phase]
    unequal = f"{phase}: pairs scaled to different sizes, which data.preprocess=resize_and_crop would make alike"
    kinds = {unequal: _unequal_pairs(own)}
    for summary in own:
        kinds[f"{summary.part.title}: images that can't be read, or not as the others"] = summary.unreadable
        kinds[f"{summary.part.title}: images that can't be cut"] = summary.misfits
    bad = sum(map(len, kinds.values()))
    items = max((len(summary.part.source) for summary in own), default=0)
    # tests leave out any, if something is left
    most = max(1, int(items * MAX_ERROR_RATIO)) if phase == "train" else items - 1
    stops = not skips or bad > most or any(_longest_row(summary.bad) >= MAX_CONSECUTIVE_ERRORS for summary in own)
    yield from (Finding(f"{text}: {len(named):,}", stops, named) for text, named in kinds.items() if named)


def _unlike(summary: Summary, batch_size: int) -> Iterator[Finding]:
    """Images of unlike sizes, of which no batch can be made."""
    if batch_size == 1 or summary.part.preprocess is None or summary.part.preprocess.cuts:
        return
    sizes = Counter(map(tuple, summary.scaled[(summary.scaled >= 0).all(axis=1)].tolist()))
    if len(sizes) > 1:
        text = (
            f"{summary.part.title}: images are scaled to {len(sizes):,} unlike sizes, and batches are of {batch_size}"
        )
        ways = "take a data.preprocess that crops, or data.batch_size=1"
        yield Finding(f"{text}: {ways}", True, [f"{list(size)}: {n:,}" for size, n in sizes.most_common(LISTED)])


def _longest_row(numbers: Sequence[int]) -> int:
    """How many of these rising numbers follow each other at most."""
    ends = np.flatnonzero(np.diff(np.asarray(numbers, dtype=np.int64)) != 1) + 1
    return int(np.diff([0, *ends, len(numbers)]).max())


def _odd(summary: Summary) -> Iterator[Finding]:
    part = summary.part
    if summary.small:
        text = f"{part.title}: images smaller than data.crop_size, which are made larger: {len(summary.small):,}"
        yield Finding(text, False, _places(part, summary.small))
    if summary.other_colour:
        gray = part.wanted[0].channels == 1
        text = "in colour, in a gray set" if gray else "in gray, in a colour set"
        every = len(summary.other_colour) == sum(summary.sizes.values())
        places = [] if every else _places(part, summary.other_colour)
        text = f"{part.title}: images {text}: {'all' if every else f'{len(summary.other_colour):,}'}"
        yield Finding(text, False, places)
    if len(summary.depths) > 1:
        yield Finding(f"{part.title}: images of different depths: {_counted(summary.depths)}", False)
    classes = summary.classes
    if classes and max(classes.values()) >= IMBALANCE * min(classes.values()):
        most, least = (choose(classes, key=classes.__getitem__) for choose in (max, min))
        yield Finding(f"{part.title}: {classes[most]:,} images of {most}, {classes[least]:,} of {least}", False)


def _unequal_pairs(summaries: Sequence[Summary]) -> list[str]:
    """Pairs in two folders that would be scaled to different sizes, which no window fits."""
    if not all(summary.part.paired for summary in summaries) or len(summaries) != 2:
        return []
    a, b = summaries
    known = (a.scaled >= 0).all(axis=1) & (b.scaled >= 0).all(axis=1)
    return [
        f"{a.part.source.location(index)} {a.scaled[index].tolist()} and "
        f"{b.part.source.location(index)} {b.scaled[index].tolist()}"
        for index in np.flatnonzero(known & (a.scaled != b.scaled).any(axis=1)).tolist()
    ]


def _equal_contents(summaries: Sequence[Summary]) -> Iterator[Finding]:
    """Files of the same bytes: in training and test, in both domains, or within one part."""
    sorts: dict[str, list[str]] = {
        "files of training that are in the test phase too": [],
        "files that are in both domains": [],
        "files that are there more than once": [],
    }
    leaks, across, within = sorts.values()
    for group in sorted(_groups(summaries)):
        parts = [summaries[number].part for number, _ in group]
        items = leaks if len({part.phase for part in parts}) > 1 else across if len(set(map(id, parts))) > 1 else within
        items.append(" = ".join(part.source.location(index) for part, (_, index) in zip(parts, group, strict=True)))
    for text, items in sorts.items():
        if items:
            yield Finding(f"{text}: {len(items):,}", False, items[:LISTED])


def _groups(summaries: Sequence[Summary]) -> Iterator[list[tuple[int, int]]]:
    """The number of the summary and of the image, of all with one digest, if there are several."""
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


def _places(part: Part, numbers: Sequence[int]) -> list[str]:
    return [part.source.location(number) for number in islice(numbers, LISTED)]


def _spread(counts: Counter[float], form: str) -> str:
    """Least, median and greatest, if they differ."""
    if not counts:
        return ""
    values = sorted(counts)
    cumulated = np.cumsum([counts[value] for value in values])
    median = values[int(np.searchsorted(cumulated, cumulated[-1] / 2))]
    shown = [form.format(value) for value in (values[0], median, values[-1])]
    return shown[0] if shown[0] == shown[2] else f"{shown[0]} .. {shown[1]} .. {shown[2]}"


def _counted(counts: Counter[Any]) -> str:
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ", ".join(f"{value} ({count:,})" for value, count in counts.most_common())
