"""What a run writes beside its checkpoints: logs, images, a page; and its progress bar."""

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
from gantrain.report.images import compose_grids, image_entries, image_entry, sample_images, save_with_layout
from gantrain.report.log import LR_PREFIX, JsonlLog
from gantrain.report.loggers import AsyncLogger, Logger, end_all
from gantrain.report.pages.page import ASSETS, read_status, remove_leftovers
from gantrain.report.pages.training_page import TrainingPage
from gantrain.runtime.atomic import write_file
from gantrain.runtime.run_lock import LostFolderError


class Report:
    """The record of one run, written by rank 0; on other ranks every method does nothing.

    What can't be written costs a warning and never ends the run.

    Args:
        folder: The run folder; ``open`` creates it.
        command: The command of the run, as typed.
        config: The composed configuration.
        columns: Of the sample grids; None for one image of all visuals side by side.
        loggers: Loggers by the name that warnings call them.
        advice: Returns what to change where training waits for data; an empty text for nothing.
        active: Whether this process writes.
        home: The folder of all runs, whose page is written too; None for none.
        defaults: The default configuration of the run's model and data, for the page; None if it is not known.
        facts: About the run and its machine, for the page.
        networks: Number of parameters by network, for the page.
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
        self._loggers = [AsyncLogger(name, logger, self.say) for name, logger in loggers.items()] if active else []
        self._advice = advice
        self._stalls = DataStallMonitor()
        self._active = active
        self._losses = JsonlLog(folder / "losses.jsonl")
        self._speed = JsonlLog(folder / "speed.jsonl")
        about: dict[str, Any] = {"defaults": defaults, "facts": facts or {}, "networks": networks or {}}
        self._page = TrainingPage(folder, home=home, command=command, config=config, **about)
        self._step = 0
        self._warnings: set[str] = set()
        self._bar: tqdm[Any] | None = None
        self._last_log = (0.0, -1, 0.0)  # Time, images and seconds of waiting at the last log line; -1 before it.

    def open(self, step: int, *, done: int, total: float, unit: str) -> None:
        """Create the run folder, or resume in it; what was logged after ``step`` is dropped.

        Args:
            step: Steps made so far.
            done: Progress so far, in ``unit``.
            total: Length of the run, in ``unit``.
            unit: Unit of the run's length.
        """
        if not self._active:
            return
        self._truncate(step)
        with self._warn_on_io_error():
            write_file(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self._config)))
        self._open_page(step, done=done, total=total, unit=unit)
        self._step = step
        lines = [{name: value for name, value in line.items() if name not in CLOCK} for line in self._losses.records]
        for logger in self._loggers:
            logger.begin(step, flatten(self._config), lines)
        if self._bar is not None:  # The run resumes from an earlier step.
            self._bar.close()
        self._bar = tqdm(
            total=math.ceil(total),
            initial=done,
            unit=unit,
            desc=self.folder.name,
            dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else 30,  # Seconds; fewer lines in a log file.
        )
        self._last_log = (time.perf_counter(), -1, 0.0)

    def finish(self, step: int, *, done: int, total: float, unit: str) -> None:
        """Complete the page of a run that had made all its steps but was killed before it wrote so; see ``open``."""
        if not self._active:
            return
        status = read_status(self.folder)
        if (status.get("state"), status.get("step")) == ("done", step) and self.page.exists():
            with self._warn_on_io_error():
                self._page.write_home()  # The run may have been moved.
            return
        self._truncate(step)
        self._open_page(step, done=done, total=total, unit=unit)
        self.close("done", step)

    def _truncate(self, step: int) -> None:
        """Remove logs and images after a step, and incomplete files of a killed process."""
        remove_leftovers(self.folder)
        for log in (self._losses, self._speed):
            with self._warn_on_io_error():
                log.truncate(step)
        with self._warn_on_io_error():
            (self.folder / "images").mkdir(parents=True, exist_ok=True)
            for path, made_at in sample_images(self.folder):
                if made_at > step:
                    path.unlink()

    def _open_page(self, step: int, *, done: int, total: float, unit: str) -> None:
        with self._warn_on_io_error():
            images = image_entries(self.folder)
            tables = {"losses": self._losses.records, "speed": self._speed.records, "images": images}
            progress = {"begun": done, "done": done, "total": math.ceil(total), "unit": unit}
            last = self._losses.records[-1] if self._losses.records else {}
            clock = {name: last[name] for name in CLOCK if name in last}
            self._page.open(tables, step=step, thumbnail=images[-1]["url"] if images else None, **progress, **clock)

    def advance(self, done: int) -> None:
        """Show the progress so far, in the unit of the run's length."""
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
            with self._warn_on_io_error():
                self._page.heartbeat(done=done)

    def log(self, *, step: int, epoch: float, images: int, losses: dict[str, float], waited: float) -> None:
        """Add a line to the logs and the progress bar.

        Args:
            step: Steps made.
            epoch: As a fraction.
            images: Training images seen by all ranks.
            losses: Means since the last line; held-out metrics come in a line of their own.
            waited: Seconds this process has waited for data since the run was opened.
        """
        if not self._active:
            return
        self._step = step
        clock = {"step": step, "epoch": round(epoch, 4), "kimg": round(images / 1000, 4)}
        line = {**clock, **losses}
        with self._warn_on_io_error():
            self._losses.add(line)
        for logger in self._loggers:
            logger.scalars(step, losses)
        entries: list[tuple[str, Any]] = [("losses", line)]
        speed = self._measure_speed(images, waited)
        if speed:
            entries.append(("speed", {**clock, **speed, "time": round(time.time(), 1)}))
            with self._warn_on_io_error():
                self._speed.add(entries[-1][1])
        values = {name: value for name, value in losses.items() if not name.startswith(LR_PREFIX)}
        if self._bar is not None:
            shown = {"img/s": f"{speed['images_per_second']:.0f}"} if speed else {}
            if speed.get("data_wait", 0.0) > 0.01:
                shown["data"] = f"{speed['data_wait']:.0%}"
            self._bar.set_postfix({**shown, **{name: f"{value:.3f}" for name, value in values.items()}})
            status = {"done": self._bar.n, **clock, "values": values, **({"speed": speed} if speed else {})}
            with self._warn_on_io_error():
                self._page.update(entries, **status)

    def _measure_speed(self, images: int, waited: float) -> dict[str, float]:
        """Speed since the last log line; nothing at the first one."""
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
        for line in lines if self._active else ():
            tqdm.write(line, file=sys.stderr)

    def images(self, step: int, visuals: dict[str, Tensor]) -> None:
        """Save what the model shows at ``step``, (N, C, H, W) in [-1, 1] by name, and add it to the page."""
        if not self._active:
            return
        for name, (image, layout) in compose_grids(visuals, self._columns).items():
            path = self.folder / "images" / f"step_{step}_{name}.png"
            entry = image_entry(path, step, layout)
            with self._warn_on_io_error():
                save_with_layout(path, image, layout)
                self._page.update([("images", entry)], step=step, thumbnail=entry["url"])
            for logger in self._loggers:
                logger.image(step, name, image)

    @contextmanager
    def _warn_on_io_error(self) -> Iterator[None]:
        """Turn an OSError inside into a warning, printed once for each reason."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            if reason not in self._warnings and self.folder.exists():  # Without its folder the run is about to stop.
                self._warnings.add(reason)
                self.say([f"warning: can't write {error.filename or self.folder}: {reason}; training continues"])

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """End the line of the progress bar, so that messages start on a new one; write an error to the page."""
        if self._bar is not None:
            self._bar.close()
            self._active = self._active and not isinstance(error, LostFolderError)
            if error is not None:
                self.close(f"crashed: {str(error) or type(error).__name__}", self._step)

    def close(self, status: str, step: int) -> None:
        """End the progress bar, write the last state of logs and page, and end the loggers.

        Args:
            status: ``done``, ``stopped: <reason>`` or ``crashed: <reason>``.
            step: The last step made.
        """
        if self._bar is not None:
            self._bar.close()
        for log in (self._losses, self._speed) if self._active else ():
            with self._warn_on_io_error():
                log.catch_up()
        if self._active:
            state, _, reason = status.partition(": ")
            with self._warn_on_io_error():
                self._page.write(state, reason=reason or None, step=step)
        end_all(self._loggers, status)


CLOCK = ("epoch", "kimg")  # Progress of a run besides its step, in every log line.


class DataStallMonitor:
    """Detects, once, that training has waited for data for more than a tenth of the time, for long without a break."""

    SHARE = 0.1
    LINES = 6
    SECONDS = 60.0

    def __init__(self) -> None:
        self._lines, self._seconds = 0, 0.0  # Length of the current stall.
        self._reported = False

    def is_too_long(self, share: float, seconds: float) -> bool:
        """True at the first log line at which it is; ``share`` of the ``seconds`` before the line was spent waiting."""
        slow = share > self.SHARE
        self._lines, self._seconds = (self._lines + 1, self._seconds + seconds) if slow else (0, 0.0)
        first = not self._reported and self._lines >= self.LINES and self._seconds >= self.SECONDS
        self._reported = self._reported or first
        return first


def remove_report(folder: Path) -> None:
    """Delete the logs, images and page of a run that starts over."""
    names = ("losses.jsonl", "speed.jsonl", "index.html", "config.yaml", "losses.csv")
    for path in (*(folder / name for name in names), *folder.glob("events.out.tfevents.*")):
        path.unlink(missing_ok=True)
    for name in ("images", "crash", ASSETS):
        shutil.rmtree(folder / name, ignore_errors=True)
