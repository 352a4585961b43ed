"""What all ranks must learn at one and the same step, and what the device knows before the host does.

Two flags ride on every averaging of gradients, so that no message is sent for them: whether any rank wants to stop, or
to save. A third, whether a loss or a gradient was not finite, is found on the device. All are read one step late, when
the device has long been done with them, so that nobody waits; where a state is about to be saved, at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gantrain.runtime import distributed

NORMS = 40  # updates whose gradient norms are remembered


@dataclass(frozen=True)
class StepStatus:
    """What was seen at the end of a step, the same on every rank.

    Attributes:
        stop: Whether somebody wants to stop.
        save: Whether somebody wants to save.
        diverged: The step (from 1) in which a loss or gradient was not finite; None if there was none.
    """

    stop: bool = False
    save: bool = False
    diverged: int | None = None


class RunMonitor:
    """Sees whether a run is to stop or to save, and whether it has diverged.

    Args:
        device: Of the model.
    """

    def __init__(self, device: torch.device) -> None:
        self.wants_stop: Callable[[], bool] = lambda: False
        self.wants_save: Callable[[], bool] = lambda: False
        self._flags = torch.zeros(3, device=device)  # stop, save, not finite
        self._waiting: tuple[int, Tensor, torch.cuda.Event | None] | None = None
        self._norms: deque[tuple[int, str, Tensor, Tensor]] = deque(maxlen=NORMS)
        self._step = 0

    def begin(self, step: int) -> None:
        """Updates from now on belong to ``step`` (from 0)."""
        self._step = step + 1
        self._flags = torch.zeros_like(self._flags)

    def message(self, loss: Tensor) -> Tensor:
        """What the gradients of ``loss`` carry to the other ranks, (3,)."""
        flags = loss.new_zeros(self._flags.shape)  # of the gradients' type, to travel in one message with them
        if distributed.world_size() > 1:
            flags[0] = float(self.wants_stop())
            flags[1] = float(self.wants_save())
        flags[2] = loss.detach().isfinite().logical_not()
        return flags

    def record_update(self, message: Tensor, side: str, gradients: Sequence[Tensor], *, may_be_infinite: bool) -> None:
        """Take in an update whose gradients and ``message`` are those of all ranks.

        Args:
            message: As ``message`` made it, averaged over ranks.
            side: Whose update it is.
            gradients: Unscaled.
            may_be_infinite: Whether a scaler passes over gradients that are.
        """
        norm = torch.nn.utils.get_total_norm(gradients)
        self._norms.append((self._step, side, norm, message[2]))
        self._flags += message
        if not may_be_infinite:
            self._flags[2] += norm.isfinite().logical_not()

    def poll(self, *, sync: bool) -> StepStatus:
        """What is known at the end of a step, once per step.

        Args:
            sync: Whether to wait for the device, so that the step's own flags are known; that is done too whenever
                somebody wants to stop or to save.
        """
        waiting, self._waiting = self._waiting, (self._step, *_on_the_way(self._flags))
        seen = [_read(*waiting)] if waiting is not None else []
        if distributed.world_size() == 1:  # nobody needs to agree
            seen.append(StepStatus(self.wants_stop(), self.wants_save()))
        if sync or any(sight.stop or sight.save for sight in seen):
            seen.append(_read(*self._waiting))
            self._waiting = None
        return StepStatus(
            stop=any(sight.stop for sight in seen),
            save=any(sight.save for sight in seen),
            diverged=min((sight.diverged for sight in seen if sight.diverged is not None), default=None),
        )

    def gradient_norms(self) -> list[dict[str, int | str | float | bool]]:
        """Of the last updates, oldest first: ``step`` (from 1), ``side``, ``norm`` and ``finite_loss``, on all ranks.

        Reads from the device.
        """
        return [
            {"step": step, "side": side, "norm": float(norm), "finite_loss": not bool(bad)}
            for step, side, norm, bad in self._norms
        ]

    def forget(self) -> None:
        """Begin anew, before a run goes on from an earlier step."""
        self._waiting = None
        self._norms.clear()


def _on_the_way(flags: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A copy for the host that may still be on its way, and what tells that it has come."""
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
