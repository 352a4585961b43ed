"""Signals: the first lets a run save, the second ends it; what a run leaves and how it goes on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import TINY, assert_same_bits, newest

from gantrain.cli.main import main
from gantrain.optim.updates import Updates
from gantrain.report.pages.page import read_status
from gantrain.runtime import signals as interruption
from gantrain.runtime.signals import SIGNALS, Interruption, ignore_signals_in_worker, is_orphaned, requeue

NAMES = ["SIGINT", "SIGTERM", "SIGUSR1"]
RUN = ["train", *TINY, "name=run", "trainer.steps=6", "trainer.log_every=2"]


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Every test leaves the handlers as they were."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    now = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert now == before


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """``during(step, action)`` has something happen in the midst of that step (from 1) of a run."""

    def plan(step: int, action: Callable[[], None]) -> None:
        begin = Updates.begin

        def spied(self: Updates, number: int, progress: float) -> None:
            begin(self, number, progress)
            if number + 1 == step:
                action()

        monkeypatch.setattr(Updates, "begin", spied)

    return plan


def send(name: str) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), getattr(signal, name))


@pytest.mark.parametrize("name", NAMES)
def test_the_first_signal_is_taken_and_the_second_is_the_systems(name: str) -> None:
    with Interruption(None) as stop:
        assert not stop.is_asked_for()
        send(name)()
        assert stop.is_asked_for()
        assert stop.signal == getattr(signal, name)
        assert stop.reason(stop.signal) == name
        assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL] * 3


def test_what_a_process_was_started_to_pass_over_it_passes_over() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in the background of a script
    with Interruption(None) as stop:
        send("SIGINT")()
        assert not stop.is_asked_for()
        send("SIGTERM")()
        assert stop.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    signal.signal(signal.SIGINT, before)


def test_another_thread_may_train_too() -> None:
    asked: list[bool] = []

    def work() -> None:
        with Interruption(None) as stop:
            asked.append(stop.is_asked_for())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]


def test_time_that_is_up_is_a_wish_to_stop(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: now[0])
    stop = Interruption(2)
    now[0] += 119.9
    assert not stop.is_asked_for()
    now[0] += 0.1
    assert stop.is_asked_for()
    assert stop.reason(0) == "trainer.max_minutes reached"
    assert not Interruption(None).is_asked_for()


def test_a_rank_without_the_process_that_started_it_is_to_stop(monkeypatch) -> None:
    assert not is_orphaned()
    monkeypatch.setenv("GANTRAIN_LAUNCHER", str(os.getppid()))
    assert not is_orphaned()
    monkeypatch.setenv("GANTRAIN_LAUNCHER", str(os.getppid() + 1))
    assert is_orphaned()
    assert Interruption(None).is_asked_for()
    assert Interruption(None).reason(0) == "the process that started it is gone"


def test_a_process_of_the_run_outlives_what_the_group_is_sent() -> None:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        ignore_signals_in_worker()
        os.write(writing, b"ready")
        while True:
            signal.pause()
    os.read(reading, 5)
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    while signal_pending(pid, signal.SIGTERM):
        pass
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    while os.waitpid(pid, os.WNOHANG) == (0, 0):  # obeyed once the first has been seen
        os.kill(pid, signal.SIGTERM)


def signal_pending(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return any(mask >> (number - 1) & 1 for mask in pending)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_resumes_bit_identically_after_a_signal(name: str, during, train, capsys) -> None:
    whole = train("whole", "trainer.steps=6", "trainer.log_every=2")
    during(3, send(name))
    assert main(RUN) == 128 + getattr(signal, name)
    assert newest("run")["step"] == 3
    assert re.search(rf"Stopped at step 3 and saved \({name}\).*: gantrain train ", capsys.readouterr().err)
    told = read_status(Path("checkpoints/run"))
    assert (told["state"], told["reason"]) == ("stopped", name)  # the state is one that the pages know
    during(0, send(name))
    assert main(RUN) == 0
    again = newest("run")
    for key in ("step", "position", "model", "updates", "ranks"):
        assert_same_bits(again[key], whole[key], key)
    assert Path("checkpoints/run/losses.jsonl").read_bytes() == Path("checkpoints/whole/losses.jsonl").read_bytes()
    assert "stopped" not in Path("checkpoints/run/index.html").read_text()


def test_a_run_that_was_to_start_over_is_told_how_it_goes_on_instead(during, capsys) -> None:
    during(3, send("SIGTERM"))
    assert main([*RUN, "resume=never"]) == 143
    typed = re.search(r"Stopped at step 3 and saved \(SIGTERM\).*: gantrain (.*)", capsys.readouterr().err)[1]
    during(0, send("SIGTERM"))
    assert main(typed.split()) == 0
    assert "Resuming checkpoints/run at step 3" in capsys.readouterr().err


def test_a_signal_in_the_last_step_changes_nothing_of_the_run_but_is_told(during, train) -> None:
    whole = train("whole", "trainer.steps=6", "trainer.log_every=2")
    during(6, send("SIGTERM"))
    assert main(RUN) == 143  # as with several processes, whose first has passed it on
    assert_same_bits(newest("run")["model"], whole["model"])
    assert "done" in Path("checkpoints/run/index.html").read_text()


def test_time_that_is_up_saves_and_is_no_failure(capsys) -> None:
    assert main([*RUN, "trainer.max_minutes=1e-9"]) == 0
    assert newest("run")["step"] == 1
    assert "Stopped at step 1 and saved (trainer.max_minutes reached)" in capsys.readouterr().err
    told = read_status(Path("checkpoints/run"))
    assert (told["state"], told["reason"]) == ("stopped", "trainer.max_minutes reached")


@pytest.mark.parametrize("step", [2, 3])
def test_a_sweep_ends_with_the_run_that_was_interrupted(step: int, during) -> None:
    during(step, send("SIGTERM"))
    assert main(["train", "-m", *TINY, "trainer.steps=3", "seed=1,2"]) == 143
    assert len(list(Path("checkpoints").glob("*/index.html"))) == 1


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_job_that_slurm_starts_again_never_starts_over(restarts: int, train, monkeypatch, capsys) -> None:
    train("run", "trainer.steps=3")
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    assert main([*RUN, "resume=never"]) == 0
    assert ("Resuming checkpoints/run at step 3" in capsys.readouterr().err) == bool(restarts)


@pytest.fixture
def scontrol(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """``scontrol(status)`` puts a command of that name on the path; the file returned holds its arguments."""

    def make(status: int) -> Path:
        Path("bin").mkdir()
        command, told = Path("bin/scontrol"), Path("asked.txt")
        command.write_text(f'#!/bin/sh\necho "$@" > {told.absolute()}\necho "no such job" >&2\nexit {status}\n')
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{command.parent.absolute()}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "4711")
        return told

    return make


def test_under_slurm_its_warning_asks_for_another_start_which_goes_on(during, scontrol, capsys) -> None:
    asked = scontrol(0)
    during(3, send("SIGUSR1"))
    assert main(RUN) == 138
    assert asked.read_text() == "requeue 4711\n"
    assert "SLURM requeued job 4711" in capsys.readouterr().err
    during(0, send("SIGUSR1"))
    assert main(RUN) == 0  # what the batch script then runs
    assert "Resuming checkpoints/run at step 3" in capsys.readouterr().err


def test_slurm_is_not_asked_where_a_run_is_ended_for_good(during, scontrol) -> None:
    asked = scontrol(0)
    during(3, send("SIGTERM"))
    assert main(RUN) == 143
    assert not asked.exists()


def test_where_slurm_refuses_that_is_told(scontrol) -> None:
    scontrol(1)
    assert requeue() == "warning: SLURM did not requeue job 4711: no such job"


def test_without_slurm_nobody_is_asked(monkeypatch, scontrol) -> None:
    asked = scontrol(0)
    monkeypatch.delenv("SLURM_JOB_ID")
    assert requeue() == ""
    assert not asked.exists()
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("PATH", "")
    assert requeue() == ""


def test_a_signal_while_images_are_decoded_stops_before_the_first_step(monkeypatch, capsys) -> None:
    from gantrain.data.sets.digits import Digits

    def keep(self: Digits, cache, indices=None) -> None:
        send("SIGTERM")()
        if cache.stop():
            raise KeyboardInterrupt

    monkeypatch.setattr(Digits, "use_cache", keep)
    assert main(RUN) == 143
    assert "Stopped before the first step (SIGTERM); run again: gantrain train" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


# ---- before a run


def interrupted_at(place: str) -> subprocess.CompletedProcess[str]:
    """The command, which is sent Ctrl-C where a library calls ``place`` and passes over whatever is raised there."""
    code = (
        "import os, signal, sys, tempfile\n"
        "from gantrain.cli.main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # which a background job passes over
        "def swallow(make):\n"
        "    def called(*of, **named):\n"
        "        try: os.kill(os.getpid(), signal.SIGINT)\n"
        "        except BaseException: pass\n"
        "        return make(*of, **named)\n"
        "    return called\n"
        f"{place}\n"
        f"sys.exit(main({RUN!r}))\n"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "place",
    [
        "import hydra; hydra.compose = swallow(hydra.compose)",
        "import omegaconf; omegaconf.OmegaConf.to_container = swallow(omegaconf.OmegaConf.to_container)",
    ],
)
def test_ctrl_c_exits_during_imports_and_composition(place: str, monkeypatch) -> None:
    Path("scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(Path("scratch").absolute()))
    Path("own").mkdir()
    monkeypatch.setenv("GANTRAIN_SCRATCH", str(Path("own").absolute()))  # A folder that is not gantrain's to delete.
    ended = interrupted_at(place)
    assert (ended.returncode, ended.stderr) == (130, "gantrain: interrupted during setup\n")
    assert sorted(path.name for path in Path().rglob("*")) == ["own", "scratch"]
