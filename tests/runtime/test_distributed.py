"""Several processes train one model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import TINY, assert_mentions, assert_same_bits, newest, sized
from PIL import Image

from gantrain.cli.main import main
from gantrain.data.order import epochs
from gantrain.errors import ConfigError
from gantrain.runtime import distributed

pytestmark = pytest.mark.usefixtures("warm_python")

# Without batch norm and dropout, the update does not depend on how a batch is divided.
EXACT = ["trainer.precision=float64", "network.generator.norm=none", "network.discriminator.norm=none"]

# Both ranks save their final state and the sums of the images that they have read.
SPY = """
import os, pathlib, torch
from gantrain.data.stream import BatchStream
from gantrain.training import trainer
from gantrain.registry import MODELS
fit = trainer.Trainer.fit
def spy(self):
    done = fit(self)
    torch.save({"model": self.model.state_dict(), "position": self.stream.position}, f"rank_{os.environ['RANK']}.pt")
    return done
trainer.Trainer.fit = spy
order = BatchStream._open
def seen(self):
    for batch in order(self):
        with open(f"seen_{os.environ['RANK']}.txt", "a") as file:
            file.write(" ".join(f"{int(image.long().sum())}" for image in batch["image"]) + chr(10))
        yield batch
BatchStream._open = seen
"""


# Rank 1 is killed once.
DIES = """
import os, signal
from gantrain.optim.updates import Updates
begin = Updates.begin
def dies(self, step, progress):
    if step == 3 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    begin(self, step, progress)
Updates.begin = dies
"""


def two_ranks(*overrides: str, torchrun: bool = False, restarts: int = 0) -> subprocess.CompletedProcess[str]:
    """The command on two processes, started by gantrain or by a user's torchrun."""
    start = ["-m", "gantrain"]
    if torchrun:
        start = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            f"--max-restarts={restarts}",
            "-m",
            "gantrain",
        ]
    command = [sys.executable, *start, "train", *TINY, "trainer.devices=2", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_two_ranks_make_the_update_of_one_rank_with_the_same_global_batch(train) -> None:
    spectral = ["network.discriminator.norm=spectral"]
    ada = ["model.augment=ada", "model.augment_every=1", "model.augment_kimg=0.01", "model.augment_target=0.0"]
    for model in ("dcgan", "wgan_gp", "infogan", "sagan"):
        own = [*sized(model), *spectral] if model == "sagan" else ada if model == "infogan" else []
        settings = [f"model={model}", *EXACT, *own, "trainer.steps=2", "trainer.log_every=1"]
        one = train(f"one_{model}", *settings)
        result = two_ranks(*settings, f"name=two_{model}")
        assert result.returncode == 0, result.stderr
        two = newest(f"two_{model}")
        for key, value in one["model"].items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(two["model"][key], value, rtol=0, atol=1e-9)
        logs = [Path(f"checkpoints/{n}_{model}/losses.jsonl").read_text().splitlines() for n in ("one", "two")]
        assert len(logs[0]) == len(logs[1]) == 2  # Only rank 0 writes.
        for first, second in zip(*logs, strict=True):
            for key, value in json.loads(first).items():
                assert abs(json.loads(second)[key] - value) < 1e-9


def test_ranks_stay_equal_read_different_images_and_resume() -> None:
    Path("spy.py").write_text(SPY)
    settings = ["model=cgan", "plugins=[spy]", "model.pool_size=4", "model.r1=0.1", "model.ema=0.9", "trainer.steps=6"]
    settings += ["model.r2=0.1", "model.augment=[color,translation,cutout]", "model.loss=relativistic"]
    settings += ["data.balance=true", "trainer.precision=bfloat16", "trainer.save_every=3", "trainer.keep=0"]
    result = two_ranks(*settings, "name=whole", torchrun=True)
    assert result.returncode == 0, result.stderr
    ranks = [torch.load(f"rank_{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert ranks[0]["position"] == ranks[1]["position"] == 12
    parameters = [key for key in ranks[0]["model"] if key.endswith(("weight", "bias"))]
    assert len(parameters) > 10
    for key in parameters:
        assert torch.equal(ranks[0]["model"][key], ranks[1]["model"][key]), key
    seen = [Path(f"seen_{rank}.txt").read_text().split() for rank in (0, 1)]
    assert len(seen[0]) >= 12
    assert not set(seen[0]) & set(seen[1])  # Each rank has its own part of a batch.

    # As if both had been killed after step 3.
    whole = newest("whole")
    Path("checkpoints/whole/step_6.pt").unlink()
    assert two_ranks(*settings, "name=whole").returncode == 0
    again = newest("whole")
    for key in ("step", "position", "model", "updates", "ranks"):
        assert_same_bits(again[key], whole[key], key)
    assert len(whole["ranks"]) == 2


def test_a_run_that_torchrun_restarts_resumes_by_itself(train) -> None:
    Path("dies.py").write_text(DIES)
    settings = ["trainer.steps=4", "trainer.save_every=2"]
    result = two_ranks(*settings, "plugins=[dies]", "name=restarted", torchrun=True, restarts=1)
    assert result.returncode == 0, result.stderr
    assert "Resuming checkpoints/restarted at step 2" in result.stderr
    assert two_ranks(*settings, "name=whole").returncode == 0
    assert_same_bits(newest("restarted")["model"], newest("whole")["model"])


def test_another_number_of_ranks_resumes_with_a_warning(train, capsys) -> None:
    result = two_ranks("trainer.steps=2", "name=run")
    assert result.returncode == 0, result.stderr
    train("run", "trainer.steps=3")
    assert "saved by 2 processes, resumed by 1" in capsys.readouterr().err
    assert newest("run")["step"] == 3


def test_a_mistake_is_reported_once_and_without_a_trace(capsys) -> None:
    assert main(["train", *TINY, "trainer.devices=3"]) == 2
    message = capsys.readouterr().err
    for part in ("data.batch_size (4)", "multiple of trainer.devices (3)"):
        assert part in message
    assert message.count("\n") == 1
    assert list(Path().iterdir()) == []


def corrupt_image(*, drawn_by: int) -> list[str]:
    """Create eight images of which the first that this rank reads is corrupt; return the settings that read them."""
    Path("photos").mkdir()
    for number in range(8):
        Image.new("RGB", (16, 16), (30 * number, 0, 0)).save(f"photos/{number}.png")
    corrupt = epochs(8, seed=0)(2 * drawn_by)[1]  # Each rank reads two images of a batch.
    Path(f"photos/{corrupt}.png").write_bytes(b"")
    return ["data=single", "data.root=photos", "data.num_workers=0", "trainer.steps=3"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_corrupt_image_of_one_rank_is_reported_in_one_line(rank: int) -> None:
    result = two_ranks(*corrupt_image(drawn_by=rank), "data.cache=off")
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("gantrain: ")]
    assert "Traceback" not in result.stderr
    assert re.fullmatch(
        r"gantrain: can't read the image photos/\d\.png: the file is empty; data.on_error=skip .*data check .*", line
    )
    assert not Path("checkpoints").exists()


def test_a_cache_that_cannot_be_built_ends_all_ranks_with_one_line() -> None:
    result = two_ranks(*corrupt_image(drawn_by=1), "data.cache=disk", torchrun=True)
    assert result.returncode != 0
    assert result.stderr.count("gantrain: ") == result.stderr.count("gantrain: can't read the image photos/") == 1
    assert "[rank" not in result.stderr  # Lines of torch's traces begin with it.


@pytest.mark.parametrize(
    ("name", "value"),
    [("WORLD_SIZE", "two"), ("WORLD_SIZE", "0"), ("RANK", "x"), ("LOCAL_RANK", "-1"), ("MASTER_PORT", "99999")],
)
def test_a_variable_of_a_launcher_that_is_no_number_is_refused(name, value, monkeypatch, capsys) -> None:
    for variable, text in {"WORLD_SIZE": "2", "RANK": "0", name: value}.items():
        monkeypatch.setenv(variable, text)
    assert main(["train", *TINY]) == 2
    assert f"gantrain: {name}={value}: set this variable to a whole number from" in capsys.readouterr().err


def test_a_rank_says_that_it_waits_for_the_others(monkeypatch) -> None:
    printed, said = [], threading.Event()
    monkeypatch.setattr(distributed.console, "err", lambda line: (printed.append(line), said.set()))
    monkeypatch.setattr(distributed, "PATIENCE", 0.0)

    def rendezvous(*_: object, **__: object) -> Iterator[None]:
        assert said.wait(60)
        raise RuntimeError("nobody came")
        yield

    monkeypatch.setattr(distributed, "rendezvous", rendezvous)
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "host", "MASTER_PORT": "1234"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="MASTER_PORT=1234: nobody came"):
        distributed.join(torch.device("cpu"))
    assert_mentions(printed[0], "Rank 1 of 2", "MASTER_ADDR=host MASTER_PORT=1234")
