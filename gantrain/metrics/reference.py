"""The real images, and their features, which are computed once and stored in the cache."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gantrain.config.schema import takes
from gantrain.data.base import ImageDataset, Selection, to_uint8
from gantrain.data.errors import OnError
from gantrain.data.stream import in_order
from gantrain.errors import ConfigError
from gantrain.metrics.base import Extracted, Features, MeasurementError, spaced
from gantrain.metrics.features.extraction import extract
from gantrain.metrics.settings import MetricsSettings
from gantrain.models.translation import Direction
from gantrain.runtime import console, distributed
from gantrain.runtime.atomic import cache_dir, file_lock, remove_if_unused

SUFFIX, PART = ".features", ".part"  # Of complete features, and of those that are being computed.
VERSION = 2  # Of the layout of these files.
LIMIT = 5e9  # Bytes of all features in the cache: of 600,000 images by inception.
QUICK = 20  # Blocks; more show a progress bar.


@dataclass(frozen=True)
class Reference:
    """The real images that generated ones are compared with."""

    dataset: ImageDataset
    key: str  # Of the images in its items.
    label: str  # Their number and phase, for protocols: ``140 test``.
    identity: Mapping[str, Any]  # Plain values that determine them.

    @property
    def labels(self) -> Tensor | None:
        """The classes of all images, if they have any."""
        return None if self.dataset.labels is None else torch.tensor(list(self.dataset.labels))


@dataclass(frozen=True)
class Comparison:
    """One thing that is measured: a model's images, or one direction of a translation, against real images."""

    real: Reference
    direction: Direction | None = None  # None for images from noise.
    source: ImageDataset | None = None  # The images that are translated.
    suffix: str = ""  # Of the names of its numbers.
    unseen: Reference | None = None  # Held-out images, where the real ones are those of training.


def real_features(
    network: Features, real: Reference, settings: MetricsSettings, size: int, *, on_error: OnError
) -> Extracted:
    """What a network makes of real images, read in blocks of ``size``, on rank 0; from the cache, if it has them."""
    length = len(real.dataset)
    shown = spaced(length, min(length, network.limit or length))
    count = len(shown)
    blocks = [range(first, min(first + size, count)) for first in range(0, count, size)]

    def computed(numbers: range) -> Tensor:
        chosen = [shown[number] for number in numbers]
        # Where images may be left out, each is read alone, so that the others have their own rows.
        groups = [[number] for number in chosen] if on_error == "skip" else [chosen]
        rows = []
        for group in groups:
            try:
                part = Selection(real.dataset, group)
                for batch in in_order(part, size, torch.device("cpu"), torch.float32):
                    images = to_uint8(batch[real.key])
                    rows.append(extract(network, images, settings.channels).features.cpu())
            except ConfigError:
                if on_error == "raise":
                    raise
                rows.append(torch.full((1, network.dim), torch.nan))  # An unreadable image has no features.
        return torch.cat(rows)

    identity = {
        "images": dict(real.identity),
        "features": network.identity,
        "resize": settings.resize if takes(type(network), "resize") else None,
        "channels": settings.channels,
        "torch": torch.__version__,
    }
    rows = stored_features(identity, blocks, network.dim, computed)
    readable = rows.isfinite().all(dim=1)
    labels = None if real.labels is None or distributed.rank() else real.labels[shown][readable]
    return Extracted(rows[readable], labels=labels)


def stored_features(
    identity: Mapping[str, Any], blocks: Sequence[range], dim: int, extract: Callable[[range], Tensor]
) -> Tensor:
    """The features (N, dim) float32 of real images, on the CPU of rank 0, and an empty tensor on other ranks.

    They are taken from the cache, or else computed by all ranks, which must all call this, and stored. Rows are
    appended to a file as they are computed: a later call continues after an interruption.

    Args:
        identity: Plain values that determine the features.
        blocks: The numbers of the images of each block, in order.
        dim: The number of features of an image.
        extract: Computes the features of a block.
    """
    count = sum(map(len, blocks))
    content = json.dumps([VERSION, identity, count, dim], sort_keys=True).encode()
    path = cache_dir() / "features" / (hashlib.blake2b(content, digest_size=12).hexdigest() + SUFFIX)
    with ExitStack() as stack:
        rows = torch.empty(0, dim)
        file: IO[bytes] | None = None
        if distributed.rank() == 0:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(file_lock(path, "Waiting for another process that computes the same features"))
                rows = _read(path, dim)
                if len(rows) < count:
                    file = stack.enter_context(path.with_suffix(PART).open("a+b"))
                    rows = _continued(file, blocks, dim)
            except OSError as error:
                reason = error.strerror or error
                distributed.print_rank_zero(f"warning: features of real images are not stored in {path}: {reason}")
        done = distributed.all_gather_object(len(rows))[0]
        left = [block for block in blocks if block.start >= done]
        parts = [rows]
        for part in _computed(left, extract):
            parts.append(part)
            file = _append(file, part)
        if file is not None:
            with suppress(OSError):
                path.with_suffix(PART).replace(path)
                _evict(path)
        return torch.cat(parts) if distributed.rank() == 0 else rows


def _read(path: Path, dim: int) -> Tensor:
    """The stored features, none if they are damaged."""
    try:
        records = np.fromfile(path, dtype=_record(dim))
        os.utime(path)
    except FileNotFoundError:
        return torch.empty(0, dim)
    sound = path.stat().st_size == records.nbytes and _sound(records) == len(records)
    return torch.from_numpy(records["row"].copy()) if sound else torch.empty(0, dim)


def _record(dim: int) -> np.dtype[Any]:
    """The features of an image with their checksum, as they are stored."""
    return np.dtype([("row", "<f4", (dim,)), ("checksum", "<u4")])


def _sound(records: NDArray[Any]) -> int:
    """The number of records before the first damaged one."""
    sums = zip(records["row"], records["checksum"].tolist(), strict=True)
    return sum(1 for _ in takewhile(lambda pair: zlib.crc32(pair[0].tobytes()) == pair[1], sums))


def _append(file: IO[bytes] | None, rows: Tensor) -> IO[bytes] | None:
    """Append rows to the file; None if it can't be written."""
    if file is None:
        return None
    try:
        records = np.empty(len(rows), dtype=_record(rows.size(1)))
        records["row"] = rows.numpy()
        records["checksum"] = [zlib.crc32(row.tobytes()) for row in records["row"]]
        file.write(records.tobytes())
        file.flush()
    except OSError as error:
        reason = error.strerror or error
        distributed.print_rank_zero(f"warning: features of real images are not stored in {file.name}: {reason}")
        return None
    return file


def _continued(file: IO[bytes], blocks: Sequence[range], dim: int) -> Tensor:
    """The complete blocks of a file of an interrupted computation, after which the next ones are to be appended."""
    file.seek(0)
    data, record = file.read(), _record(dim)
    records = np.frombuffer(data, dtype=record, count=len(data) // record.itemsize)
    size = _sound(records)
    count = max((block.stop for block in blocks if block.stop <= size), default=0)
    file.truncate(record.itemsize * count)
    return torch.from_numpy(records["row"][:count].copy())


def _evict(newest: Path) -> None:
    """Delete the features that were used least recently until all fit into the limit; not those in use, or newest."""
    files = {path: path.stat() for path in newest.parent.iterdir() if path.suffix in (SUFFIX, PART)}
    total = sum(status.st_size for status in files.values())
    for path in sorted(files, key=lambda path: files[path].st_mtime):
        if total <= LIMIT:
            return
        lock = path.with_suffix(".lock")
        if path != newest and (not lock.exists() or remove_if_unused(lock)):
            path.unlink(missing_ok=True)
            total -= files[path].st_size


def _computed(blocks: Sequence[range], extract: Callable[[range], Tensor]) -> Iterator[Tensor]:
    """The features of each block in order, on rank 0; every rank computes every so many-th block."""
    rank, ranks = distributed.rank(), distributed.world_size()
    label = "features of the real images"
    with console.bar(label, total=len(blocks), unit="block", leave=False, disable=len(blocks) < QUICK or None) as bar:
        for first in range(0, len(blocks), ranks):
            mine = first + rank
            part, failure = None, ""
            try:
                part = extract(blocks[mine]).float().cpu() if mine < len(blocks) else None
            except Exception as error:  # The other ranks wait for this one.
                failure = f"{type(error).__name__}: {error}"
            parts = distributed.gather_object(part)
            if failures := [each for each in distributed.all_gather_object(failure) if each]:
                raise MeasurementError(failures[0])
            yield from (each for each in parts or () if each is not None)
            bar.update(ranks)
