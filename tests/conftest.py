"""What tests share: a folder of their own, the command in process, and a tiny run."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

# one thread per worker, and per process that a test starts: two workers with two threads each are slower than with one
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from translated import RESNET, SIZES, image, inside, layout

from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.main import main
from gantrain.runtime.signals import Interruption

pytest_plugins = ["browsing"]

TINY = ["data.load_size=16", "data.batch_size=4", "network.width=4", "trainer.accelerator=cpu"]
MODELS = ["gan", "dcgan", "lsgan", "wgan", "wgan_gp", "cgan", "acgan", "sgan", "infogan"]
TRANSLATORS = ["pix2pix", "cyclegan", "discogan", "colorization"]


ENVIRONMENT = pytest.StashKey[dict[str, str]]()
READ = ("CUDA_", "GANTRAIN_", "HOME", "HYDRA_", "LOCAL_RANK", "MASTER_", "OMP_", "PATH", "RANK", "SLURM_", "WORLD_SIZE")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep what gantrain reads of the environment, for ``pytest_runtest_teardown``."""
    item.stash[ENVIRONMENT] = read_environment()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a test that leaves the environment changed, which would decide how later ones in its process go."""
    yield
    assert read_environment() == item.stash[ENVIRONMENT]


def read_environment() -> dict[str, str]:
    """What of the environment gantrain reads; libraries add their own as they are imported."""
    return {key: value for key, value in os.environ.items() if key.startswith(READ)}


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test works in an empty folder of its own, and keeps decoded images in another."""
    monkeypatch.setenv("GANTRAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train() -> Callable[..., dict]:
    """``train("name", "model=gan", ...)`` runs the command in process and returns its newest checkpoint."""

    def run(name: str, *overrides: str) -> dict:
        warmup = ["model.warmup_critic_steps=0"] if "model=wgan" in overrides else []
        assert main(["train", *TINY, f"name={name}", *warmup, *overrides]) == 0
        return newest(name)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``trained("cyclegan")`` is a copy, in the test's own folder, of a run that was trained once."""
    here = tmp_path_factory.mktemp("trained")
    layout(here / "made", trainA=3, trainB=2, testA=5, testB=3)
    for part, count in (("train", 3), ("test", 7)):
        for number in range(count):
            image(here / f"pairs/{part}/{number}.png", 32, 64)
    data = f"data.root={here}"
    commands = {
        "cyclegan": ["model=cyclegan", "data=horse2zebra", f"{data}/made", "trainer.steps=2", *SIZES],
        # dropout and batch norm, so that the two modes differ
        "pix2pix": [
            "model=pix2pix",
            "data=facades",
            f"{data}/pairs",
            "network/generator=resnet_6blocks",
            "network.dropout=0.5",
            "trainer.steps=1",
            "data.load_size=32",
            "data.crop_size=32",
        ],
    }

    def copied(model: str) -> Path:
        if not (here / "checkpoints" / model).exists():
            with inside(here):
                assert main(["train", *commands[model], f"name={model}", *RESNET]) == 0
        return Path(shutil.copytree(here / "checkpoints" / model, Path("checkpoints") / model))

    return copied


def newest(name: str) -> dict:
    """The newest checkpoint of a run."""
    return Checkpoints(Path("checkpoints") / name).load()


def assert_same_bits(one: object, other: object, place: str = "") -> None:
    """Nested states are equal to the last bit."""
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, place
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_same_bits(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        for number, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same_bits(a, b, f"{place}[{number}]")
    else:
        assert one == other, place


def stop_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next run is asked to stop after so many steps, as by Ctrl-C."""
    steps_left = iter([False] * (steps - 1) + [True])

    def asked(self: Interruption) -> bool:
        self.signal = signal.SIGINT if next(steps_left) else 0
        return self.signal > 0

    monkeypatch.setattr(Interruption, "is_asked_for", asked)
