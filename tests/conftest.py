"""What tests share: an empty working directory, the command in this process or in a forked one, and tiny runs."""

from __future__ import annotations

import itertools
import logging
import multiprocessing.spawn
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# One thread per worker, and per process that a test starts: two workers with two threads each are slower than with one.
os.environ["OMP_NUM_THREADS"] = "1"
# A shell starts background jobs with Ctrl-C ignored, and tests of interruptions would find it so.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch
from translated import RESNET, SIZES, image, inside, layout
from warm import Warm

from gantrain.checkpoints.store import Checkpoints
from gantrain.cli.compose import add_resolvers
from gantrain.cli.main import main
from gantrain.data.sets import digit_sets
from gantrain.runtime.signals import Interruption

pytest_plugins = ["browsing", "checkpoint_states", "shortcuts"]
add_resolvers()  # For tests that compose configurations by Hydra alone.

INTRODUCTION = ("Data: ", "Device: ", "Note: ", "Run folder: ", "Page: ")  # How the first lines of a run begin.
TINY = ["data.load_size=16", "data.batch_size=4", "network.width=4", "trainer.accelerator=cpu", "metrics=none"]
MODELS = ["gan", "dcgan", "lsgan", "wgan", "wgan_gp", "cgan", "acgan", "sgan", "infogan", "sngan", "sagan"]
TRANSLATORS = ["pix2pix", "cyclegan", "discogan", "cut", "fastcut", "colorization"]

ENVIRONMENT = pytest.StashKey[dict[str, str]]()
READ = ("CUDA_", "GANTRAIN_", "HOME", "HYDRA_", "LOCAL_RANK", "MASTER_", "OMP_", "PATH", "RANK", "SLURM_", "WORLD_SIZE")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Store the part of the environment that gantrain reads, for ``pytest_runtest_teardown``."""
    item.stash[ENVIRONMENT] = read_environment()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a test that leaves the environment changed, which would influence later tests in its process."""
    yield
    assert read_environment() == item.stash[ENVIRONMENT]


def read_environment() -> dict[str, str]:
    """The variables that gantrain reads; libraries add others when they are imported."""
    return {key: value for key, value in os.environ.items() if key.startswith(READ)}


@pytest.fixture(autouse=True)
def workplace(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Run every test in an empty directory, with the cache of decoded images in another."""
    monkeypatch.setenv("GANTRAIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.chdir(tmp_path)
    level = logging.root.level
    yield tmp_path
    logging.root.setLevel(level)  # Hydra's --info sets DEBUG, and then pytest stores every line that Pillow logs.


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """A fork server that has imported torch: ``warm.run(["-m", "gantrain", ...])`` is a new process within 0.1 s."""
    with Warm() as server:
        yield server


@pytest.fixture
def warm_python(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that libraries start as ``sys.executable``, or spawn, are forked by the server."""
    monkeypatch.setattr(sys, "executable", warm.python)
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(warm.python))


@pytest.fixture
def few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets that are made of digits when they are first read are made of only 20 for each phase."""
    all_digits = digit_sets._digits
    monkeypatch.setattr(digit_sets, "_digits", lambda *of: itertools.islice(all_digits(*of), 20))


@pytest.fixture
def train() -> Callable[..., dict]:
    """``train("name", "model=gan", ...)`` runs the command in this process and returns its newest checkpoint."""

    def run(name: str, *overrides: str) -> dict:
        warmup = ["model.warmup_critic_steps=0"] if "model=wgan" in overrides else []
        assert main(["train", *TINY, f"name={name}", *warmup, *overrides]) == 0
        return newest(name)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``trained("cgan")`` is a copy, in the working directory, of a short run that is trained once per session.

    Latent models are trained for one step, as by ``train("cgan", "model=cgan", "model.ema=0", "trainer.steps=1")``.
    """
    here = tmp_path_factory.mktemp("trained")
    commands = {
        "cyclegan": ["data=horse2zebra", f"data.root={here}/made", "trainer.steps=2", *SIZES, *RESNET],
        # Dropout and batch norm make training mode differ from evaluation mode.
        "pix2pix": [
            *("data=facades", f"data.root={here}/pairs", "trainer.steps=1", "data.load_size=32", "data.crop_size=32"),
            *("network/generator=resnet_6blocks", "network.dropout=0.5", *RESNET),
        ],
    }

    def copy_of(model: str) -> Path:
        if not (here / "checkpoints" / model).exists():
            if model == "cyclegan":
                layout(here / "made", trainA=3, trainB=2, testA=5, testB=3)
            if model == "pix2pix":
                for part, count in (("train", 3), ("test", 7)):
                    for number in range(count):
                        image(here / f"pairs/{part}/{number}.png", 32, 64)
            overrides = commands.get(model, [*TINY, "model.ema=0", "trainer.steps=1"])
            with inside(here):
                assert main(["train", *overrides, f"model={model}", f"name={model}"]) == 0
        return Path(shutil.copytree(here / "checkpoints" / model, Path("checkpoints") / model))

    return copy_of


def sized(model: str) -> list[str]:
    """The size of images that a model's own networks need, and their width, if they are not those of ``TINY``."""
    return ["data.load_size=32", "network.width=1"] if model in ("sngan", "sagan") else []


def run_folder(name: str) -> Path:
    """The folder of a run, alone or in a sweep."""
    alone = Path("checkpoints") / name
    return alone if alone.exists() else next(Path("checkpoints/sweeps").glob(f"*/{name}"), alone)


def newest(name: str) -> dict:
    """The newest checkpoint of a run, alone or in a sweep."""
    return Checkpoints(run_folder(name)).load()


def assert_mentions(message: str, *parts: object) -> None:
    """Assert that a message contains each part: keys, values and the remedy, in any wording."""
    missing = [str(part) for part in parts if str(part) not in message]
    assert not missing, f"{missing} not in: {message}"


def assert_same_bits(one: object, other: object, place: str = "") -> None:
    """Assert that nested states are bit-identical."""
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
    """Ask the next run to stop after so many steps, as Ctrl-C does."""
    steps_left = iter([False] * (steps - 1) + [True])

    def asked(self: Interruption) -> bool:
        self.signal = signal.SIGINT if next(steps_left) else 0
        return self.signal > 0

    monkeypatch.setattr(Interruption, "is_asked_for", asked)
