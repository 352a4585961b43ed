"""Messages of failed runs: out of memory, lost workers, advice after a divergence."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import newest
from failing_runs import RUN, KilledError, assert_crashed, last_line

from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.main import main
from gantrain.errors import ConfigError
from gantrain.optim.updates import Updates
from gantrain.report import Report
from gantrain.training import failures


def config(precision: str = "float32", **model: float) -> dict[str, Any]:
    return {
        "trainer": {"precision": precision, "on_divergence": "stop"},
        "model": model,
        "optimizer": {"lr": 0.0002},
        "data": {"batch_size": 64, "crop_size": 128},
        "network": {"width": 32},
    }


LOWER_RATE, ROLLBACK_KEY = "optimizer.lr", "trainer.on_divergence=rollback"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (config(), [LOWER_RATE, ROLLBACK_KEY]),
        (config("float16"), ["trainer.precision=float32", LOWER_RATE, ROLLBACK_KEY]),
        (config(r1=0, gradient_penalty=0), [LOWER_RATE, "model.r1=10", ROLLBACK_KEY]),
        (config(r1=0, gradient_penalty=10), [LOWER_RATE, ROLLBACK_KEY]),
    ],
)
def test_the_advice_fits_the_run(given: dict[str, Any], expected: list[str]) -> None:
    advice = failures.advice(given)
    assert re.findall(r"[a-z]+\.[a-z]\w*(?:=\w+)?", advice) == expected
    assert "0.0002" in advice  # the current optimizer.lr


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_out_of_memory_is_reported_in_one_line_with_remedies(error: BaseException, monkeypatch, capsys) -> None:
    begin = Updates.begin

    def full(self: Updates, number: int, progress: float) -> None:
        begin(self, number, progress)
        if number == 3:
            raise error

    monkeypatch.setattr(Updates, "begin", full)
    assert main([*RUN, "trainer.steps=6", "trainer.save_every=2"]) == 2
    line = last_line(capsys)
    assert re.match(r"gantrain: out of memory \(peak \d+\.\d GiB\b", line)
    for remedy in ("data.batch_size (4)", "data.load_size (16)", "network.width (4)", "trainer.precision=bfloat16"):
        assert remedy in line
    assert_crashed("out of memory")
    assert newest("run")["step"] == 2


def test_on_a_gpu_the_peak_is_that_of_the_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 23 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=24 * 2**30))
    message = failures.out_of_memory(config("bfloat16"), torch.device("cuda", 1))
    assert message.startswith("out of memory (peak 23.0 of 24.0 GiB on cuda:1")
    for remedy in ("data.batch_size (64)", "data.crop_size (128)", "network.width (32)"):
        assert remedy in message
    assert "trainer.precision" not in message


def test_other_errors_are_raised_unchanged() -> None:
    for error in (RuntimeError("shapes"), ValueError("x"), ConfigError("y")):
        with pytest.raises(type(error), match=str(error)), failures.explained(config(), torch.device("cpu")):
            raise error


@pytest.mark.parametrize("error", [ConnectionResetError(104, "reset"), EOFError(), FileNotFoundError(2, "/tmp/pymp-x")])
def test_a_batch_lost_with_its_worker_is_reported_as_a_lost_worker(error: Exception) -> None:
    def explained(*exit_codes: int) -> None:
        with failures.explained(config(), torch.device("cpu"), lambda: exit_codes):
            raise error

    with pytest.raises(ConfigError, match="a data worker was killed"):
        explained(0, -signal.SIGTERM, -signal.SIGKILL)
    with pytest.raises(type(error)):
        explained(0, -signal.SIGTERM)


@pytest.mark.parametrize(
    ("codes", "word"),
    [([0, -9], "memory"), ([-15, -7], "shared memory"), ([-11, 0], "SIGSEGV"), ([3], "worker"), ([], "worker")],
)
def test_lost_workers_are_explained_by_their_exit_codes(codes: list[int], word: str) -> None:
    assert word in failures.lost_worker(codes)


@pytest.mark.parametrize("file", ["torch/_inductor/output_code.py", "torch/nn/functional.py"])
@pytest.mark.parametrize("compiled", [True, False])
def test_what_torchs_compiler_raises_is_explained(file: str, compiled: bool) -> None:
    settings = config()
    settings["trainer"]["compile"] = compiled
    code = compile("raise AssertionError('expected size 8==8\\nError in op')", f"/site/{file}", "exec")
    explains = compiled and "_inductor" in file
    with (
        pytest.raises(ConfigError if explains else AssertionError) as caught,
        failures.explained(settings, torch.device("cpu")),
    ):
        exec(code)
    if explains:
        assert re.search(
            r"trainer\.compile=true: .*\(expected size 8==8\).* trainer\.compile=false$", str(caught.value)
        )


def test_a_run_killed_after_its_last_checkpoint_is_finished(monkeypatch, capsys) -> None:
    command = [*RUN, "trainer.steps=4", "trainer.save_every=2"]

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Report, "close", killed)
        with pytest.raises(KilledError):
            main(command)
    run = Path("checkpoints/run")
    assert "done" not in (run / "index.html").read_text()
    logs = (run / "losses.jsonl").read_bytes()
    assert main(command) == 0
    assert "finished at step 4" in capsys.readouterr().err
    assert "done" in (run / "index.html").read_text()
    assert Checkpoints(run).steps() == [2, 4]
    assert (run / "losses.jsonl").read_bytes() == logs


@pytest.mark.parametrize(
    ("message", "codes"),
    [
        ("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)", ()),
        (
            "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's workers are "
            "out of shared memory. Please try to raise your shared memory limit.",
            (0, -signal.SIGBUS),
        ),
    ],
)
def test_too_little_shared_memory_is_reported_with_remedies(message: str, codes: tuple[int, ...]) -> None:
    given = failures.explained(config(), torch.device("cpu"), lambda: codes)
    with pytest.raises(ConfigError, match=r"shared memory .*data\.num_workers=0.* --shm-size"), given:
        raise RuntimeError(message)
