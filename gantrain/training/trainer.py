"""The loop, and nothing but the loop."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from gantrain.checkpoints.store import Checkpoints, clone_to_cpu
from gantrain.data.base import Batch
from gantrain.data.stream import BatchStream
from gantrain.models.base import GAN
from gantrain.optim.monitor import StepStatus
from gantrain.optim.updates import Updates
from gantrain.report import Report
from gantrain.runtime import distributed
from gantrain.training.means import Means
from gantrain.training.objective import Kind, Objective


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


REMEMBERED = 3  # steps; one is known to have diverged at the end of the next


class DivergedError(Exception):
    """A loss, a gradient or a weight was not finite.

    Attributes:
        step: In which, from 1; of a weight, in which that was seen.
        facts: What is known of it, as plain values, the same on all ranks: ``step``, ``losses``, ``images`` (names),
            ``gradient_norms`` and ``nonfinite_sides`` (the sides whose weights are not finite).
    """

    def __init__(self, step: int, facts: dict[str, Any]) -> None:
        super().__init__(f"step {step}")
        self.step = step
        self.facts = facts


class Trainer:
    """Trains a model until its clock runs out, or until ``stop`` says so, saving and showing on the way.

    Args:
        model: What to train, on its device.
        update: Its updates.
        stream: Its batches.
        clock: When it ends.
        report: Where logs and images go.
        checkpoints: Where states go.
        constants: What every checkpoint carries beside the state (configuration, data).
        held_out: Makes held-out batches, from the first on, for the model's own figures.
        preview: Makes the batch that the model's images are of.
        log_every: Steps between log lines; as the next two, also at the last step.
        image_every: Steps between images.
        save_every: Steps between checkpoints.
        save_minutes: Minutes after which there is another one in any case; None for no such.
        objective: Tells which checkpoint is the best.
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
        save_minutes: float | None,
        objective: Objective,
    ) -> None:
        self.model, self.update, self.stream, self.clock = model, update, stream, clock
        self.report, self.checkpoints, self.constants = report, checkpoints, constants
        self.held_out, self.preview = held_out, preview
        self.log_every, self.image_every, self.save_every = log_every, image_every, save_every
        self.objective = objective
        self.save_minutes = save_minutes
        self.update.monitor.wants_save = self._save_is_due
        self.step = 0
        self.saved_at = time.monotonic()
        self.means = Means()
        self._lately: deque[tuple[int, dict[str, Tensor], list[str]]] = deque(maxlen=REMEMBERED)

    def fit(self) -> bool:
        """Train to the end of the clock; False if stopped before. Nothing waits for the device between log lines.

        Raises:
            DivergedError: A loss, a gradient or a weight was not finite; no checkpoint has seen it.
            ConfigError: An image can't be read, or a checkpoint not written.
        """
        self.model.train()
        stopped = opened = False
        while (progress := self.progress) < 1 and not stopped:
            self.update.begin(self.step, progress)
            losses = self.model.train_step(self.stream, self.update)
            self.update.schedule.observe(losses)
            if not opened:  # not before a step has shown that everything fits
                self.report.open(self.step, done=self.done, total=self.clock.amount, unit=self.clock.unit)
                opened = True
            self.means.add(losses)
            self.step += 1
            self._lately.append((self.step, losses, self.stream.take_names()))
            self.report.advance(self.done)
            last = self.progress >= 1
            saves = last or self.step % self.save_every == 0
            sight = self._look(at_once=saves)
            stopped = sight.stop and not last
            # what a checkpoint is judged by is of its own weights
            if last or self.step % self.log_every == 0 or (saves and self.objective.is_among("losses")):
                self.checkpoints.raise_pending()
                self._log("losses", {**self.means.take(), **self.update.rates()})
                self.report.say(self.stream.faults.news())
            if last or self.step % self.image_every == 0 or (saves and self.objective.is_among("metrics")):
                self._show()
            if saves or stopped or sight.save:
                self._save(regular=saves)
        self.checkpoints.wait()
        self.report.say(self.stream.faults.summary())
        return not stopped

    def _look(self, *, at_once: bool) -> StepStatus:
        """What to do after this step, unless it or the one before it has diverged."""
        sight = self.update.monitor.poll(sync=at_once)
        nonfinite_sides: list[str] = []
        if sight.diverged is None and (at_once or sight.stop or sight.save):  # it is about to be saved
            nonfinite_sides = sorted(
                {side for sides in distributed.all_gather_object(self.update.nonfinite_sides()) for side in sides}
            )
        if sight.diverged is None and not nonfinite_sides:
            return sight
        diverged = sight.diverged or self.step
        losses, names = next((losses, names) for step, losses, names in self._lately if step == diverged)
        ranks = distributed.all_gather_object(({name: float(value) for name, value in losses.items()}, names))
        raise DivergedError(
            diverged,
            {
                "step": diverged,
                "losses": {name: _worst([values[name] for values, _ in ranks]) for name in losses},
                "images": [name for _, names in ranks for name in names],
                "gradient_norms": self.update.monitor.gradient_norms(),
                "nonfinite_sides": nonfinite_sides,
            },
        )

    @property
    def progress(self) -> float:
        """The share of the run that lies behind, 1 or more at its end."""
        return self.clock.progress(self.step, self.stream.images)

    @property
    def done(self) -> int:
        """What lies behind, in the unit of the run's length."""
        return self.clock.done(self.step, self.stream.images)

    def _log(self, kind: Kind, values: dict[str, float]) -> None:
        stream = self.stream
        self.objective.record(kind, values)
        if values:
            self.report.log(
                step=self.step, epoch=stream.epoch, images=stream.images, losses=values, waited=stream.seconds_waited
            )

    def _show(self) -> None:
        if distributed.rank() == 0:
            with shown(self.model, self.update):
                metrics = self.model.evaluate(self.held_out())
                self.report.images(self.step, self.model.visuals(self.preview()))
            self._log("metrics", metrics)

    def _save(self, *, regular: bool) -> None:
        """Only a ``regular`` one can be the best, else that would depend on where the run was stopped."""
        self.saved_at = time.monotonic()
        self.report.say(self.objective.missing_metric_warning())
        best = regular and self.objective.is_best()
        state = self.state_dict()
        if distributed.rank() == 0:
            self.checkpoints.save(state, best=best)

    def _save_is_due(self) -> bool:
        if distributed.rank() == 0 and not self.checkpoints.folder.exists():
            return True  # it fails, and so nobody trains on for nothing
        return self.save_minutes is not None and time.monotonic() - self.saved_at >= 60 * self.save_minutes

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
            "objective": self.objective.state_dict(),
            "rollbacks": self.stream.rollbacks,
            "ranks": distributed.gather_object(clone_to_cpu(rank)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``, or back to it."""
        self.update.monitor.reset()
        self._lately.clear()
        rank = state["ranks"][distributed.rank() % len(state["ranks"])]
        self.step = state["step"]
        self.stream.go_to(state["position"], rollbacks=state["rollbacks"])
        self.objective.load_state_dict(state["objective"])
        self.model.load_state_dict({**state["model"], **rank["model"]})
        self.update.load_state_dict(state["updates"])
        self.update.schedule.load_state_dict(rank["schedule"])
        self.means.load_state_dict(rank["means"])


def _worst(values: list[float]) -> float:
    return next((value for value in values if not math.isfinite(value)), values[0])


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
