"""What a run leaves behind beside its checkpoints: logs, images, a page, and a progress bar on the way."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from torch import Tensor
from tqdm import tqdm

from gantrain.config.overrides import flatten
from gantrain.report.images import arranged, images_of, images_shown, keep_arranged, shown_as
from gantrain.report.lines import RATE, Line, Lines
from gantrain.report.loggers import AsyncLogger, Logger, end_all
from gantrain.report.pages.page import BESIDE, read_status, remove_leftovers
from gantrain.report.pages.training_page import TrainingPage
from gantrain.runtime.atomic import write_file
from gantrain.runtime.run_lock import LostFolderError


class Report:
    """The record of one run, kept by rank 0; on other ranks every method does nothing.

    Args:
        folder: The run folder, made by ``open``.
        command: What made the run, as typed.
        config: The composed configuration.
        columns: Of the sample grids; None for one image of all visuals side by side.
        loggers: Where losses and images go besides, by what they are called.
        advice: Says what to change where data is waited for; may say nothing.
        active: Whether this process writes.
        home: The folder of all runs, whose page is kept too; None for none.
        defaults: What its model and data would be configured as alone, for the page; None if that is not known.
        facts: Of the run and where it runs, for the page.
        networks: Parameters by network, for the page.
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
        defaults: Mapping[str, Any] | None = None,
        facts: Mapping[str, str] | None = None,
        networks: Mapping[str, int] | None = None,
    ) -> None:
        self.folder = folder
        self.page = folder / "index.html"
        self._config = config
        self._columns = columns
        self._deliveries = [AsyncLogger(name, logger, self.say) for name, logger in loggers.items()] if active else []
        self._advice = advice
        self._waiting = DataStallMonitor()
        self._active = active
        self._losses = Lines(folder / "losses.jsonl")
        self._speed = Lines(folder / "speed.jsonl")
        about: dict[str, Any] = {"defaults": defaults, "facts": facts or {}, "networks": networks or {}}
        self._shown = TrainingPage(folder, home=home, command=command, config=config, **about)
        self._step = 0
        self._told: set[str] = set()
        self._bar: tqdm[Any] | None = None
        self._mark = (0.0, 0, 0.0)

    def open(self, step: int, *, done: int, total: float, unit: str) -> None:
        """Make the folder, or go on in it: what was logged after ``step`` is cut off, to be done again.

        Args:
            step: Steps already made.
            done: The same in the unit of the run's length.
            total: The run's length.
            unit: Its unit.
        """
        if not self._active:
            return
        self._go_back_to(step)
        with self._warn_on_io_error():
            write_file(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self._config)))
        self._show(step, done=done, total=total, unit=unit)
        self._step = step
        for delivery in self._deliveries:
            delivery.begin(step, flatten(self._config), [_without_clock(line) for line in self._losses.all])
        if self._bar is not None:  # gone back
            self._bar.close()
        self._bar = tqdm(
            total=math.ceil(total),
            initial=done,
            unit=unit,
            desc=self.folder.name,
            dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else 30,  # seconds; a log file wants few lines
        )
        self._mark = (time.perf_counter(), -1, 0.0)

    def finish(self, step: int, *, done: int, total: float, unit: str) -> None:
        """Tell of a run that had come to its end, and may have been killed before it wrote so; as for ``open``."""
        if not self._active:
            return
        told = read_status(self.folder)
        if (told.get("state"), told.get("step")) == ("done", step) and self.page.exists():
            with self._warn_on_io_error():
                self._shown.write_home()  # the run may have been moved
            return
        self._go_back_to(step)
        self._show(step, done=done, total=total, unit=unit)
        self.close("done", step)

    def _go_back_to(self, step: int) -> None:
        """Drop what was logged and shown after a step, and what a run that was killed has left half-written."""
        remove_leftovers(self.folder)
        for lines in (self._losses, self._speed):
            with self._warn_on_io_error():
                lines.go_back_to(step)
        with self._warn_on_io_error():
            (self.folder / "images").mkdir(parents=True, exist_ok=True)
            for path, of in images_of(self.folder):
                if of > step:
                    path.unlink()

    def _show(self, step: int, *, done: int, total: float, unit: str) -> None:
        """Write the page anew."""
        lines = [("losses", line) for line in self._losses.all] + [("speed", line) for line in self._speed.all]
        with self._warn_on_io_error():
            images = images_shown(self.folder)
            lines += [("pictures", image) for image in images]
            newest = images[-1]["url"] if images else None
            how_far = {"begun": done, "done": done, "total": math.ceil(total), "unit": unit}
            last = self._losses.all[-1] if self._losses.all else {}
            how_far |= {key: last[key] for key in ("epoch", "kimg") if key in last}
            self._shown.open(lines, step=step, thumbnail=newest, **how_far)

    def advance(self, done: int) -> None:
        """So much of the run lies behind now, in the unit of its length."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            with self._warn_on_io_error():
                self._shown.beat(done=done)

    def log(self, *, step: int, epoch: float, images: int, losses: dict[str, float], waited: float) -> None:
        """Add a line to the logs and the progress bar.

        Args:
            step: Steps made.
            epoch: As a fraction.
            images: Images seen by all ranks.
            losses: Means since the last line; a held-out figure may come in a line of its own.
            waited: Seconds that the run has waited for data in this process.
        """
        if not self._active:
            return
        self._step = step
        clock = {"step": step, "epoch": round(epoch, 4), "kimg": round(images / 1000, 4)}
        line = {**clock, **losses}
        with self._warn_on_io_error():
            self._losses.add(line)
        with self._warn_on_io_error():
            self._shown.line("losses", line)
        for delivery in self._deliveries:
            delivery.scalars(step, losses)
        now, (then, before, waited_before) = time.perf_counter(), self._mark
        self._mark = (now, images, waited)
        speed: dict[str, float] = {}
        if before >= 0 and images > before:
            speed = {
                "images_per_second": round((images - before) / (now - then), 1),
                "data_wait": round((waited - waited_before) / (now - then), 4),
            }
            line = {**clock, **speed, "time": round(time.time(), 1)}
            with self._warn_on_io_error():
                self._speed.add(line)
            with self._warn_on_io_error():
                self._shown.line("speed", line)
            if self._waiting.is_too_long(speed["data_wait"], now - then) and (advice := self._advice()):
                self.say([f"Data is waited for {speed['data_wait']:.0%} of the time: give {advice}"])
        values = {name: value for name, value in losses.items() if not name.startswith(RATE)}
        if self._bar is not None:
            self._bar.set_postfix({**_shown(speed), **{name: f"{value:.3f}" for name, value in values.items()}})
            told = {"done": self._bar.n, **clock, "values": values, **({"speed": speed} if speed else {})}
            with self._warn_on_io_error():
                self._shown.tell(**told)

    def say(self, lines: Iterable[str]) -> None:
        """Print lines above the progress bar."""
        for line in lines if self._active else ():
            tqdm.write(line, file=sys.stderr)

    def images(self, step: int, visuals: dict[str, Tensor]) -> None:
        """Keep images of the networks at ``step``, and write the page anew."""
        if not self._active:
            return
        for what, (image, places) in arranged(visuals, self._columns).items():
            path = self.folder / "images" / f"step_{step}_{what}.png"
            line = shown_as(path, step, places)
            with self._warn_on_io_error():
                keep_arranged(path, image, places)
                self._shown.line("pictures", line)
                self._shown.tell(step=step, thumbnail=line["url"])
            for delivery in self._deliveries:
                delivery.image(step, what, image)

    def write_page(self, status: str, step: int) -> None:
        """Write ``index.html``; ``status`` may tell a reason after a colon."""
        if not self._active:
            return
        state, _, reason = status.partition(": ")
        with self._warn_on_io_error():
            self._shown.write(state, reason=reason or None, step=step)

    @contextmanager
    def _warn_on_io_error(self) -> Iterator[None]:
        """What can't be written inside costs a warning, one for each reason; a run is worth more than its page."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            if reason not in self._told and self.folder.exists():  # else the run is about to stop
                self._told.add(reason)
                self.say([f"warning: can't write {error.filename or self.folder}: {reason}; training goes on"])

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """End the line of the progress bar, so that messages start on one of their own; the page tells of an error."""
        if self._bar is not None:
            self._bar.close()
            self._active = self._active and not isinstance(error, LostFolderError)
            if error is not None:
                self.close(f"crashed: {str(error) or type(error).__name__}", self._step)

    def close(self, status: str, step: int) -> None:
        """End the progress bar, and write what has not been written yet and the page for the last time."""
        if self._bar is not None:
            self._bar.close()
        for lines in (self._losses, self._speed) if self._active else ():
            with self._warn_on_io_error():
                lines.catch_up()
        self.write_page(status, step)
        end_all(self._deliveries, status)


class DataStallMonitor:
    """Whether data has been waited for too long, told once: more than a tenth of the time, for long on end."""

    SHARE = 0.1
    LINES = 6
    SECONDS = 60.0

    def __init__(self) -> None:
        self._lines = 0
        self._seconds = 0.0
        self._told = False

    def is_too_long(self, share: float, seconds: float) -> bool:
        """True at the first log line at which it is.

        Args:
            share: Of the time since the last line that was spent waiting.
            seconds: That time.
        """
        slow = share > self.SHARE
        self._lines = self._lines + 1 if slow else 0
        self._seconds = self._seconds + seconds if slow else 0.0
        first = not self._told and self._lines >= self.LINES and self._seconds >= self.SECONDS
        self._told = self._told or first
        return first


def _shown(speed: dict[str, float]) -> dict[str, str]:
    """Speed as the progress bar shows it; waiting only where there is some."""
    shown = {"img/s": f"{speed['images_per_second']:.0f}"} if speed else {}
    return {**shown, "data": f"{speed['data_wait']:.0%}"} if speed.get("data_wait", 0.0) > 0.01 else shown


def _without_clock(line: Line) -> Line:
    """A line of the log as loggers get it, with no clock but the step."""
    return {name: value for name, value in line.items() if name not in ("epoch", "kimg")}


def remove_report(folder: Path) -> None:
    """Delete the logs, images and page of a run that starts over."""
    names = ("losses.jsonl", "speed.jsonl", "index.html", "config.yaml", "losses.csv")
    for path in (*(folder / name for name in names), *folder.glob("events.out.tfevents.*")):
        path.unlink(missing_ok=True)
    for name in ("images", "crash", BESIDE):
        shutil.rmtree(folder / name, ignore_errors=True)
