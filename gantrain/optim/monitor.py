"""What all ranks must know at the same step, without extra messages and without waiting for the device.

Two flags are averaged together with the gradients: whether any rank wants to stop, or to save. A third, whether a loss
or gradient was not finite, is computed on the device. All are read one step late, when the device has computed them,
except where a checkpoint is about to be saved.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
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


class RunMonitor:
    """Collects whether a run is to stop or to save, and whether it has diverged.

    Args:
        device: Of the model.
        wants_stop: Whether this rank wants to stop.
        wants_save: Whether this rank wants to save.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        wants_stop: Callable[[], bool] = lambda: False,
        wants_save: Callable[[], bool] = lambda: False,
    ) -> None:
        self.wants_stop = wants_stop
        self.wants_save = wants_save
        self._flags = torch.zeros(3, device=device)  # In this order: stop, save, not finite.
        self._pending: tuple[int, Tensor, torch.cuda.Event | None] | None = None
        self._norms: deque[tuple[int, str, Tensor, Tensor]] = deque(maxlen=MAX_NORMS)
        self._step = 0

    def begin(self, step: int) -> None:
        """Start ``step`` (from 0), to which the next updates belong."""
        self._step = step + 1
        self._flags = torch.zeros_like(self._flags)

    def message(self, loss: Tensor) -> Tensor:
        """The flags, (3,), to be averaged over ranks together with the gradients of ``loss``."""
        flags = loss.new_zeros(self._flags.shape)  # In the gradients' dtype, to be sent in the same message.
        if distributed.world_size() > 1:
            flags[0] = float(self.wants_stop())
            flags[1] = float(self.wants_save())
        flags[2] = loss.detach().isfinite().logical_not()
        return flags

    def record_update(self, message: Tensor, side: str, gradients: Sequence[Tensor], *, may_be_infinite: bool) -> None:
        """Record an update of a side, with its ``message`` and unscaled gradients averaged over ranks.

        Where they ``may_be_infinite``, a gradient scaler skips the update.
        """
        norm = torch.nn.utils.get_total_norm(gradients)
        self._norms.append((self._step, side, norm, message[2]))
        self._flags += message
        if not may_be_infinite:
            self._flags[2] += norm.isfinite().logical_not()

    def take_record(self) -> tuple[list[str], list[Tensor]]:
        """Remove what the present step has recorded: the sides of its updates, and tensors for ``record_step``."""
        updates = [each for each in self._norms if each[0] == self._step]
        self._norms = deque([each for each in self._norms if each[0] != self._step], maxlen=MAX_NORMS)
        numbers = [number for *_, norm, bad in updates for number in (norm, bad)]
        return [side for _, side, *_ in updates], [self._flags, *numbers]

    def record_step(self, sides: Sequence[str], record: Sequence[Tensor]) -> None:
        """Record all updates of the present step at once; see ``take_record``."""
        self._flags, *numbers = record
        for side, norm, bad in zip(sides, numbers[::2], numbers[1::2], strict=True):
            self._norms.append((self._step, side, norm, bad))

    def poll(self, *, sync: bool) -> StepStatus:
        """What is known at the end of a step; to be called once per step.

        Args:
            sync: Wait for the device, so that the step's own flags are known. Done in any case if a rank wants to stop
                or to save.
        """
        pending, self._pending = self._pending, (self._step, *_copy_to_host(self._flags))
        found = [_read(*pending)] if pending is not None else []
        if distributed.world_size() == 1:
            found.append(StepStatus(self.wants_stop(), self.wants_save()))
        if sync or any(status.stop or status.save for status in found):
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
            {"step": step, "side": side, "norm": float(norm), "finite_loss": not bool(bad)}
            for step, side, norm, bad in self._norms
        ]

    def reset(self) -> None:
        """Discard what is pending, before a run resumes from an earlier step."""
        self._pending = None
        self._norms.clear()


def _copy_to_host(flags: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A copy that may still be in transfer, and the event that marks its end."""
    if flags.device.type != "cuda":
        return flags, None
    copy = torch.empty(flags.shape, pin_memory=True)
    copy.copy_(flags, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return copy, event


def _read(step: int, flags: Tensor, event: torch.cuda.Event | None) -> StepStatus:
    if event is not None:
        event.synchronize()
    stop, save, bad = flags.tolist()
    return StepStatus(stop > 0, save > 0, step if bad > 0 else None)
