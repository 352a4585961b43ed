"""Runs that fail: their messages, the files that they leave, and how they resume."""

from __future__ import annotations

import json
import math
import multiprocessing
import multiprocessing.process
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, assert_same_bits, newest
from pages import data_of
from PIL import Image
from torch import Tensor

from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.main import main
from gantrain.data.base import Batch, ImageDataset
from gantrain.data.images import reader
from gantrain.data.sets.digits import Digits
from gantrain.data.stream import BatchStream
from gantrain.errors import ConfigError
from gantrain.optim.updates import Updates
from gantrain.report import Report
from gantrain.training import failures

RUN = ["train", *TINY, "name=run", "trainer.log_every=2"]
Poison = Callable[..., None]


@pytest.fixture(autouse=True)
def earlier_children() -> list[multiprocessing.process.BaseProcess]:
    """The processes that earlier tests have left."""
    EARLIER[:] = multiprocessing.active_children()
    return EARLIER


EARLIER: list[multiprocessing.process.BaseProcess] = []


def new_children() -> list[multiprocessing.process.BaseProcess]:
    """The processes that this test has started."""
    return [child for child in multiprocessing.active_children() if child not in EARLIER]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    """``poison(*steps)`` makes the generators' loss nan in those steps (from 1), always or ``times`` times in all."""

    def make(*steps: int, side: str = "generator", times: int = 1 << 30) -> None:
        left = [times]
        update = getattr(Updates, side)

        def bad(self: Updates, loss: Tensor) -> None:
            if self.step + 1 in steps and left[0] > 0:
                left[0] -= 1
                loss = loss * math.nan
            update(self, loss)

        monkeypatch.setattr(Updates, side, bad)

    return make


def assert_crashed(reason: str) -> None:
    """The page shows that the run crashed, and why."""
    status = data_of("checkpoints/run", "status")
    assert status["state"] == "crashed"
    assert status["reason"].startswith(reason)


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("side", ["generator", "discriminator"])
@pytest.mark.parametrize(("step", "saved"), [(5, 4), (4, 2), (1, 0)])
def test_diverged_weights_are_never_saved(side: str, step: int, saved: int, poison: Poison, capsys) -> None:
    poison(step, side=side)
    assert main([*RUN, "trainer.steps=8", "trainer.save_every=2"]) == 2
    assert max(Checkpoints(Path("checkpoints/run")).steps(), default=0) == saved
    for path in Path("checkpoints/run").glob("*.pt"):
        state = torch.load(path, weights_only=True)
        assert all(v.isfinite().all() for v in state["model"].values() if isinstance(v, Tensor))
    line = last_line(capsys)
    assert line.startswith(f"gantrain: diverged at step {step}: ")
    assert f"the gradient of the {side} is nan" in line
    assert f"see checkpoints/run/crash/step_{step}.json. Try " in line
    record = json.loads(Path(f"checkpoints/run/crash/step_{step}.json").read_text())
    assert record["step"] == step
    assert set(record["losses"]) == {"d_real", "d_fake", "g"}
    assert {"step": step, "side": side} in [{"step": n["step"], "side": n["side"]} for n in record["gradient_norms"]]
    assert_crashed("diverged at step")


def test_a_diverged_run_resumes_from_an_earlier_checkpoint(poison: Poison, train) -> None:
    whole = train("whole", "trainer.steps=8", "trainer.save_every=2", "trainer.log_every=2")
    poison(5, times=1)
    command = [*RUN, "trainer.steps=8", "trainer.save_every=2"]
    assert main(command) == 2
    assert main(command) == 0
    assert_same_bits(newest("run")["model"], whole["model"])
    assert Path("checkpoints/run/losses.jsonl").read_bytes() == Path("checkpoints/whole/losses.jsonl").read_bytes()


def test_losses_that_are_not_finite_are_named_with_the_images_of_the_step(capsys) -> None:
    Path("images").mkdir()
    for number in range(6):
        values = np.full((16, 16), number / 6, dtype=np.float32)
        np.save(f"images/{number}.npy", values)
    single = ["data=single", "data.root=images", "data.range=[0,1]", "data.depth=float32", "data.cache=off"]
    command = [*RUN, *single, "model=gan", "trainer.steps=4"]
    poisoned = Poisoned(3)
    with poisoned:
        assert main(command) == 2
    assert ": d_real is nan, " in last_line(capsys)
    record = json.loads(Path("checkpoints/run/crash/step_3.json").read_text())
    assert math.isnan(record["losses"]["d_real"])
    assert record["images"] == poisoned.names
    assert len(poisoned.names) == 4


class Poisoned:
    """A stream one of whose batches is nan, until the run has rolled back often enough."""

    def __init__(self, position: int, *, until: int = 1) -> None:
        self.position, self.until = position, until
        self.names: list[str] = []

    def __enter__(self) -> Poisoned:
        self._patch = pytest.MonkeyPatch()
        draw, poisoned = BatchStream.__next__, self

        def bad(stream: BatchStream) -> Batch:
            batch = draw(stream)
            if stream.position == poisoned.position and stream.rollbacks < poisoned.until:
                batch["image"].mul_(math.nan)
                poisoned.names = batch.get("name", [])
            return batch

        self._patch.setattr(BatchStream, "__next__", bad)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


ROLLBACK = [*RUN, "trainer.steps=9", "trainer.save_every=2", "trainer.on_divergence=rollback", "data.num_workers=2"]


def test_a_run_that_rolls_back_ends_well_with_consistent_logs(capsys) -> None:
    with Poisoned(5):
        assert main(ROLLBACK) == 0
    errors = capsys.readouterr().err
    assert re.search(r"\bstep 4\b.*\(rollback 1 of 3\)", errors)
    state = newest("run")
    assert (state["step"], state["rollbacks"]) == (9, 1)
    assert all(value.isfinite().all() for value in state["model"].values() if isinstance(value, Tensor))
    lines = [json.loads(line) for line in Path("checkpoints/run/losses.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 9]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert Path("checkpoints/run/crash/step_5.json").exists()
    assert "crashed" not in Path("checkpoints/run/index.html").read_text()


class KilledError(BaseException):
    """Ends a run in this process as abruptly as SIGKILL would."""


def test_a_run_that_diverges_again_at_once_rolls_back_further(capsys) -> None:
    with Poisoned(5, until=3):
        assert main([*ROLLBACK, "trainer.steps=7", "trainer.save_every=1", "trainer.keep=0"]) == 0
    lines = re.findall(r"^.*\(rollback \d of 3\)$", capsys.readouterr().err, re.MULTILINE)
    found = [re.search(r"back to step (\d)\b.*\(rollback (\d) of", line, re.IGNORECASE) for line in lines]
    assert [match and match.groups() for match in found] == [("4", "1"), ("3", "2"), ("2", "3")]
    assert newest("run")["rollbacks"] == 3


# Before it diverges, and after it has rolled back: not yet saved, and saved.
@pytest.mark.parametrize(("step", "until"), [(4, 1), (6, 1), (8, 1), (6, 2)])
def test_a_killed_run_that_rolls_back_is_bit_identical(step: int, until: int, monkeypatch) -> None:
    with Poisoned(5, until=until):
        assert main([*ROLLBACK, "name=whole"]) == 0
        begin, kills = Updates.begin, [step]

        def killed(self: Updates, number: int, progress: float) -> None:
            begin(self, number, progress)
            if kills == [number + 1]:
                kills.clear()
                raise KilledError

        monkeypatch.setattr(Updates, "begin", killed)
        with pytest.raises(KilledError):
            main(ROLLBACK)
        assert main(ROLLBACK) == 0
    again, whole = newest("run"), newest("whole")
    for key in ("step", "position", "rollbacks", "model", "updates", "ranks"):
        assert_same_bits(again[key], whole[key], key)
    assert Path("checkpoints/run/losses.jsonl").read_bytes() == Path("checkpoints/whole/losses.jsonl").read_bytes()


def test_after_a_rollback_the_images_come_in_another_order() -> None:
    seen: list[dict[int, list[str]]] = []
    for until in (0, 1):
        orders: dict[int, Any] = {}
        with Poisoned(5, until=until), pytest.MonkeyPatch.context() as patch:
            draw = BatchStream.__next__

            def spied(stream: BatchStream, draw: Any = draw, orders: dict[int, Any] = orders) -> Batch:
                batch = draw(stream)
                orders[stream.position] = batch["image"].clone()
                return batch

            patch.setattr(BatchStream, "__next__", spied)
            assert main([*ROLLBACK, f"name=run_{until}"]) == 0
        seen.append(orders)
    for position in range(1, 10):
        assert torch.equal(seen[0][position], seen[1][position]) == (position < 5), position


def test_rollbacks_are_limited(capsys) -> None:
    with Poisoned(5, until=9):
        assert main([*ROLLBACK, "trainer.rollbacks=2"]) == 2
        errors = capsys.readouterr().err
        assert "(rollback 1 of 2)" in errors
        assert "(rollback 2 of 2)" in errors
        last = errors.strip().splitlines()[-1]
        assert last.startswith("gantrain: diverged at step 5: ")
        assert "rollback" not in last
    with Poisoned(1, until=9):
        assert main([*ROLLBACK, "name=early"]) == 2  # There is no checkpoint to return to.


def test_a_scaler_may_skip_steps(train, monkeypatch) -> None:
    scale = torch.amp.GradScaler.scale
    monkeypatch.setattr(torch.amp.GradScaler, "scale", lambda self, loss: scale(self, loss) * 1e38 * 1e38)
    state = train("run", "trainer.precision=float16", "trainer.steps=3")
    assert state["step"] == 3
    assert state["updates"]["players"][0]["scaler"]["scale"] < 65536.0


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
def test_out_of_memory_is_one_line_with_what_to_lower(error: BaseException, monkeypatch, capsys) -> None:
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


def test_on_a_gpu_the_peak_is_the_gpus(monkeypatch) -> None:
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


WORKERS = [*RUN, "trainer.steps=200", "trainer.save_every=100", "data.num_workers=2"]


def in_a_worker(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None]) -> None:
    """Run ``action`` in a worker when it makes its 20th item of the training data."""
    this, item = os.getpid(), Digits.item
    count = [0]

    def bad(self: Digits, index: int, seed: int) -> Batch:
        count[0] += os.getpid() != this
        if count[0] == 20:
            action()
        return item(self, index, seed)

    monkeypatch.setattr(Digits, "items", ImageDataset.items)
    monkeypatch.setattr(Digits, "item", bad)


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), ["killed", "memory"]),
        (lambda: os.kill(os.getpid(), signal.SIGSEGV), ["SIGSEGV", "decoder"]),
        (lambda: os._exit(7), []),
    ],
)
def test_a_worker_that_dies_is_one_line_with_the_cause(
    action: Callable[[], None], words: list[str], monkeypatch, capfd
) -> None:
    in_a_worker(monkeypatch, action)
    assert main(WORKERS) == 2
    line = capfd.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("gantrain: a data worker ")
    assert all(word in line for word in words)
    assert_crashed(line.removeprefix("gantrain: "))
    assert new_children() == []


def broken() -> None:
    raise ValueError("a strange\nthing")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_item_that_fails_is_one_line_with_its_number_and_place(workers: int, monkeypatch, capsys) -> None:
    item = Digits.item

    def bad(self: Digits, index: int, seed: int) -> Batch:
        if index == 17:
            broken()
        return item(self, index, seed)

    monkeypatch.setattr(Digits, "items", ImageDataset.items)
    monkeypatch.setattr(Digits, "item", bad)
    assert main([*RUN, "trainer.steps=2000", "data.max_size=40", f"data.num_workers={workers}"]) == 2
    line = broken.__code__.co_firstlineno + 1
    message = last_line(capsys)
    assert message.startswith("gantrain: ")
    assert "item 17 " in message
    assert message.endswith(f": ValueError: a strange ({__file__}:{line})")
    assert new_children() == []
    monkeypatch.undo()


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_whose_decoder_fails_is_named(workers: int, monkeypatch, capsys) -> None:
    Path("images").mkdir()
    for number in range(4):
        Image.new("RGB", (20, 20)).save(f"images/{number}.png")
    decode = reader.decode
    monkeypatch.setattr(
        reader, "decode", lambda source, *rest: broken() if "2" in str(source) else decode(source, *rest)
    )
    single = ["data=single", "data.root=images", "model=gan", "trainer.steps=9", f"data.num_workers={workers}"]
    line = broken.__code__.co_firstlineno + 1
    message = f"images/2.png: ValueError: a strange ({__file__}:{line})"
    assert main([*RUN, *single, "data.cache=off"]) == 2
    assert last_line(capsys).endswith(message)
    assert main([*RUN, *single, "data.cache=memory"]) == 2  # in the threads that decode for the cache
    assert last_line(capsys).endswith(message)
    assert main([*RUN, *single, "data.cache=off", "data.on_error=skip"]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if message in line]
    assert warnings
    assert "warning: " in warnings[0]


def test_a_batch_that_cannot_be_collated_is_one_line(monkeypatch, capsys) -> None:
    monkeypatch.setattr(Digits, "items", lambda self, indices, seeds: broken())
    assert main([*RUN, "trainer.steps=2"]) == 2
    message = last_line(capsys)
    assert message.startswith("gantrain: ")
    assert "batch" in message
    assert ": ValueError: a strange (" in message


def test_an_unexpected_error_while_training_leaves_no_worker(monkeypatch) -> None:
    """Its traceback, which refers to the workers, may be stored by the code that catches it."""
    begin = Updates.begin

    def bad(self: Updates, number: int, progress: float) -> None:
        begin(self, number, progress)
        if number == 3:
            assert len(new_children()) == 2
            raise AssertionError("a bug")

    monkeypatch.setattr(Updates, "begin", bad)
    with pytest.raises(AssertionError, match="a bug"):
        main(WORKERS)
    assert new_children() == []


def test_an_error_while_waiting_for_a_batch_leaves_no_worker(monkeypatch) -> None:
    def bad(self: Any) -> Any:
        raise AssertionError("a bug")

    monkeypatch.setattr(torch.utils.data.dataloader._MultiProcessingDataLoaderIter, "_get_data", bad)
    with pytest.raises(AssertionError, match="a bug"):
        main(WORKERS)
    assert new_children() == []


@pytest.mark.parametrize(
    ("codes", "word"),
    [([0, -9], "memory"), ([-15, -7], "shared memory"), ([-11, 0], "SIGSEGV"), ([3], "worker"), ([], "worker")],
)
def test_lost_workers_are_explained_by_their_exit_codes(codes: list[int], word: str) -> None:
    assert word in failures.lost_worker(codes)


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
