"""The time that the parts of a training step take."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import torch

from gantrain.data.base import Batch
from gantrain.data.stream import BatchStream
from gantrain.optim.updates import Updates

P = ParamSpec("P")
R = TypeVar("R")

PARTS = ("data", "forward", "backward", "optimizer")


class Clock:
    """Instants at which a device reaches a point in its work, and the time between them.

    Args:
        device: Where the work is done.
        now: The seconds of the host's clock.
    """

    def __init__(self, device: torch.device, now: Callable[[], float] = time.perf_counter) -> None:
        self._device, self._now = device, now

    def instant(self) -> Any:
        """The present point in the work of the device; a GPU is not waited for. None during a capture."""
        if self._device.type != "cuda":
            return self._now()
        if torch.cuda.is_current_stream_capturing():
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start: Any, end: Any) -> float:
        """The seconds between two instants; a GPU must have passed both."""
        return end - start if self._device.type != "cuda" else start.elapsed_time(end) / 1000

    def idle(self) -> float:
        """Wait until the device has no work; the seconds of the host's clock then."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        return self._now()


class PartClock:
    """Measures the parts of all steps of a run: data, backward pass and optimizer.

    Backward passes are those of the losses: that of a gradient penalty belongs to the forward pass. The time of the
    optimizers includes the checks of gradients and the moving averages.

    Args:
        clock: That of the device.
        update: The updates of the run, whose methods are replaced by measured ones.
    """

    def __init__(self, clock: Clock, update: Updates) -> None:
        self._clock = clock
        self._spans: list[tuple[str, Any, Any]] = []
        for side in update.sides:
            side.__dict__["accumulate"] = self.measured("backward", side.accumulate)
            side.__dict__["step"] = self.measured("optimizer", side.step)
        if update.ema is not None:
            update.ema.__dict__["update"] = self.measured("optimizer", update.ema.update)

    def measured(self, part: str, function: Callable[P, R]) -> Callable[P, R]:
        """The function, whose time belongs to a part."""

        def call(*arguments: P.args, **options: P.kwargs) -> R:
            start = self._clock.instant()
            try:
                return function(*arguments, **options)
            finally:
                if start is not None:
                    self._spans.append((part, start, self._clock.instant()))

        return call

    def take(self) -> dict[str, float]:
        """The seconds of each part since the last call; the device must be idle."""
        seconds: dict[str, float] = defaultdict(float)
        for part, start, end in self._spans:
            seconds[part] += self._clock.between(start, end)
        self._spans.clear()
        return seconds


class MeasuredStream:
    """The batches of a stream, whose time is that of the data: reading, moving to the device, and scaling."""

    def __init__(self, stream: BatchStream, clock: PartClock) -> None:
        self._stream, self._next = stream, clock.measured("data", stream.__next__)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return self._next()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
