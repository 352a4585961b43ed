"""Handling of images that can't be read in the middle of an epoch."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from gantrain.data.base import Batch, ImageDataset
from gantrain.data.images.remote import UnreachableConfigError
from gantrain.errors import ConfigError, reason_of
from gantrain.runtime import distributed

OnError: TypeAlias = Literal["raise", "skip"]

# With more errors in a row, or a larger share of unreadable images, something else than single images is wrong.
MAX_CONSECUTIVE_ERRORS = 100
MAX_ERROR_RATIO = 0.1
SHOWN = 10  # Warnings of one step.


@contextmanager
def as_config_error(action: str) -> Iterator[None]:
    """Turn any error of a decoder or of a plug-in's data set, except MemoryError, into one line: can't ``action``."""
    try:
        yield
    except (ConfigError, MemoryError):
        raise
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        reason = f": {reason_of(error)}" if str(error).strip() else ""
        description = f"{type(error).__name__}{reason} ({frame.filename}:{frame.lineno})"
        raise ConfigError(f"can't {action}: {description}") from error


def get_item(dataset: ImageDataset, index: int, seed: int) -> Batch:
    """An item; any error becomes a ConfigError."""
    with as_config_error(f"make item {index} of the data"):
        return dataset.item(index, seed)


def next_readable(dataset: ImageDataset, index: int, seed_of: Callable[[int], int]) -> tuple[Batch, list[str]]:
    """The item, or else the next readable one (after the last item, the first), and the errors of those in between.

    The replacement gets its seed from ``seed_of`` too: with that of the unreadable item, two unpaired domains would
    draw the same unreadable image together with every neighbour.

    Raises:
        ConfigError: Too many items in a row can't be read.
    """
    reasons: list[str] = []
    for candidate in range(index, index + min(MAX_CONSECUTIVE_ERRORS, len(dataset))):
        candidate %= len(dataset)
        try:
            return get_item(dataset, candidate, seed_of(candidate)), reasons
        except UnreachableConfigError:
            raise
        except ConfigError as error:
            reasons.append(str(error))
    raise ConfigError(
        f"data.on_error=skip: {len(reasons)} items in a row can't be read; the last: {reasons[-1]} "
        "(gantrain data check lists them all)"
    )


class Faults:
    """The unreadable images since a run was started or resumed, and how often others replaced them.

    Args:
        size: Number of items of the data set.
        counted: Whether unreadable images are replaced at all; otherwise ranks have nothing to exchange.
    """

    def __init__(self, size: int, *, counted: bool) -> None:
        self._limit = max(1, int(size * MAX_ERROR_RATIO))
        self._size = size
        self._counted = counted
        self._found: dict[str, None] = {}  # The errors found by this rank, in order.
        self._reported: set[str] = set()
        self._replaced = 0

    def add(self, replaced: Iterable[list[str]]) -> None:
        """Count replaced items, given as the errors of each and of its neighbours; too many raise a ConfigError."""
        for reasons in replaced:
            self._replaced += 1
            self._found.update(dict.fromkeys(reasons))
            if len(self._found) > self._limit:
                raise ConfigError(
                    f"data.on_error=skip: {len(self._found)} of {self._size:,} images can't be read, and at most "
                    f"{self._limit:,} are skipped; the last: {reasons[-1]} (gantrain data check lists them all)"
                )

    def news(self) -> list[str]:
        """On rank 0, a line for each image that was not reported yet; every rank must call it."""
        if not self._counted:
            return []
        found = {reason for reasons in distributed.gather_object(list(self._found)) or () for reason in reasons}
        fresh = sorted(found - self._reported)
        self._reported.update(fresh)
        more = [f"warning: left out: {len(fresh) - SHOWN} more images"] if len(fresh) > SHOWN else []
        return [*(f"warning: left out: {reason}" for reason in fresh[:SHOWN]), *more]

    def summary(self) -> list[str]:
        """On rank 0, the last news and the total number; every rank must call it."""
        lines = self.news()
        replaced = sum(distributed.gather_object(self._replaced) or ()) if self._counted else 0
        if replaced:
            lines.append(
                f"warning: bad images left out: {len(self._reported)}; items replaced by their neighbours: {replaced}"
            )
        return lines
