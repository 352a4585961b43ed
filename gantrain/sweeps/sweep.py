"""A sweep: the runs of one command, and a file with the result of each, written by the process that trains it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from gantrain.config.naming import JOBS, name_of_run
from gantrain.config.overrides import LENGTH, differences, flatten
from gantrain.config.side_files import is_path, read_json, read_yaml, report_damage
from gantrain.errors import ConfigError
from gantrain.report.pages.page import Moment, read_status
from gantrain.runtime import console, distributed
from gantrain.runtime.atomic import write_file
from gantrain.runtime.gpus import claim_gpu
from gantrain.runtime.signals import SWEEP, is_orphaned, signals_to
from gantrain.training.objective import best_logged, mode_of

HYDRA_RECORD = "multirun.yaml"  # Written by Hydra into the folder of a sweep.
RECORD = {  # What such a file contains.
    **dict.fromkeys(("run", "folder", "command", "message", "session"), str),
    "status": Literal["running", "done", "stopped", "crashed"],
    **dict.fromkeys(("metric", "mode"), str | None),
    "overrides": list[str],
    "exit": int | None,
    "objective": float | None,
    "time": Moment,
}
MISSING = {"command": "", "session": "", "metric": None, "mode": "min", "exit": None, "objective": None, "time": 0.0}


class Sweep:
    """The runs of one ``--multirun``, in the main process and in the worker processes that a launcher starts.

    Args:
        folder: The folder of the sweep.
        runs_folder: The folder of all runs; relative to the current folder.
        command: The command, as typed.
        gpus: The GPUs of this machine, if each run should use one of them.
    """

    def __init__(self, folder: Path, *, runs_folder: Path, command: str, gpus: Sequence[str]) -> None:
        self.folder = folder.absolute()
        if (self.folder / JOBS).is_symlink():
            raise ConfigError(f"{folder / JOBS} is a symbolic link, to which no records are written: remove it")
        self.home = runs_folder
        self.runs_folder = runs_folder  # Contains the folder of the last run.
        self.command = command
        self.gpus = gpus
        self.value: float | None = None  # The best ``objective.metric`` of the last run, if it was logged.
        self.setup_failed = False  # Whether the error of a run in this process ends the whole sweep.
        self.keys: Sequence[str] = ()  # Those in which the runs differ, which are named first.
        self.waits = False  # Whether Ctrl-C waits until the worker processes have saved their runs.
        self.died = 0  # The number of worker processes that ended in the middle of a run.
        self.unrecorded = 0  # The number of these that ended before their runs were recorded; set by ``finalize``.
        self._needs_metric = False
        self._machine = socket.gethostname(), os.environ.get("CUDA_VISIBLE_DEVICES")
        self._main_process = os.getpid()
        self._session = uuid.uuid4().hex
        self._missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]

    @property
    def is_elsewhere(self) -> bool:
        """Whether this is a worker process."""
        return os.getpid() != self._main_process

    @property
    def _stop(self) -> Path:
        """The file whose existence stops other processes from starting more runs."""
        return self.folder / JOBS / f".stop-{self._session}"

    def count_death(self) -> None:
        """A worker process has ended in the middle of a run."""
        self.died += 1

    @contextmanager
    def defer_sigint(self) -> Iterator[None]:
        """Hide Ctrl-C from a launcher called inside, which would kill the runs while they save, until the end."""

        def stop(*_: object) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # A second Ctrl-C reaches the launcher.
            self._stop.parent.mkdir(parents=True, exist_ok=True)
            self._stop.touch()
            distributed.print_rank_zero("Stopping when all active runs have saved; Ctrl-C again kills them")

        with signals_to([signal.SIGINT] if self.waits else [], stop):
            try:
                yield
            finally:
                if self._stop.exists():
                    self._stop.unlink()
                    raise KeyboardInterrupt from None

    def prepare(self, number: int, *, judged: bool) -> bool:
        """Prepare this process for run ``number``; False if the sweep has been stopped.

        ``judged`` is whether the sweeper needs the objective of the run to choose the next ones.
        """
        self.value = None
        self._needs_metric = judged
        if self.is_elsewhere:
            if self.waits:
                os.environ[SWEEP] = f"{os.getpid()} {self._main_process}"
            if self._stop.exists() or is_orphaned():
                return False
            if self.waits:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            if (socket.gethostname(), os.environ.get("CUDA_VISIBLE_DEVICES")) == self._machine:
                claim_gpu(self.gpus, number)  # The launcher has not assigned a GPU.
        if number == 0:
            distributed.print_rank_zero(f"Sweep: {os.path.relpath(self.folder)}")
        return True

    def place(
        self, config: Mapping[str, Any], overrides: Sequence[str], choices: Mapping[str, str | None]
    ) -> dict[str, str]:
        """The ``name`` and ``checkpoints_dir`` of a run with this configuration: in the folder of the sweep.

        A run that exists beside the sweeps stays there, and a sweep over ``checkpoints_dir`` places its runs itself.
        """
        name, chosen = str(config["name"]), str(config["checkpoints_dir"])
        elsewhere = Path(chosen).expanduser() != self.home
        if elsewhere or any((self.home / name).glob("*.pt")):
            return {}
        if not any(word.startswith("name=") for word in overrides):
            name = name_of_run(overrides, choices, first=self.keys)
        folder = self.folder if self.home.is_absolute() else os.path.relpath(self.folder)
        return {"name": name, "checkpoints_dir": str(folder)}

    def run_job(
        self, config: Mapping[str, Any], overrides: Sequence[str], *, skip_done: bool, train: Callable[[], int]
    ) -> int:
        """Train a run and record its result.

        Args:
            config: The configuration of the run.
            overrides: The overrides of the run.
            skip_done: Whether to skip a run that is done.
            train: Trains the run; returns an exit status.

        Returns:
            The exit status; 1 for an unexpected error, whose traceback is printed.

        Raises:
            ConfigError, OSError, MemoryError: Raised by ``train``.
        """
        run, metric = config["name"], config["objective"]["metric"]
        folder = Path(config["checkpoints_dir"]).expanduser() / run
        self.runs_folder = folder.parent  # A sweep may set another for each run.
        if self._needs_metric and metric is None:
            self.setup_failed = not self.is_elsewhere
            raise ConfigError(
                "sweeper=optuna needs objective.metric=NAME, a logged value (and objective.mode=max if more is better)"
            )
        if skip_done and config["resume"] == "auto" and not config["dry_run"] and is_done(folder, config):
            distributed.print_rank_zero(f"{folder} is done")
            return self._record_result(config, overrides, "done", 0)
        self._write_record(run, overrides, status="running")
        try:
            status = train()
        except KeyboardInterrupt:
            self._write_record(run, overrides, status="stopped", exit=130)
            if self.waits and self.is_elsewhere:  # The launcher would kill the other runs.
                return 130
            raise
        except Exception as error:
            expected = isinstance(error, (ConfigError, OSError, MemoryError))
            name = type(error).__name__
            message = str(error) or name if expected else f"{name}: {error}"
            exit_status = 2 if isinstance(error, ConfigError) else 1
            self._write_record(run, overrides, status="crashed", message=message, exit=exit_status)
            if expected:  # The caller reports it.
                raise
            console.err(*traceback.format_exc().splitlines())  # The other runs continue.
            return 1
        finally:
            if self.waits and self.is_elsewhere:  # Ctrl-C in an idle worker would end the whole pool.
                # Unlike with SIG_IGN, the next run can install a handler.
                signal.signal(signal.SIGINT, lambda *_: None)
        state = "stopped" if status else read_status(folder).get("state", "done")
        return self._record_result(config, overrides, state, status)

    def _record_result(self, config: Mapping[str, Any], overrides: Sequence[str], state: str, status: int) -> int:
        """Record the result of a run that did not crash."""
        run, metric, message = config["name"], config["objective"]["metric"], ""
        mode = mode_of(metric, config["objective"]["mode"])
        if metric is not None and not status:
            self.value = best_logged(self.runs_folder / run, metric, mode)
            if self.value is None:
                message = f"objective.metric={metric} was never logged"
                distributed.print_rank_zero(f"warning: {message}")
                status = 2 if self._needs_metric else 0
        self._write_record(run, overrides, status=state, message=message, exit=status, metric=metric, mode=mode)
        return status

    def record_failure(self, overrides: Sequence[str], choices: Mapping[str, str | None], message: str) -> None:
        """Record a run that failed before it started."""
        name = name_of_run(overrides, choices, first=self.keys)
        self._write_record(name, overrides, status="crashed", message=message, exit=2)

    def _write_record(self, run: str, overrides: Sequence[str], **result: Any) -> None:
        record = {
            "run": run,
            "folder": os.path.relpath(self.runs_folder / run, self.folder),
            "command": self.command,
            "overrides": list(overrides),
            "message": "",
            "exit": None,
            **result,
            "objective": self.value,
            "session": self._session,
            "time": round(time.time(), 1),
        }
        if distributed.rank() == 0:
            self._save(record)

    def _save(self, record: Mapping[str, Any]) -> None:
        (self.folder / JOBS).mkdir(parents=True, exist_ok=True)
        write_file(self.folder / JOBS / f"{record['run']}.json", json.dumps(record, indent=1) + "\n")

    def finalize(self, *, stopped: bool) -> list[dict[str, Any]]:
        """The records of the runs of this command; ``stopped`` is whether the command was interrupted.

        The records of a sweep without any run folder are removed, and nothing else.
        """
        records = [record for record in read_jobs(self.folder) if record["session"] == self._session]
        for record in records:
            if record["exit"] is None:  # The process ended without recording a result.
                record |= {"status": "stopped", "exit": 130} if stopped else LOST
                self._save(record)
        self.unrecorded = max(0, self.died - sum(record["message"] == LOST["message"] for record in records))
        if not any((self.folder / record["folder"]).exists() for record in read_jobs(self.folder)):
            for path in (*(self.folder / JOBS).glob("*.json"), self.folder / HYDRA_RECORD):
                path.unlink(missing_ok=True)
            for folder in (self.folder / JOBS, *self._missing):
                with suppress(OSError):  # It is not empty.
                    folder.rmdir()
        return records


LOST = {"status": "crashed", "message": "its process was killed, or ended without a message", "exit": 1}


def read_jobs(folder: Path) -> list[dict[str, Any]]:
    """The records of a sweep in the natural order of the run names (2 before 10); damaged ones are skipped."""
    records = []
    for path in sorted((folder / JOBS).glob("*.json"), key=_natural_key):
        record = read_json(path, RECORD, required=("run", "status", "message", "overrides"))
        if record is not None:
            is_name = is_path(record["run"]) and Path(record["run"]).name == record["run"]
            if is_name and is_path(record.get("folder", "")):
                records.append({**MISSING, **record})
            else:
                report_damage(path, "no path of a run")
    return records


def _natural_key(path: Path) -> list[str | float]:
    """The alternating text and numbers of a name."""
    parts = re.split(r"([0-9]+(?:[.][0-9]+)?(?:e-?[0-9]+)?)", path.stem)
    return [float(part) if number % 2 else part for number, part in enumerate(parts)]


def is_done(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether a folder contains a completed run of this configuration and length; reads no checkpoint."""
    if read_status(folder).get("state") != "done" or not any(folder.glob("step_*.pt")):
        return False
    stored = read_config(folder)
    before, now = ({key: flatten(each).get(key) for key in LENGTH} for each in (stored, config))
    return before == now and not differences(stored, config)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run; empty if it can't be read."""
    return {str(key): value for key, value in read_yaml(folder / "config.yaml").items()}
