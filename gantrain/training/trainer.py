"""The training loop."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict
from typing import Any, Literal

from torch import Tensor

from gantrain.checkpoints.store import Checkpoints, clone_to_cpu
from gantrain.config.overrides import command_line
from gantrain.config.settings import TrainerSettings
from gantrain.data.stream import Origin
from gantrain.metrics.base import MeasurementError
from gantrain.models.evaluating import evaluating, shared_buffers
from gantrain.optim.monitor import StepStatus
from gantrain.report import Report
from gantrain.runtime import distributed
from gantrain.training.build import Parts
from gantrain.training.diagnostics import IMAGES as REAL_IMAGES
from gantrain.training.diagnostics import Diagnostics
from gantrain.training.failures import DivergedError, worst
from gantrain.training.graphs.choice import train_step_of
from gantrain.training.means import Means
from gantrain.training.names import check_logged
from gantrain.training.objective import Kind
from gantrain.training.segments import Plan, at_new_segment, next_plan


class Trainer:
    """Trains a model to the end of the run or until a stop is requested; saves checkpoints, logs losses, shows images.

    Args:
        parts: The model, its updates and its data.
        settings: The length of the run, and the intervals of logs, images and checkpoints.
        report: Receives logs and images.
        checkpoints: Receives states.
        constants: The entries of every checkpoint besides the state (configuration, data).

    Attributes:
        step: The number of completed generator updates.
        unit: ``step`` for generator updates, ``image`` for images drawn by all ranks.
        plan: The part of the run that the learning rate schedule is spread over.
        is_exhausted: Whether the run has stopped because the objective was no better for ``objective.patience`` values.
        irregular: The steps of stored checkpoints that exist because of interruptions and time limits.
        tried: The steps to which the run has rolled back.
        segments: The first ``step`` (from 0) of each segment, its ``command``, and the settings that changed there.
    """

    def __init__(
        self,
        parts: Parts,
        settings: TrainerSettings,
        *,
        report: Report,
        checkpoints: Checkpoints,
        constants: dict[str, Any],
    ) -> None:
        self.parts, self.settings = parts, settings
        self.model, self.update, self.stream, self.objective = parts.model, parts.update, parts.stream, parts.objective
        self._train_step = train_step_of(parts)
        self.unit: Literal["step", "image"] = "step" if settings.steps is not None else "image"
        self.report, self.checkpoints, self.constants = report, checkpoints, constants
        self.step = 0
        self.plan = Plan(self.unit, 0, self.total)
        self.segments: list[dict[str, Any]] = [
            {"step": 0, "command": command_line("train", constants.get("overrides", [])), "changes": {}}
        ]
        self.irregular: list[int] = []
        self.tried: list[int] = []
        self.means = Means()
        # Whether a step has diverged is known at the end of the next one.
        self._recent: deque[tuple[int, dict[str, Tensor], list[str]]] = deque(maxlen=3)
        self._has_shown = self.is_exhausted = False
        self._faults: dict[str, float] = {}  # See ``Diagnostics``.
        self._diagnostics = Diagnostics(lambda: parts.real_batch(REAL_IMAGES), self._faults)
        if parts.measurement is not None:
            parts.measurement.observers.append(self._diagnostics.observe_features)

    def fit(self) -> bool:
        """Train to the end, without waiting for the device between log lines; False if the run was stopped before.

        Raises:
            DivergedError: A loss, a gradient or a weight was not finite; no checkpoint holds that state.
            ConfigError: An image can't be read, or a checkpoint not written.
        """
        self.model.train()
        stopped = opened = False
        while self.progress < 1 and not stopped and not self.is_exhausted:
            losses = self.take_step()
            if not opened:  # A first step has shown that model, data and memory fit together.
                self.report.open(self.step, **self.extent)
                opened = True
            self.means.add(losses)
            self.step += 1
            self._recent.append((self.step, losses, self.stream.take_names()))
            self.report.advance(self.done)
            last = self.progress >= 1
            saves = last or self.step % self.settings.save_every == 0
            measures = self.parts.measurement is not None and self.parts.measurement.is_due(self.step, last=last)
            status = self._poll(sync=saves or measures)
            stopped = status.stop and not last
            # The objective is also logged at every checkpoint, for the weights in it.
            if last or self.step % self.settings.log_every == 0 or (saves and self.objective.is_among("losses")):
                self.checkpoints.raise_pending()
                self._log("losses", {**self.means.take(), **self.update.rates()})
                self.report.say(self.stream.faults.news())
            if last or self.step % self.settings.image_every == 0 or (saves and self.objective.is_among("metrics")):
                self._show()
            if measures:
                saves = self._measure() or saves
            if saves or stopped or status.save:
                self._save(regular=saves)
        self.checkpoints.wait()
        self.report.say(self.stream.faults.summary())
        return not stopped

    def take_step(self) -> dict[str, Tensor]:
        """The updates of the next step; returns its losses. Nothing is counted, logged or saved."""
        self.update.begin(self.step, self.plan.progress(self._done(self.plan.unit)))
        losses = self._train_step(self.stream, self.update)
        self.update.schedule.observe(losses)
        return losses

    def _poll(self, *, sync: bool) -> StepStatus:
        """Whether to stop or save after this step; raise ``DivergedError`` if it or the one before has diverged."""
        status = self.update.monitor.poll(sync=sync)
        nonfinite_sides: list[str] = []
        if status.diverged is None and (sync or status.stop or status.save):  # The state is about to be saved.
            nonfinite_sides = sorted(
                {side for sides in distributed.all_gather_object(self.update.nonfinite_sides()) for side in sides}
            )
        if status.diverged is None and not nonfinite_sides:
            return status
        diverged = status.diverged or self.step
        losses, names = next((losses, names) for step, losses, names in self._recent if step == diverged)
        ranks = distributed.all_gather_object(({name: float(value) for name, value in losses.items()}, names))
        raise DivergedError(
            diverged,
            {
                "step": diverged,
                "losses": {name: worst([values[name] for values, _ in ranks]) for name in losses},
                "images": [name for _, names in ranks for name in names],
                "gradient_norms": self.update.monitor.gradient_norms(),
                "nonfinite_sides": nonfinite_sides,
            },
        )

    @property
    def progress(self) -> float:
        """The completed share of the run; 1 or more at its end."""
        return self.done / self.total

    @property
    def total(self) -> float:
        """The length of the run in ``unit``; the run ends at the first step that reaches it."""
        settings = self.settings
        if settings.epochs is not None:
            return self.stream.images_after(settings.epochs)
        return settings.kimg * 1000 if settings.kimg is not None else settings.steps or 0.0

    @property
    def done(self) -> int:
        """The completed steps or images, in ``unit``."""
        return self._done(self.unit)

    @property
    def extent(self) -> dict[str, Any]:
        """What the report shows of the length of the run."""
        return {"done": self.done, "total": self.total, "unit": self.unit, "segments": self.segments}

    def _done(self, unit: Literal["step", "image"]) -> int:
        return self.step if unit == "step" else self.stream.images

    def _log(self, kind: Kind, values: dict[str, float]) -> None:
        stream = self.stream
        self.objective.record(kind, values)
        if values:
            self.report.log(
                step=self.step, epoch=stream.epoch, images=stream.images, losses=values, waited=stream.seconds_waited
            )
        check_logged(self.parts)

    def _show(self) -> None:
        if distributed.rank() == 0:
            with evaluating(self.model, self.update):
                metrics = self.model.evaluate(self.parts.held_out())
                visuals = self.model.visuals(self.parts.preview())
                norms = self.update.monitor.gradient_norms()
                notes = self._diagnostics.observe(self.model, visuals, norms, self.progress)
            self.report.notes(self.step, notes)
            if visuals:
                self.report.images(self.step, visuals)
            elif not self._has_shown:
                self.report.say([f"{type(self.model).__name__} has no images to show: override visuals()"])
            self._has_shown = True
            self._log("metrics", metrics)

    def _measure(self) -> bool:
        """Measure the weights of this step; whether they are to be saved, as the best or the last of the run."""
        measurement, objective = self.parts.measurement, self.objective
        assert measurement is not None
        try:
            with evaluating(self.model, self.update), shared_buffers(self.model.generators()):
                numbers = measurement(self.model)
        except MeasurementError as error:
            self.report.say([f"warning: the metrics of step {self.step} are missing: {error}"])
            return False
        protocol = measurement.protocol(averaged=self.update.ema is not None)
        if objective.settings.metric in numbers:
            self.report.say(objective.use_protocol(protocol))
        objective.record("measured", numbers)
        # Only numbers of the measurement are the same on all ranks, which save together.
        judged = objective.settings.metric in numbers
        improves = judged and objective.improves()
        self.report.measured(
            self.step, numbers, epoch=self.stream.epoch, images=self.stream.images, protocol=protocol, best=improves
        )
        self.report.notes(self.step, self._diagnostics.measured(self.progress))
        if not improves:
            self.report.notes(self.step, self._diagnostics.decline(objective, self.step, self.progress))
        if improves or (judged and objective.is_last()):
            return True
        if judged:
            objective.is_best(self.step)  # It counts as one that is no better.
        return False

    def _save(self, *, regular: bool) -> None:
        """Save; only a ``regular`` checkpoint can be the best, so that the best does not depend on interruptions."""
        self.parts.save_timer.restart()
        self.report.say(self.objective.missing_metric_warning(measures=self.parts.measurement is not None))
        passed = self.irregular if regular and self.settings.keep else []
        self.irregular = [each for each in self.irregular if each not in passed] + ([] if regular else [self.step])
        best = regular and self.objective.is_best(self.step)
        # Other ranks do not have the losses and held-out metrics of rank 0.
        if self.objective.settings.patience is not None:
            self.is_exhausted = distributed.all_gather_object(self.objective.is_exhausted())[0]
        state = self.state_dict()
        if distributed.rank() == 0:
            self.checkpoints.save(state, best=best, remove=passed)

    def state_dict(self) -> dict[str, Any]:
        """The state for a bit-identical resume; every rank must call it, and rank 0 gets the states of all ranks."""
        model = self.model.state_dict()
        own = {key: value for key, value in model.items() if key.endswith("_extra_state")}  # Pools differ by rank.
        rank = {"model": own, "means": self.means.state_dict(), "schedule": self.update.schedule.state_dict()}
        return {
            **self.constants,
            "step": self.step,
            "position": self.stream.position,
            "origin": asdict(self.stream.origin),
            "plan": asdict(self.plan),
            "segments": self.segments,
            "model": model,
            "updates": self.update.state_dict(),
            "objective": self.objective.state_dict(),
            "faults": dict(self._faults),
            "rollbacks": self.stream.rollbacks,
            "irregular": self.irregular,
            "tried": self.tried,
            "ranks": distributed.gather_object(clone_to_cpu(rank)),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a ``state_dict``."""
        self._recent.clear()
        rank = state["ranks"][distributed.rank() % len(state["ranks"])]
        self.step = state["step"]
        self.plan, self.segments = Plan(**state["plan"]), list(state["segments"])
        self.stream.go_to(state["position"], rollbacks=state["rollbacks"], origin=Origin(**state["origin"]))
        self.objective.load_state_dict(state["objective"])
        self.irregular, self.tried = list(state.get("irregular", [])), list(state.get("tried", []))
        self.is_exhausted = self.objective.is_exhausted()
        self._faults.clear()
        self._faults.update(state.get("faults", {}))
        self.model.load_state_dict({**state["model"], **rank["model"]})
        self.update.load_state_dict(state["updates"])
        if rank["schedule"] is not None:
            self.update.schedule.load_state_dict(rank["schedule"])
        self.means.load_state_dict(rank["means"])

    def begin_segment(self, state: dict[str, Any], changes: dict[str, list[Any]], command: str) -> None:
        """Resume from a checkpoint with other settings, as a new segment of the run.

        Args:
            state: The checkpoint.
            changes: The settings that changed, with the old and the new value of each.
            command: The command that changed them.
        """
        self.load_state_dict(at_new_segment(state, changes))
        rest = Plan(self.unit, self.done, self.total)
        self.plan = next_plan(self.plan, changes, self.constants["config"]["schedule"], rest)
        if not self.update.schedule.depends_on_length:
            self.plan = Plan(self.unit, 0, self.total)
        self.segments.append({"step": self.step, "command": command, "changes": changes})
