"""A sweep: many runs of one command, and a file for the result of each, written by the process that trains it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from gantrain.config.naming import name_of_run
from gantrain.config.overrides import LENGTH, differences, flatten
from gantrain.errors import ConfigError
from gantrain.report.pages.page import read_status
from gantrain.runtime import distributed
from gantrain.runtime.atomic import write_file
from gantrain.runtime.gpus import claim_gpu
from gantrain.runtime.signals import SWEEP, is_orphaned, signals_to
from gantrain.training.objective import best_logged

JOBS = "jobs"  # The folder of the records in that of the sweep, one file for each run.


class Sweep:
    """The runs of one ``--multirun``, in the main process and in those that a launcher starts for the runs.

    Args:
        folder: Of the sweep.
        runs_folder: That holds the run folders; relative to the folder in which the command was typed.
        command: As typed.
        gpus: Of this machine, if each run should use one of them.

    Attributes:
        value: The best ``objective.metric`` of the last run, if it was logged.
        setup_failed: Whether the error of a run in this process is one of the whole sweep.
        waits: Whether Ctrl-C waits until the worker processes have saved their runs.
    """

    def __init__(self, folder: Path, *, runs_folder: Path, command: str, gpus: Sequence[str] = ()) -> None:
        self.folder = folder.absolute()
        self.runs_folder = runs_folder
        self.command = command
        self.gpus = list(gpus)
        self.value: float | None = None
        self.setup_failed = False
        self.waits = False
        self._needs_metric = False
        self._working_folder = Path.cwd()
        self._machine = socket.gethostname(), os.environ.get("CUDA_VISIBLE_DEVICES")
        self._main_process = os.getpid()
        self._session = uuid.uuid4().hex
        self._missing = [path for path in (self.folder, *self.folder.parents) if not path.exists()]

    @property
    def is_elsewhere(self) -> bool:
        """Whether this is a worker process, and not the main one."""
        return os.getpid() != self._main_process

    @property
    def _stop(self) -> Path:
        """The file whose existence stops other processes from starting more runs."""
        return self.folder / JOBS / f".stop-{self._session}"

    @contextmanager
    def defer_sigint(self) -> Iterator[None]:
        """Hide Ctrl-C from a launcher called inside, which would kill the runs while they save.

        Raises:
            KeyboardInterrupt: At the end, if Ctrl-C was pressed.
        """

        def stop(number: int, frame: FrameType | None) -> None:
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
        """Prepare this process for a run; False if the sweep has been stopped.

        Args:
            number: Of the run.
            judged: Whether the sweeper needs the objective of the run to choose the next ones.
        """
        self.value = None
        self._needs_metric = judged
        if self.is_elsewhere:
            os.chdir(self._working_folder)
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

    def run_job(
        self, config: Mapping[str, Any], overrides: Sequence[str], *, skip_done: bool, train: Callable[[], int]
    ) -> int:
        """Train a run, unless it is done already, and record its result.

        Args:
            config: Its configuration.
            overrides: Its own overrides.
            skip_done: Whether a run that is done is skipped.
            train: Trains it; returns an exit status.

        Returns:
            The exit status; 1 for an unexpected error, whose traceback is printed.

        Raises:
            ConfigError, OSError, MemoryError: As ``train`` does.
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
        except (ConfigError, OSError, MemoryError) as error:  # The caller reports it.
            exit_status = 2 if isinstance(error, ConfigError) else 1
            message = str(error) or type(error).__name__
            self._write_record(run, overrides, status="crashed", message=message, exit=exit_status)
            raise
        except KeyboardInterrupt:
            self._write_record(run, overrides, status="stopped", exit=130)
            if self.waits and self.is_elsewhere:  # The launcher would kill the other runs.
                return 130
            raise
        except Exception as error:  # The other runs continue.
            traceback.print_exc()
            message = f"{type(error).__name__}: {error}"
            self._write_record(run, overrides, status="crashed", message=message, exit=1)
            return 1
        finally:
            if self.waits and self.is_elsewhere:  # Ctrl-C in an idle worker would end the whole pool.
                signal.signal(signal.SIGINT, _ignore)
        state = "stopped" if status else read_status(folder).get("state", "done")
        return self._record_result(config, overrides, state, status)

    def _record_result(self, config: Mapping[str, Any], overrides: Sequence[str], state: str, status: int) -> int:
        """Record the result of a run that did not crash."""
        run, metric, message = config["name"], config["objective"]["metric"], ""
        if metric is not None and not status:
            self.value = best_logged(self.runs_folder / run, metric, config["objective"]["mode"])
            if self.value is None:
                message = f"objective.metric={metric} was never logged"
                distributed.print_rank_zero(f"warning: {message}")
                status = 2 if self._needs_metric else 0
        self._write_record(run, overrides, status=state, message=message, exit=status, **config["objective"])
        return status

    def record_failure(self, overrides: Sequence[str], choices: Mapping[str, str | None], message: str) -> None:
        """Record a run that failed before it started."""
        self._write_record(name_of_run(overrides, choices), overrides, status="crashed", message=message, exit=2)

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
        """The records of the runs of this command. The folder of a sweep without any run folder is removed.

        Args:
            stopped: Whether the command was interrupted, and its runs with it.
        """
        records = [record for record in read_jobs(self.folder) if record["session"] == self._session]
        for record in records:
            if record["exit"] is None:  # Its process has ended without a record.
                record |= {"status": "stopped", "exit": 130} if stopped else LOST
                self._save(record)
        if not any((self.runs_folder / record["run"]).exists() for record in read_jobs(self.folder)):
            if self.folder in self._missing:
                shutil.rmtree(self.folder, ignore_errors=True)
            for parent in self._missing:
                with suppress(OSError):  # It is not empty.
                    parent.rmdir()
        return records


def _ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing; unlike with ``SIG_IGN``, the next run can install a handler."""


LOST = {"status": "crashed", "message": "its process was killed, or ended without a message", "exit": 1}


def read_jobs(folder: Path) -> list[dict[str, Any]]:
    """The records of a sweep in the natural order of their runs' names, 2 before 10; other files are skipped."""
    records = []
    for path in sorted((folder / JOBS).glob("*.json"), key=_natural_key):
        with suppress(OSError, ValueError):
            record = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(record, dict) and {"run", "status", "message", "overrides"} <= record.keys():
                records.append(record)
    return records


def _natural_key(path: Path) -> list[str | float]:
    """The text and the numbers of a name in turn."""
    parts = re.split(r"([0-9]+(?:[.][0-9]+)?(?:e-?[0-9]+)?)", path.stem)
    return [float(part) if number % 2 else part for number, part in enumerate(parts)]


def is_done(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether a folder has a finished run of this configuration and length, judged from its small files."""
    if read_status(folder).get("state") != "done" or not any(folder.glob("step_*.pt")):
        return False
    stored = read_config(folder)
    before, now = ({key: flatten(each).get(key) for key in LENGTH} for each in (stored, config))
    return before == now and not differences(stored, config)


def read_config(folder: Path) -> dict[str, Any]:
    """The configuration of a run; empty if it can't be read."""
    try:
        config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    except (OSError, YAMLError, OmegaConfBaseException):
        return {}
    return {str(key): value for key, value in config.items()} if isinstance(config, dict) else {}
