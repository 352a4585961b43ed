"""At the first signal a run saves and stops, at the second it ends; it resumes bit-identically."""

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
    """Every test restores the handlers."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    now = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert now == before


@pytest.fixture
def during(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """``during(step, action)`` calls ``action`` within that step (from 1) of a run."""

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
def test_the_second_signal_has_its_default_effect(name: str) -> None:
    with Interruption(None) as stop:
        assert not stop.is_asked_for()
        send(name)()
        assert stop.is_asked_for()
        assert stop.signal == getattr(signal, name)
        assert stop.reason(stop.signal) == name
        assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL] * 3


def test_signals_that_are_ignored_at_start_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Shells start background jobs like this.
    with Interruption(None) as stop:
        send("SIGINT")()
        assert not stop.is_asked_for()
        send("SIGTERM")()
        assert stop.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    signal.signal(signal.SIGINT, before)


def test_a_thread_other_than_the_main_one_may_train() -> None:
    asked: list[bool] = []

    def work() -> None:
        with Interruption(None) as stop:
            asked.append(stop.is_asked_for())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]


def test_a_run_stops_after_max_minutes(monkeypatch) -> None:
    now = [100.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: now[0])
    stop = Interruption(2)
    now[0] += 119.9
    assert not stop.is_asked_for()
    now[0] += 0.1
    assert stop.is_asked_for()
    assert stop.reason(0) == "trainer.max_minutes reached"
    assert not Interruption(None).is_asked_for()


def test_a_rank_stops_if_its_launcher_has_ended(monkeypatch) -> None:
    assert not is_orphaned()
    monkeypatch.setenv("GANTRAIN_LAUNCHER", str(os.getppid()))
    assert not is_orphaned()
    monkeypatch.setenv("GANTRAIN_LAUNCHER", str(os.getppid() + 1))
    assert is_orphaned()
    assert Interruption(None).is_asked_for()
    assert Interruption(None).reason(0) == "the process that started it is gone"


def test_a_worker_ignores_the_first_signal_to_its_group() -> None:
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
    while os.waitpid(pid, os.WNOHANG) == (0, 0):  # The second SIGTERM ends it.
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
    status = read_status(Path("checkpoints/run"))
    assert (status["state"], status["reason"]) == ("stopped", name)
    during(0, send(name))
    assert main(RUN) == 0
    again = newest("run")
    for key in ("step", "position", "model", "updates", "ranks"):
        assert_same_bits(again[key], whole[key], key)
    assert Path("checkpoints/run/losses.jsonl").read_bytes() == Path("checkpoints/whole/losses.jsonl").read_bytes()
    assert "stopped" not in Path("checkpoints/run/index.html").read_text()


def test_the_command_to_resume_does_not_start_over(during, capsys) -> None:
    during(3, send("SIGTERM"))
    assert main([*RUN, "resume=never"]) == 143
    typed = re.search(r"Stopped at step 3 and saved \(SIGTERM\).*: gantrain (.*)", capsys.readouterr().err)[1]
    during(0, send("SIGTERM"))
    assert main(typed.split()) == 0
    assert "Resuming checkpoints/run at step 3" in capsys.readouterr().err


def test_a_signal_in_the_last_step_changes_only_the_exit_status(during, train) -> None:
    whole = train("whole", "trainer.steps=6", "trainer.log_every=2")
    during(6, send("SIGTERM"))
    assert main(RUN) == 143
    assert_same_bits(newest("run")["model"], whole["model"])
    assert "done" in Path("checkpoints/run/index.html").read_text()


def test_max_minutes_saves_and_exits_with_status_0(capsys) -> None:
    assert main([*RUN, "trainer.max_minutes=1e-9"]) == 0
    assert newest("run")["step"] == 1
    assert "Stopped at step 1 and saved (trainer.max_minutes reached)" in capsys.readouterr().err
    status = read_status(Path("checkpoints/run"))
    assert (status["state"], status["reason"]) == ("stopped", "trainer.max_minutes reached")


@pytest.mark.parametrize("step", [2, 3])
def test_a_sweep_ends_with_the_interrupted_run(step: int, during) -> None:
    during(step, send("SIGTERM"))
    assert main(["train", "-m", *TINY, "trainer.steps=3", "seed=1,2"]) == 143
    assert len(list(Path("checkpoints/sweeps").glob("*/*/step_*.pt"))) == 1


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_requeued_slurm_job_resumes_in_spite_of_resume_never(restarts: int, train, monkeypatch, capsys) -> None:
    train("run", "trainer.steps=3")
    monkeypatch.setenv("SLURM_RESTART_COUNT", str(restarts))
    assert main([*RUN, "resume=never"]) == 0
    assert ("Resuming checkpoints/run at step 3" in capsys.readouterr().err) == bool(restarts)


@pytest.fixture
def scontrol(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """``scontrol(status)`` puts a command of that name on the path; the returned file will contain its arguments."""

    def make(status: int) -> Path:
        Path("bin").mkdir()
        command, arguments = Path("bin/scontrol"), Path("asked.txt")
        command.write_text(f'#!/bin/sh\necho "$@" > {arguments.absolute()}\necho "no such job" >&2\nexit {status}\n')
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{command.parent.absolute()}:{os.environ['PATH']}")
        monkeypatch.setenv("SLURM_JOB_ID", "4711")
        return arguments

    return make


def test_slurms_warning_requeues_the_job_which_resumes(during, scontrol, capsys) -> None:
    asked = scontrol(0)
    during(3, send("SIGUSR1"))
    assert main(RUN) == 138
    assert asked.read_text() == "requeue 4711\n"
    assert "SLURM requeued job 4711" in capsys.readouterr().err
    during(0, send("SIGUSR1"))
    assert main(RUN) == 0  # SLURM runs the same batch script again.
    assert "Resuming checkpoints/run at step 3" in capsys.readouterr().err


def test_sigterm_does_not_requeue_a_slurm_job(during, scontrol) -> None:
    asked = scontrol(0)
    during(3, send("SIGTERM"))
    assert main(RUN) == 143
    assert not asked.exists()


def test_a_refusal_by_slurm_is_reported(scontrol) -> None:
    scontrol(1)
    assert re.fullmatch("warning: .* job 4711: no such job", requeue())


def test_without_slurm_nothing_is_requeued(monkeypatch, scontrol) -> None:
    asked = scontrol(0)
    monkeypatch.delenv("SLURM_JOB_ID")
    assert requeue() == ""
    assert not asked.exists()
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("PATH", "")
    assert requeue() == ""


def test_a_signal_while_images_are_decoded_stops_before_the_first_step(monkeypatch, capsys) -> None:
    from gantrain.data.sets.digits import Digits

    def use_cache(self: Digits, cache, indices=None) -> None:
        send("SIGTERM")()
        if cache.stop():
            raise KeyboardInterrupt

    monkeypatch.setattr(Digits, "use_cache", use_cache)
    assert main(RUN) == 143
    assert "Stopped before the first step (SIGTERM); run again: gantrain train" in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def interrupted_at(place: str) -> subprocess.CompletedProcess[str]:
    """The command, which gets Ctrl-C inside a library call that ignores every exception."""
    code = (
        "import os, signal, sys, tempfile\n"
        "from gantrain.cli.main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # Background jobs ignore it.
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


# ---- the end of a launcher
