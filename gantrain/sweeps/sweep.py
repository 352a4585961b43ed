"""Many runs by one command: what became of each, in files that whichever process makes the run writes."""

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
from gantrain.config.settings import CHECKPOINTS
from gantrain.errors import ConfigError
from gantrain.report.pages.page import read_status
from gantrain.runtime import distributed
from gantrain.runtime.atomic import write_file
from gantrain.runtime.gpus import claim_gpu
from gantrain.runtime.signals import SWEEP, is_orphaned, signals_to
from gantrain.training.objective import best_logged

JOBS = "jobs"  # the folder of the records, one file a run, in that of the sweep


class Sweep:
    """The runs of one ``--multirun``, as seen by the process that was typed and by those that make the runs.

    Args:
        folder: Of the sweep.
        command: As typed.
        gpus: Of this machine, where each run is to have one of its own.

    Attributes:
        value: What the last run came to: the best of ``objective.metric``, if that was logged.
        setup_failed: Whether what is wrong with a run in this process is wrong with the whole sweep.
        waits: Whether Ctrl-C leaves it to the processes that make the runs to save them, and waits for that.
    """

    def __init__(self, folder: Path, *, command: str, gpus: Sequence[str] = ()) -> None:
        self.folder = folder.absolute()
        self.command = command
        self.gpus = list(gpus)
        self.value: float | None = None
        self.setup_failed = False
        self.waits = False
        self._judged = False
        self._here = Path.cwd()
        self._machine = socket.gethostname(), os.environ.get("CUDA_VISIBLE_DEVICES")
        self._process = os.getpid()
        self._session = uuid.uuid4().hex
        self._made = [path for path in (self.folder, *self.folder.parents) if not path.exists()]

    @property
    def is_elsewhere(self) -> bool:
        """Whether this is another process than the one that was typed."""
        return os.getpid() != self._process

    @property
    def _stop(self) -> Path:
        """The file that tells other processes to begin no more runs."""
        return self.folder / JOBS / f".stop-{self._session}"

    @contextmanager
    def defer_sigint(self) -> Iterator[None]:
        """Launch runs inside: a launcher that hears of Ctrl-C would kill them while they save.

        Raises:
            KeyboardInterrupt: At the end, if Ctrl-C came.
        """

        def stop(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a second one is for the launcher
            self._stop.parent.mkdir(parents=True, exist_ok=True)
            self._stop.touch()
            distributed.say("Stopping when all runs that go on have saved; Ctrl-C again kills them")

        with signals_to([signal.SIGINT] if self.waits else [], stop):
            try:
                yield
            finally:
                if self._stop.exists():
                    self._stop.unlink()
                    raise KeyboardInterrupt from None

    def prepare(self, number: int, *, judged: bool) -> bool:
        """Make this process ready for a run, whatever launched it; False if no more are wanted.

        Args:
            number: Of the run.
            judged: Whether its objective decides which runs come next.
        """
        self.value = None
        self._judged = judged
        if self.is_elsewhere:
            os.chdir(self._here)
            if self.waits:
                os.environ[SWEEP] = f"{os.getpid()} {self._process}"
            if self._stop.exists() or is_orphaned():
                return False
            if self.waits:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            if (socket.gethostname(), os.environ.get("CUDA_VISIBLE_DEVICES")) == self._machine:
                claim_gpu(self.gpus, number)  # nobody has given it one
        if number == 0:
            distributed.say(f"Sweep: {os.path.relpath(self.folder)}")
        return True

    def run_job(
        self, config: Mapping[str, Any], overrides: Sequence[str], *, skip_done: bool, train: Callable[[], int]
    ) -> int:
        """Make a run, unless it is done already, and keep what became of it.

        Args:
            config: Its configuration.
            overrides: Its own.
            skip_done: Whether a run that is done is left at that.
            train: Makes it; returns an exit status.

        Returns:
            The exit status; what nobody has foreseen is told with its trace, and is 1.

        Raises:
            ConfigError, OSError, MemoryError: As ``train`` does.
        """
        run, metric = config["name"], config["objective"]["metric"]
        folder = CHECKPOINTS / run
        if self._judged and metric is None:
            self.setup_failed = not self.is_elsewhere
            raise ConfigError(
                "sweeper=optuna needs objective.metric=NAME, a logged value (and objective.mode=max if more is better)"
            )
        if skip_done and config["resume"] == "auto" and not config["dry_run"] and is_done(folder, config):
            distributed.say(f"{folder} is done")
            return self._end(config, overrides, "done", 0)
        self._keep(run, overrides, "running")
        try:
            status = train()
        except (ConfigError, OSError, MemoryError) as error:  # told by who has called
            exit_status = 2 if isinstance(error, ConfigError) else 1
            self._keep(run, overrides, "crashed", message=str(error) or type(error).__name__, exit=exit_status)
            raise
        except KeyboardInterrupt:
            self._keep(run, overrides, "stopped", exit=130)
            if self.waits and self.is_elsewhere:  # the launcher would kill the others
                return 130
            raise
        except Exception as error:  # the other runs go on
            traceback.print_exc()
            self._keep(run, overrides, "crashed", message=f"{type(error).__name__}: {error}", exit=1)
            return 1
        finally:
            if self.waits and self.is_elsewhere:  # who waits for a run must not die of Ctrl-C: all the pool would
                signal.signal(signal.SIGINT, _pass_over)
        return self._end(config, overrides, "stopped" if status else read_status(folder).get("state", "done"), status)

    def _end(self, config: Mapping[str, Any], overrides: Sequence[str], state: str, status: int) -> int:
        """Keep what a run came to that did not crash."""
        run, metric, message = config["name"], config["objective"]["metric"], ""
        if metric is not None and not status:
            self.value = best_logged(CHECKPOINTS / run, metric, config["objective"]["mode"])
            if self.value is None:
                message = f"objective.metric={metric} was never logged"
                distributed.say(f"warning: {message}")
                status = 2 if self._judged else 0
        self._keep(run, overrides, state, message=message, exit=status, objective=config["objective"])
        return status

    def refuse(self, overrides: Sequence[str], choices: Mapping[str, str | None], message: str) -> None:
        """Keep that a run could not even begin."""
        self._keep(name_of_run(overrides, choices), overrides, "crashed", message=message, exit=2)

    def _keep(
        self,
        run: str,
        overrides: Sequence[str],
        status: str,
        *,
        message: str = "",
        exit: int | None = None,
        objective: Mapping[str, Any] | None = None,
    ) -> None:
        if distributed.rank() != 0:
            return
        record = {
            "run": run,
            "folder": os.path.relpath(CHECKPOINTS / run, self.folder),
            "command": self.command,
            "overrides": list(overrides),
            "status": status,
            "message": message,
            "exit": exit,
            **(objective or {}),
            "objective": self.value,
            "session": self._session,
            "time": round(time.time(), 1),
        }
        (self.folder / JOBS).mkdir(parents=True, exist_ok=True)
        write_file(self.folder / JOBS / f"{run}.json", json.dumps(record, indent=1) + "\n")

    def close(self, *, stopped: bool) -> list[dict[str, Any]]:
        """What became of the runs of this command; a sweep that has left no run leaves nothing.

        Args:
            stopped: Whether the command was interrupted, and its runs with it.
        """
        records = [record for record in read_jobs(self.folder) if record["session"] == self._session]
        for record in records:
            if record["exit"] is None:  # its process is gone
                record |= {"status": "stopped", "exit": 130} if stopped else LOST
                write_file(self.folder / JOBS / f"{record['run']}.json", json.dumps(record, indent=1) + "\n")
        if not any((CHECKPOINTS / record["run"]).exists() for record in read_jobs(self.folder)):
            if self.folder in self._made:
                shutil.rmtree(self.folder, ignore_errors=True)
            for parent in self._made:
                with suppress(OSError):  # there is something in it
                    parent.rmdir()
        return records


def _pass_over(number: int, frame: FrameType | None) -> None:
    """Do nothing; unlike ``SIG_IGN`` it leaves it to a run to take the signal."""


LOST = {"status": "crashed", "message": "its process ended without a word", "exit": 1}


def read_jobs(folder: Path) -> list[dict[str, Any]]:
    """The records of a sweep, by the names of their runs, 2 before 10; what is no record is passed over."""
    records = []
    for path in sorted((folder / JOBS).glob("*.json"), key=_by_numbers):
        with suppress(OSError, ValueError):
            record = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(record, dict) and {"run", "status", "message", "overrides"} <= record.keys():
                records.append(record)
    return records


def _by_numbers(path: Path) -> list[str | float]:
    """What sorts names as people do: text and numbers by turns."""
    parts = re.split(r"([0-9]+(?:[.][0-9]+)?(?:e-?[0-9]+)?)", path.stem)
    return [float(part) if place % 2 else part for place, part in enumerate(parts)]


def is_done(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether a folder holds just that run, as long as it is to be; seen from small files alone."""
    if read_status(folder).get("state") != "done" or not any(folder.glob("step_*.pt")):
        return False
    try:
        there = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    except (OSError, YAMLError, OmegaConfBaseException):
        return False
    if not isinstance(there, dict):
        return False
    then = {str(key): value for key, value in there.items()}
    before, now = ({key: flatten(c).get(key) for key in LENGTH} for c in (then, config))
    return before == now and not differences(then, config)
