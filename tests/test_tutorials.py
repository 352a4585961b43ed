"""The tutorials as scripts: their commands in order, word for word but for sizes, on a few small images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from needs import is_installed
from PIL import Image
from test_docs import commands

from gantrain.cli.main import main
from gantrain.exports.browser import MODULE, RUNTIME, WASM

pytestmark = pytest.mark.slow

SMALL = {  # These replace what is typed.
    "trainer.steps": "2",
    "trainer.epochs": "null",
    "data.batch_size": "2",
    "data.num_workers": "0",
    "network.width": "4",
    "trainer.accelerator": "cpu",
}
SIZES = {"data.load_size": "32", "data.crop_size": "32"}
FEATURES = ["metrics.features=digits", "metrics.channels=[0]", "metrics.samples=20"]  # Inception is not here.
OWN_IMAGES = ("photographs", "paired_tiff", "conditional")


def images(folder: str, count: int, suffix: str = "jpg") -> None:
    Path(folder).mkdir(parents=True)
    for number in range(count):
        pixels = np.random.RandomState(number).randint(0, 255, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"{folder}/{number}.{suffix}")


@pytest.fixture
def files() -> None:
    """What the tutorials say that there is."""
    images("collected/A", 20)
    images("collected/B", 20)
    images("holiday", 2)
    images("flowers/img", 8, "png")
    Image.new("RGB", (96, 96)).save("holiday/large.jpg")
    lines = [f"img/{number}.png,{'tulip' if number % 2 else 'daisy'}\n" for number in range(8)]
    Path("flowers/files.csv").write_text("path,label\n" + "".join(lines))
    for phase in ("train", "test"):
        for domain, channels in (("A", 1), ("B", 2)):
            Path(f"cells/{phase}{domain}").mkdir(parents=True)
            for number in range(3):
                shape = (channels, 64, 64) if channels > 1 else (64, 64)
                pixels = np.random.RandomState(len(phase) * 10 + number).randint(0, 4096, shape, dtype=np.uint16)
                tifffile.imwrite(f"cells/{phase}{domain}/{number}.tif", pixels)
    Path("ort").mkdir()
    for name in (RUNTIME, MODULE, WASM):
        Path("ort", name).touch()


def short(words: list[str], tutorial: str) -> list[str]:
    """A command with small sizes."""
    name, *typed = words
    if name == "train":
        small = SMALL | (SIZES if tutorial in OWN_IMAGES else {"metrics.samples": "20"})
        if "sweeper=optuna" in typed:
            small["hydra.sweeper.n_trials"] = "1"
        typed = [word for word in typed if word.partition("=")[0] not in small]
        return [name, *typed, *(f"{key}={value}" for key, value in small.items())]
    if name == "evaluate":
        typed = [word for word in typed if not word.startswith("metrics.samples")] + FEATURES
    if name in ("test", "predict"):
        typed = ["num=4" if word.startswith("num=") else word for word in typed]
    return [name, *typed, *(["ort=ort"] if "format=html" in typed else [])]


@pytest.mark.parametrize("tutorial", [*OWN_IMAGES, "sweep"])
@pytest.mark.usefixtures("files", "few_digits", "warm_python")
def test_a_tutorial_runs(tutorial: str, capsys) -> None:
    done = 0
    for words in commands(f"tutorials/{tutorial}.md", blocks_only=True):
        needed = {"launcher=joblib": "hydra_joblib_launcher", "sweeper=optuna": "hydra_optuna_sweeper"}
        if any(word in words and not is_installed(f"hydra_plugins.{plugin}") for word, plugin in needed.items()):
            continue
        if words[0] == "compare":
            for model in ("dcgan", "lsgan"):
                assert main(short(["train", f"model={model}", f"name={model}_digits"], tutorial)) == 0
        status = main(short(words, tutorial))
        assert status == 0, f"{words}: {capsys.readouterr().err}"
        done += 1
    assert done > 2
