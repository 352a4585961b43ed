"""What becomes of images that can't be read in the middle of an epoch."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from gantrain.data.base import Batch, ImageDataset
from gantrain.errors import ConfigError
from gantrain.runtime import distributed

OnError: TypeAlias = Literal["raise", "skip"]

MAX_CONSECUTIVE_ERRORS = 100  # with so many bad images on end, it is not the images
MAX_ERROR_RATIO = 10  # as where more than one image in so many is bad


@contextmanager
def as_config_error(what: str) -> Iterator[None]:
    """Whatever goes wrong inside, in a data set of a plugin or in a decoder, is told in a line: can't ``what``.

    Raises:
        ConfigError: Something did. Memory that runs out is told elsewhere.
    """
    try:
        yield
    except (ConfigError, MemoryError):
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = (str(error).strip().splitlines() or [""])[0]
        told = f"{type(error).__name__}{': ' * bool(reason)}{reason} ({place.filename}:{place.lineno})"
        raise ConfigError(f"can't {what}: {told}") from error


def get_item(dataset: ImageDataset, index: int, seed: int) -> Batch:
    """An item.

    Raises:
        ConfigError: It can't be made, whatever the reason.
    """
    with as_config_error(f"make item {index} of the data"):
        return dataset.item(index, seed)


def next_readable(dataset: ImageDataset, index: int, seed_of: Callable[[int], int]) -> tuple[Batch, list[str]]:
    """The item, or else the next one that can be read, the first coming after the last; and what is wrong on the way.

    What stands in is the neighbour's own item: with the seed of the item that is missing, two unpaired domains would
    draw the same bad image beside every neighbour.

    Args:
        dataset: Whose item it is.
        index: Which.
        seed_of: The seed of the item of an index.

    Raises:
        ConfigError: Too many can't be read.
    """
    reasons: list[str] = []
    for there in range(index, index + min(MAX_CONSECUTIVE_ERRORS, len(dataset))):
        there %= len(dataset)
        try:
            return get_item(dataset, there, seed_of(there)), reasons
        except ConfigError as error:
            reasons.append(str(error))
    raise ConfigError(
        f"data.on_error=skip: {len(reasons)} items in a row can't be read; the last: {reasons[-1]} "
        "(gantrain data check names them all)"
    )


class Faults:
    """The bad images of a run since it was started or resumed, and how often others took their places.

    Args:
        size: Items of the data set.
        counted: Whether bad images are replaced at all, so that ranks have something to tell each other.
    """

    def __init__(self, size: int, *, counted: bool) -> None:
        self._limit = max(1, size // MAX_ERROR_RATIO)
        self._size = size
        self._counted = counted
        self._own: dict[str, None] = {}  # in the order in which they came up
        self._told: dict[str, None] = {}
        self._replaced = 0

    def add(self, replaced: Iterable[list[str]]) -> None:
        """Count items that were replaced, each given as what was wrong with it and with its neighbours.

        Raises:
            ConfigError: There are too many.
        """
        for reasons in replaced:
            self._replaced += 1
            self._own.update(dict.fromkeys(reasons))
            if len(self._own) > self._limit:
                raise ConfigError(
                    f"data.on_error=skip: {len(self._own)} images can't be read, of {self._size:,} items, of "
                    f"which no more than {self._limit:,} are left out; the last: {reasons[-1]} (gantrain data check "
                    "names them all)"
                )

    def news(self) -> list[str]:
        """A line for each bad image of any rank that has not had one. Every rank must ask; rank 0 gets the answer."""
        if not self._counted:
            return []
        found = {reason for reasons in distributed.gather_object(list(self._own)) or () for reason in reasons}
        fresh = sorted(found - self._told.keys())
        self._told.update(dict.fromkeys(fresh))
        return [f"warning: left out: {reason}" for reason in fresh]

    def summary(self) -> list[str]:
        """The last news, and how many there were in all; asked and answered in the same way."""
        if not self._counted:
            return []
        lines = self.news()
        replaced = sum(distributed.gather_object(self._replaced) or ())
        if replaced:
            lines.append(
                f"warning: bad images left out: {len(self._told)}; items replaced by their neighbours: {replaced}"
            )
        return lines
