"""The loop, and nothing but the loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from gantrain import distributed
from gantrain.checkpoint import Checkpoints, on_cpu
from gantrain.data.base import Batch
from gantrain.data.stream import BatchStream
from gantrain.models.base import GAN
from gantrain.optim import Updates
from gantrain.report import Means, Report


class Clock:
    """How long a run is, in steps or in images.

    Args:
        amount: How much there is to do; a run ends at the first step that has done it.
        unit: ``step`` for generator updates, ``image`` for images drawn by all ranks.
    """

    def __init__(self, amount: float, unit: Literal["step", "image"]) -> None:
        self.amount = amount
        self.unit = unit

    def done(self, step: int, images: int) -> int:
        """How much lies behind, in the clock's unit."""
        return step if self.unit == "step" else images

    def progress(self, step: int, images: int) -> float:
        """The share of the run that lies behind, 1 or more at its end."""
        return self.done(step, images) / self.amount


class Trainer:
    """Trains a model until its clock runs out, or until ``stop`` says so, saving and showing on the way.

    Args:
        model: What to train, on its device.
        update: Its updates.
        stream: Its batches.
        clock: When it ends.
        report: Where logs and pictures go.
        checkpoints: Where states go.
        constants: What every checkpoint carries beside the state (configuration, data).
        held_out: Makes held-out batches, from the first on, for the model's own figures.
        preview: Makes the batch that the model's pictures are of.
        log_every: Steps between log lines; as the next two, also at the last step.
        image_every: Steps between pictures.
        save_every: Steps between checkpoints.
        stop: Asked after each step whether to save and stop early.
    """

    def __init__(
        self,
        *,
        model: GAN,
        update: Updates,
        stream: BatchStream,
        clock: Clock,
        report: Report,
        checkpoints: Checkpoints,
        constants: dict[str, Any],
        held_out: Callable[[], Iterable[Batch]],
        preview: Callable[[], Batch],
        log_every: int,
        image_every: int,
        save_every: int,
        stop: Callable[[], bool],
    ) -> None:
        self.model, self.update, self.stream, self.clock = model, update, stream, clock
        self.report, self.checkpoints, self.constants = report, checkpoints, constants
        self.held_out, self.preview = held_out, preview
        self.log_every, self.image_every, self.save_every = log_every, image_every, save_every
        self.stop = stop
        self.step = 0
        self.means = Means()

    def fit(self) -> bool:
        """Train to the end of the clock; False if stopped before. Nothing is read from the device between log lines."""
        self.model.train()
        stopped = opened = False
        while (progress := self.progress) < 1 and not stopped:
            self.update.begin(self.step, progress)
            losses = self.model.train_step(self.stream, self.update)
            self.update.schedule.observe(losses)
            if not opened:  # not before a step has shown that everything fits
                self.report.open(self.step, done=self._done, total=self.clock.amount, unit=self.clock.unit)
                opened = True
            self.means.add(losses)
            self.step += 1
            self.report.advance(self._done)
            last = self.progress >= 1
            stopped = self.stop() and not last
            if last or self.step % self.log_every == 0:
                self._log(self.means.take())
                self.report.say(self.stream.faults.news())
            if last or self.step % self.image_every == 0:
                self._show()
            if last or stopped or self.step % self.save_every == 0:
                self._save()
        self.report.say(self.stream.faults.summary())
        self.report.close("stopped" if stopped else "done", self.step)
        return not stopped

    @property
    def progress(self) -> float:
        """The share of the run that lies behind, 1 or more at its end."""
        return self.clock.progress(self.step, self.stream.images)

    @property
    def _done(self) -> int:
        return self.clock.done(self.step, self.stream.images)

    def _log(self, values: dict[str, float]) -> None:
        stream = self.stream
        self.report.log(
            step=self.step, epoch=stream.epoch, images=stream.images, losses=values, waited=stream.seconds_waited
        )

    def _show(self) -> None:
        if distributed.rank() == 0:
            with shown(self.model, self.update):
                figures = self.model.evaluate(self.held_out())
                self.report.images(self.step, self.model.visuals(self.preview()))
            if figures:
                self._log(figures)

    def _save(self) -> None:
        state = self.state_dict()
        if distributed.rank() == 0:
            self.checkpoints.save(state)

    def state_dict(self) -> dict[str, Any]:
        """All that ``load_state_dict`` needs for the same bits; every rank must call it, rank 0 has the whole."""
        model = self.model.state_dict()
        own = {key: value for key, value in model.items() if key.endswith("_extra_state")}  # pools differ by rank
        rank = {"model": own, "means": self.means.state_dict(), "schedule": self.update.schedule.state_dict()}
        return {
            **self.constants,
            "step": self.step,
            "position": self.stream.position,
            "model": model,
            "updates": self.update.state_dict(),
            "ranks": distributed.gather(on_cpu(rank)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        rank = state["ranks"][distributed.rank() % len(state["ranks"])]
        self.step = state["step"]
        self.stream.position = state["position"]
        self.model.load_state_dict({**state["model"], **rank["model"]})
        self.update.load_state_dict(state["updates"])
        self.update.schedule.load_state_dict(rank["schedule"])
        self.means.load_state_dict(rank["means"])


@contextmanager
def shown(model: GAN, update: Updates) -> Iterator[None]:
    """The model as people see it: averaged where averages are kept, in evaluation mode, without gradients."""
    was_training = model.training
    model.eval()
    try:
        with update.averaged(), torch.no_grad():
            yield
    finally:
        model.train(was_training)
