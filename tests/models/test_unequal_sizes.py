"""Two domains, or the images of one, of different sizes, which batches of one image may have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import newest
from data_check import save
from PIL import Image

from gantrain.cli.main import main
from gantrain.report.images import GAP, read_layout

DATA = ["data=unaligned", "data.root=set", "data.preprocess=none", "data.num_workers=0", "trainer.accelerator=cpu"]
SMALL = ["network.width=2", "network.discriminator.layers=2", "metrics=none", "name=run"]
BLOCKS = "network.generator.blocks=1"


@pytest.fixture(autouse=True)
def _data() -> None:
    for number, (size_a, size_b) in enumerate([((32, 40), (24, 28)), ((44, 32), (32, 32))]):
        save(f"set/trainA/{number}.png", number, size=size_a)
        save(f"set/trainB/{number}.png", number + 9, size=size_b)


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("cyclegan", ["model.pool_size=1", "model.lambda_features=1", "model.r1=1", "model.r2=1", BLOCKS]),
        ("cyclegan", ["model.augment=ada", "model.lambda_identity=0", BLOCKS]),
        ("cut", [BLOCKS]),
        ("cut", ["network.norm=batch", "model.augment=[color,translation,cutout]", BLOCKS]),
        ("fastcut", ["model.nce_idt=true", BLOCKS]),
    ],
)
def test_models_train_on_images_of_different_sizes(model: str, keys: list[str]) -> None:
    assert main(["train", f"model={model}", *DATA, *SMALL, "trainer.steps=4", "trainer.image_every=2", *keys]) == 0
    assert newest("run")["step"] == 4
    for line in Path("checkpoints/run/losses.jsonl").read_text().splitlines():
        assert all(torch.tensor(value).isfinite() for value in json.loads(line).values() if isinstance(value, float))
    for path in Path("checkpoints/run/images").iterdir():
        layout = read_layout(path)
        assert (layout["height"], layout["width"]) in {(32, 40), (44, 32)}
        with Image.open(path) as shown:
            assert shown.height == layout["rows"] * (layout["height"] + GAP) + GAP


@pytest.mark.parametrize("model", ["cyclegan", "cut"])
@pytest.mark.parametrize("key", ["model.loss=relativistic", "model.gradient_penalty=1"])
def test_what_pairs_images_of_different_sizes_is_refused(model: str, key: str, capsys) -> None:
    assert main(["train", f"model={model}", *DATA, *SMALL, "trainer.steps=4", BLOCKS, key]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(f"gantrain: {key.split('=')[0]}")
    assert "must have the same size" in message
    assert "give data.preprocess=resize_and_crop" in message
