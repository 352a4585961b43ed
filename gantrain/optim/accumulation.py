"""Gradient accumulation: a training step on parts of each batch, with the updates of the whole batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import partial
from threading import Semaphore
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gantrain.optim.updates import Updates
from gantrain.runtime.seeding import wait_in_turns

Batch: TypeAlias = dict[str, Any]
Losses: TypeAlias = dict[str, Tensor]
TrainStep: TypeAlias = Callable[[Iterator[Batch], Updates], Losses]


class Accumulation:
    """A model's ``train_step``, run on parts of each batch, whose gradients are accumulated.

    The step of each part has a thread, one of which runs at a time: until its next update, whose backward pass adds to
    the gradients and frees the activations. When all parts have come to an update, the optimizer makes its step, and
    the first part continues. The gradients are those of the whole batch if losses are means over independent images;
    the random numbers of ``update.draws`` and of image pools are those of the whole batch, while dropout draws others.

    Args:
        train_step: That of the model.
        update: The updates of the run.
        parts: Into how many parts each batch is divided.
    """

    def __init__(self, train_step: TrainStep, update: Updates, parts: int) -> None:
        self._train_step = train_step
        device = update.sides[0].parameters[0].device
        initializer = partial(torch.cuda.set_device, device) if device.type == "cuda" else None
        self._threads = ThreadPoolExecutor(parts, "micro-batch", initializer=initializer)
        self._parts = [_Part(update, number, parts) for number in range(parts)]

    def __call__(self, batches: Iterator[Batch], update: Updates) -> Losses:
        """One step on the next batches, called like ``train_step``; returns the means of the losses over the parts."""
        chunks = _Chunks(batches, len(self._parts))
        for part in self._parts:
            part.prepare()
            self._threads.submit(part.run, self._train_step, chunks.of(part.number))
        try:
            while sum(part.advances() for part in self._parts):
                sides = {part.side for part in self._parts}
                assert len(sides) == 1, "parts of a batch make different updates"
                if (side := sides.pop()) is not None:
                    update.finish(side, torch.stack([part.loss for part in self._parts]).mean())
        finally:
            for part in self._parts:
                part.abandon()
        losses = [part.losses for part in self._parts]
        return {name: torch.stack([each[name] for each in losses]).mean() for name in losses[0]}


class _AbandonedError(BaseException):
    """Ends the step of a part after an error in another one."""


class _Part(Updates):
    """The updates of a part, which add to the gradients and then wait for the other parts.

    Attributes:
        number: That of the part, from 0.
        side: Of the update at which it waits; None if it only waits for the others.
        loss: Of that update.
        losses: The result of its step.
    """

    side: int | None
    loss: Tensor
    losses: Losses

    def __init__(self, update: Updates, number: int, count: int) -> None:
        super().__init__(**{each.name: getattr(update, each.name) for each in fields(Updates) if each.init})
        self.number = number
        self._whole, self._count = update, count
        self.draws = update.draws.part(number, count)
        self.prepare()

    def prepare(self) -> None:
        """Prepare for the step of the whole update."""
        self.step = self._whole.step
        self.draws.start(self.step)
        self._runs, self._waits = Semaphore(0), Semaphore(0)
        self._error: BaseException | None = None
        self._has_ended = self._is_abandoned = False

    def advances(self) -> bool:
        """Run to the next update or wait, or to the end of the step; whether there is more to do."""
        self._runs.release()
        self._waits.acquire()
        if self._error is not None:
            raise self._error
        return not self._has_ended

    def abandon(self) -> None:
        """End the step, unless it has ended."""
        if not self._has_ended:
            self._is_abandoned = True
            self._runs.release()
            self._waits.acquire()

    def run(self, train_step: TrainStep, batches: Iterator[Batch]) -> None:
        """In the thread of the part: its step."""
        try:
            self._wait()
            wait_in_turns(partial(self._wait_for_others, None))
            self.losses = train_step(batches, self)
        except BaseException as error:  # It is raised in the main thread.
            self._error = error
        self._has_ended = True
        self._waits.release()

    def generator(self, loss: Tensor) -> None:
        self._pause(0, loss)

    def discriminator(self, loss: Tensor) -> None:
        self._pause(1, loss)

    def _pause(self, side: int, loss: Tensor) -> None:
        self.sides[side].accumulate(loss / self._count, first=self.number == 0, last=self.number == self._count - 1)
        self.loss = loss.detach()
        self._wait_for_others(side)

    def _wait_for_others(self, side: int | None) -> None:
        self.side = side
        self._waits.release()
        self._wait()

    def _wait(self) -> None:
        self._runs.acquire()
        if self._is_abandoned:
            raise _AbandonedError


class _Chunks:
    """The parts of batches, each of which is drawn when its first part is."""

    def __init__(self, batches: Iterator[Batch], count: int) -> None:
        self._batches, self._count = batches, count
        self._drawn: list[list[Batch]] = []

    def of(self, number: int) -> Iterator[Batch]:
        """The parts of that number."""
        for position in itertools.count():
            if position == len(self._drawn):
                batch = next(self._batches)
                size = len(next(iter(batch.values()))) // self._count
                starts = range(0, size * self._count, size)
                self._drawn.append([{key: value[i : i + size] for key, value in batch.items()} for i in starts])
            yield self._drawn[position][number]
