"""What a run writes besides its checkpoints: logs, images, a page; and its progress bar."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias

from omegaconf import OmegaConf
from torch import Tensor

from gantrain.config.overrides import change_lines, flatten
from gantrain.report.images import compose_grids, image_entries, image_entry, sample_images, save_with_layout
from gantrain.report.log import CLOCK, LR_PREFIX, NOTE, PROTOCOL, TABLES, JsonlLog, Line
from gantrain.report.loggers import AsyncLogger, Logger, end_all
from gantrain.report.pages.page import read_status, remove_leftovers
from gantrain.report.pages.training_page import TrainingPage
from gantrain.report.progress_bar import ProgressBar
from gantrain.report.stalls import DataStallMonitor, PauseMonitor
from gantrain.runtime import console
from gantrain.runtime.atomic import write_file
from gantrain.runtime.run_lock import LostFolderError

P = ParamSpec("P")
Segments: TypeAlias = Sequence[Mapping[str, Any]]


class Report:
    """The logs, images and page of one run, written by rank 0; on other ranks every method does nothing.

    A file that can't be written causes a warning and never ends the run.

    Args:
        folder: The run folder; ``open`` creates it.
        command: The command of the run, as typed.
        config: The composed configuration.
        columns: The number of columns of sample grids; None for one image of all visuals side by side.
        loggers: Loggers by the name that warnings call them.
        advice: Returns what to change if training waits for data; an empty text for nothing.
        active: Whether this process writes.
        home: The folder of all runs, whose page is also written; None for none.
        defaults: Composes the default configuration of the run's model and data, for the page; None if unknown.
        facts: Facts about the run and its machine, for the page.
        networks: The number of parameters by network, for the page.
        higher: The names of metrics of which higher values are better.
    """

    def __init__(
        self,
        folder: Path,
        *,
        command: str,
        config: dict[str, Any],
        columns: int | None,
        loggers: Mapping[str, Logger],
        advice: Callable[[], str],
        active: bool,
        home: Path | None = None,
        defaults: Callable[[], Mapping[str, Any] | None] = lambda: None,
        facts: Mapping[str, str] | None = None,
        networks: Mapping[str, int] | None = None,
        higher: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._higher = list(higher)
        self.page = folder / "index.html"
        self._config = config
        self._columns = columns
        self._loggers = [AsyncLogger(name, logger, self.say) for name, logger in loggers.items()] if active else []
        self._advice = advice
        self._stalls = DataStallMonitor()
        self._pauses = PauseMonitor()
        self._active = active
        self._logs = {table: JsonlLog(folder / f"{table}.jsonl") for table in TABLES}
        self._defaults = cache(defaults)  # It takes a while, so the first step does not wait for it.
        self._page = TrainingPage(folder, home, command, config, None, facts or {}, networks or {})
        self._step = 0
        self._warnings: set[str] = set()
        self._bar: ProgressBar | None = None
        # Time, images and seconds of waiting at the last log line; -1 images before the first one.
        self._last_log = (0.0, -1, 0.0)

    def open(self, step: int, *, done: int, total: float, unit: str, segments: Segments = ()) -> None:
        """Create the run folder, or resume in it; log lines and images of steps after ``step`` are removed.

        Args:
            step: Steps completed so far.
            done: Progress so far, in ``unit``.
            total: Length of the run, in ``unit``.
            unit: Unit of the run's length.
            segments: The first ``step``, the ``command`` and the ``changes`` of each segment of the run; the first
                command describes the run.
        """
        if not self._active:
            return
        self._truncate(step)
        config = OmegaConf.to_yaml(OmegaConf.create(self._config))
        self._attempt(write_file, self.folder / "config.yaml", config)
        self._attempt(self._open_page, step, done=done, total=total, unit=unit, segments=segments)
        self._step = step
        if self._loggers:
            lines = sorted(
                (*self._logs["losses"].records, *self._logs["metrics"].records), key=lambda line: line["step"]
            )
            hidden = (*CLOCK[1:], PROTOCOL)
            lines = [{name: value for name, value in line.items() if name not in hidden} for line in lines]
            for logger in self._loggers:
                logger.begin(step, flatten(self._config), lines)
        if self._bar is not None:  # The run resumes from an earlier step.
            self._bar.close()
        self._bar = ProgressBar(self.folder.name, total=math.ceil(total), initial=done, unit=unit)
        self._last_log = (time.perf_counter(), -1, 0.0)

    def finish(self, step: int, *, done: int, total: float, unit: str, segments: Segments = ()) -> None:
        """Complete the page of a run that was killed after its last step; for the arguments see ``open``."""
        if not self._active:
            return
        status = read_status(self.folder)
        if (status.get("state"), status.get("step")) == ("done", step) and self.page.exists():
            self._attempt(self._page.write_home)  # The run may have been moved.
            return
        self._truncate(step)
        self._attempt(self._open_page, step, done=done, total=total, unit=unit, segments=segments)
        self.close("done", step)

    def _truncate(self, step: int) -> None:
        """Remove log lines and images of later steps, and incomplete files of a killed process."""
        remove_leftovers(self.folder)
        for log in self._logs.values():
            self._attempt(log.truncate, step)
        self._attempt((self.folder / "images").mkdir, parents=True, exist_ok=True)
        for path, image_step in sample_images(self.folder):
            if image_step > step:
                self._attempt(path.unlink)

    def _open_page(self, step: int, *, done: int, total: float, unit: str, segments: Segments) -> None:
        images = image_entries(self.folder)
        tables = {**{table: log.records for table, log in self._logs.items()}, "images": images}
        last = tables["losses"][-1] if tables["losses"] else {}
        status = {name: last[name] for name in CLOCK if name in last}
        status |= {"step": step, "begun": done, "done": done, "total": math.ceil(total), "unit": unit}
        status["higher"] = self._higher
        self._page.defaults = self._defaults()
        if segments:
            self._page.command = segments[0]["command"]
        status["segments"] = [
            {"step": each["step"], "command": each["command"], "changes": change_lines(each["changes"], "{0} → {1}")}
            for each in segments
        ]
        self._page.open(tables, thumbnail=images[-1]["url"] if images else None, **status)

    def advance(self, done: int) -> None:
        """Show the progress so far, in the unit of the run's length."""
        if self._bar is not None:
            if pause := self._pauses.since_last_step():
                self._bar.start_t += pause
                self._bar.last_print_t += pause
            self._bar.update(done - self._bar.n)
            self._attempt(self._page.heartbeat, pause=pause, done=done)

    def log(self, *, step: int, epoch: float, images: int, losses: dict[str, float], waited: float) -> None:
        """Add a line to the logs, and update the progress bar and the page.

        Args:
            step: Steps completed.
            epoch: Epochs completed, with a fractional part.
            images: Training images seen by all ranks.
            losses: Means since the last line; held-out metrics are logged in a separate line.
            waited: Seconds that this process has waited for data since the run was opened.
        """
        if not self._active:
            return
        self._step = step
        clock = _clock(step, epoch, images)
        entries = [("losses", clock | losses)]
        for logger in self._loggers:
            logger.scalars(step, losses)
        if speed := self._measure_speed(images, waited):
            entries.append(("speed", {**clock, **speed, "time": round(time.time(), 1)}))
        for table, line in entries:
            self._attempt(self._logs[table].add, line)
        values = {name: value for name, value in losses.items() if not name.startswith(LR_PREFIX)}
        if self._bar is not None:
            shown = {"data": f"{speed['data_wait']:.0%}"} if speed.get("data_wait", 0.0) > 0.01 else {}
            shown |= {name: f"{value:.3f}" for name, value in values.items()}  # The last are left out first.
            self._bar.set_postfix(shown | ({"img/s": f"{speed['images_per_second']:.0f}"} if speed else {}))
            status = {"done": self._bar.n, **clock, "values": values, **({"speed": speed} if speed else {})}
            self._attempt(self._page.update, entries, **status)

    def measured(
        self,
        step: int,
        numbers: dict[str, float],
        *,
        epoch: float,
        images: int,
        protocol: str,
        best: bool,
    ) -> None:
        """Print, log and show metrics of generated images.

        Args:
            step: Steps completed.
            numbers: The metrics by name.
            epoch: Epochs completed, with a fractional part.
            images: Training images seen by all ranks.
            protocol: How they were measured.
            best: Whether the objective has improved.
        """
        if not self._active or not numbers:
            return
        line = {**_clock(step, epoch, images), **numbers, PROTOCOL: protocol}
        for logger in self._loggers:
            logger.scalars(step, numbers)
        self._attempt(self._logs["metrics"].add, line)
        self._attempt(self._page.update, [("metrics", line)])
        shown = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items() if "_class_" not in name)
        self.say([f"Step {step}: {shown} ({protocol}){', the best so far' * best}"])

    def notes(self, step: int, texts: Iterable[str]) -> None:
        """Print, log and show what was found at a step."""
        for text in texts if self._active else ():
            line = {"step": step, NOTE: text}
            self._attempt(self._logs["notes"].add, line)
            self._attempt(self._page.update, [("notes", line)])
            self.say([f"Note: step {step}: {text}"])

    def _measure_speed(self, images: int, waited: float) -> dict[str, float]:
        """The speed since the last log line; empty at the first one."""
        (then, images_before, waited_before), now = self._last_log, time.perf_counter()
        self._last_log = (now, images, waited)
        if not 0 <= images_before < images:
            return {}
        seconds = now - then
        share = round((waited - waited_before) / seconds, 4)
        if self._stalls.is_too_long(share, seconds) and (advice := self._advice()):
            self.say([f"Training waits for data {share:.0%} of the time: set {advice}"])
        return {"images_per_second": round((images - images_before) / seconds, 1), "data_wait": share}

    def say(self, lines: Iterable[str]) -> None:
        """Print lines above the progress bar."""
        if self._active:
            console.above_bars(*lines)

    def images(self, step: int, visuals: dict[str, Tensor]) -> None:
        """Save the model's visuals at ``step``, (N, C, H, W) in [-1, 1] by name, and add them to the page."""
        if not self._active:
            return
        for name, (image, layout) in compose_grids(visuals, self._columns).items():
            path = self.folder / "images" / f"step_{step}_{name}.png"
            entry = image_entry(path, step, layout)
            if self._attempt(save_with_layout, path, image, layout):
                self._attempt(self._page.update, [("images", entry)], step=step, thumbnail=entry["url"])
            for logger in self._loggers:
                logger.image(step, name, image)

    def _attempt(self, write: Callable[P, object], *arguments: P.args, **options: P.kwargs) -> bool:
        """Whether ``write`` succeeds; each reason of an OSError is printed as a warning once."""
        try:
            write(*arguments, **options)
        except OSError as error:
            reason = error.strerror or str(error)
            if reason not in self._warnings and self.folder.exists():  # Without its folder the run is about to stop.
                self._warnings.add(reason)
                self.say([f"warning: can't write {error.filename or self.folder}: {reason}; training continues"])
            return False
        return True

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """End the line of the progress bar, so that messages start on a new line; write an error to the page."""
        if self._bar is not None:
            self._bar.close()
            self._active = self._active and not isinstance(error, LostFolderError)
            if error is not None:
                self.close(f"crashed: {str(error) or type(error).__name__}", self._step)

    def close(self, status: str, step: int) -> None:
        """End the progress bar, the logs, the page and the loggers after the last step.

        ``status`` is ``done``, ``stopped: <reason>`` or ``crashed: <reason>``.
        """
        if self._bar is not None:
            self._bar.close()
        if self._active:
            for log in self._logs.values():
                self._attempt(log.catch_up)
            state, _, reason = status.partition(": ")
            self._attempt(self._page.write, state, reason=reason or None, step=step)
        end_all(self._loggers, status)


def _clock(step: int, epoch: float, images: int) -> Line:
    return {"step": step, "epoch": round(epoch, 4), "kimg": round(images / 1000, 4)}
