"""What all ranks must know at the same step, without extra messages and without waiting for the device.

Whether a loss is not finite, and whether any rank wants to stop or to save, is averaged together with the gradients.
These numbers and the norms of the gradients are copied to the host in one transfer per step and read one step late,
when the device has computed them, except where a checkpoint is about to be saved.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gantrain.runtime import distributed

MAX_NORMS = 40  # Updates whose gradient norms are stored.


@dataclass(frozen=True)
class StepStatus:
    """What is known at the end of a step, the same on every rank."""

    stop: bool = False  # Whether any rank wants to stop.
    save: bool = False  # Whether any rank wants to save.
    diverged: int | None = None  # The step (from 1) in which a loss or gradient was not finite, or None.


@dataclass(frozen=True)
class Update:
    """What is recorded of an update."""

    side: str
    may_be_infinite: bool  # Whether infinite gradients mean that a gradient scaler skips it.
    norm: Tensor  # (1,): that of all gradients, averaged over ranks.
    message: Tensor  # See ``RunMonitor.message``; averaged over ranks.


class RunMonitor:
    """Collects whether a run is to stop or to save, and whether it has diverged.

    Args:
        wants_stop: Whether this rank wants to stop.
        wants_save: Whether this rank wants to save.
    """

    def __init__(
        self,
        *,
        wants_stop: Callable[[], bool] = lambda: False,
        wants_save: Callable[[], bool] = lambda: False,
    ) -> None:
        self.wants_stop = wants_stop
        self.wants_save = wants_save
        self._pending: tuple[int, list[Update], Tensor, torch.cuda.Event | None] | None = None
        self._norms: deque[tuple[int, Update]] = deque(maxlen=MAX_NORMS)
        self.begin(0)

    def begin(self, step: int) -> None:
        """Start ``step`` (from 0), to which the next updates belong."""
        self._step = step + 1
        self._updates: list[Update] = []

    def message(self, loss: Tensor) -> Tensor:
        """What is to be averaged over ranks together with the gradients of ``loss``.

        Of one process, (1,): 0, or nan if the loss is not finite. Of several, (3,): the same, and whether this rank
        wants to stop and to save.
        """
        mark = (loss.detach() * 0).view(1)
        if distributed.world_size() == 1:
            return mark
        return torch.cat([mark, loss.new_tensor([self.wants_stop(), self.wants_save()])])

    def record_update(self, message: Tensor, side: str, gradients: Sequence[Tensor], *, may_be_infinite: bool) -> None:
        """Record an update of a side, with its ``message`` and unscaled gradients averaged over ranks.

        Where they ``may_be_infinite``, a gradient scaler skips the update.
        """
        norm = torch.nn.utils.get_total_norm(gradients)
        self._record(Update(side, may_be_infinite, norm.view(1), message))

    def _record(self, update: Update) -> None:
        self._updates.append(update)
        self._norms.append((self._step, update))

    def take_record(self) -> list[Update]:
        """Remove what the present step has recorded."""
        updates = self._updates
        self._norms = deque([each for each in self._norms if each[0] != self._step], maxlen=MAX_NORMS)
        self._updates = []
        return updates

    def record_step(self, updates: Iterable[Update]) -> None:
        """Record all updates of the present step at once; see ``take_record``."""
        for update in updates:
            self._record(update)

    def poll(self, *, sync: bool) -> StepStatus:
        """What is known at the end of a step; to be called once per step.

        Args:
            sync: Wait for the device, so that the step's own record is known. Done in any case if a rank wants to stop
                or to save.
        """
        found = [_read(*self._pending)] if self._pending is not None else []
        numbers = [number for update in self._updates for number in (update.norm, update.message)]
        self._pending = (self._step, self._updates, *_copy_to_host(torch.cat(numbers))) if numbers else None
        if distributed.world_size() == 1:
            found.append(StepStatus(self.wants_stop(), self.wants_save()))
        if self._pending is not None and (sync or any(status.stop or status.save for status in found)):
            found.append(_read(*self._pending))
            self._pending = None
        return StepStatus(
            stop=any(status.stop for status in found),
            save=any(status.save for status in found),
            diverged=min((status.diverged for status in found if status.diverged is not None), default=None),
        )

    def gradient_norms(self) -> list[dict[str, int | str | float | bool]]:
        """``step`` (from 1), ``side``, ``norm`` and ``finite_loss`` of the last updates of all ranks, oldest first.

        Waits for the device.
        """
        return [
            {
                "step": step,
                "side": update.side,
                "norm": float(update.norm),
                "finite_loss": math.isfinite(update.message[0]),
            }
            for step, update in self._norms
        ]

    def reset(self) -> None:
        """Discard what is pending, before a run resumes from an earlier step."""
        self._pending = None
        self._norms.clear()


def _copy_to_host(numbers: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A copy that may still be in transfer, and the event that marks its end."""
    if numbers.device.type != "cuda":
        return numbers, None
    copy = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    copy.copy_(numbers, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return copy, event


def _read(step: int, updates: Sequence[Update], numbers: Tensor, event: torch.cuda.Event | None) -> StepStatus:
    """What the numbers of a step's updates mean, one after the other: of each its norm, then its message."""
    if event is not None:
        event.synchronize()
    values = iter(numbers.tolist())
    stop = save = bad = False
    for update in updates:
        norm, mark, *wishes = itertools.islice(values, 1 + len(update.message))
        bad |= not math.isfinite(mark) or not (update.may_be_infinite or math.isfinite(norm))
        if wishes:
            stop, save = stop or wishes[0] > 0, save or wishes[1] > 0
    return StepStatus(stop, save, step if bad else None)
