"""Which data sets suit which translation model, and the errors for all others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import newest
from omegaconf import OmegaConf
from PIL import Image

from gantrain.cli.main import main

TYPED = ["network.width=2", "trainer.steps=2", "trainer.accelerator=cpu", "data.num_workers=0", "name=run"]


def paint(path: Path, size: tuple[int, int], seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(256, (size[1], size[0], 3), dtype=torch.uint8, generator=generator)
    Image.fromarray(pixels.numpy()).save(path)


@pytest.fixture
def two_folders(workplace: Path) -> list[str]:
    """Images of 64 x 64 in the layout of unpaired data, and the overrides that select them."""
    for number, folder in enumerate(("trainA", "trainB", "testA", "testB")):
        for image in range(2):
            paint(workplace / "two" / folder / f"{image}.png", (64, 64), seed=10 * number + image)
    return ["data=unaligned", "data.root=two"]


@pytest.fixture
def pairs(workplace: Path) -> list[str]:
    """Pairs side by side, 64 wide and 64, 72 and 80 high, and the overrides that select them."""
    for number in range(3):
        paint(workplace / "pairs/train" / f"{number}.png", (128, 64 + 8 * number), seed=number)
    return ["data=aligned", "data.root=pairs"]


def refusal(capsys, *typed: str) -> str:
    assert main(["train", *typed, *TYPED]) == 2
    message = capsys.readouterr().err
    assert message.strip().splitlines()[-1].startswith("gantrain: "), message
    assert not Path("checkpoints/run").exists()
    return message.strip().splitlines()[-1]


def test_a_model_of_pairs_refuses_unpaired_images(two_folders: list[str], capsys) -> None:
    small = ["data.load_size=32", "data.crop_size=32"]
    message = refusal(capsys, "model=pix2pix", *two_folders, *small)
    assert "needs pairs" in message
    assert "data=aligned" in message
    assert "data=single" in refusal(capsys, "model=dcgan", *two_folders)
    # Images combined by index are pairs.
    assert main(["train", "model=pix2pix", *two_folders, *small, "data.serial=true", *TYPED]) == 0


def test_uncropped_images_size_the_networks_by_the_first_image(two_folders: list[str]) -> None:
    typed = ["model=cyclegan", *two_folders, "data.preprocess=none", "network.generator.blocks=1"]
    assert main(["train", *typed, *TYPED, "data.crop_size=31"]) == 0  # Nothing is cropped to 31.
    assert (newest("run")["spec"]["height"], newest("run")["spec"]["width"]) == (64, 64)


def test_an_image_size_that_networks_do_not_support_is_refused(pairs: list[str], capsys) -> None:
    typed = ["model=pix2pix", *pairs, "data.preprocess=none", "network/discriminator=pixelgan"]
    message = refusal(capsys, *typed, "trainer.steps=9")  # An epoch reads all three.
    assert "sides of at least 64 that are multiples of 64" in message
    assert "data.preprocess=resize_and_crop" in message
    assert ".png has" in message


def test_images_of_different_sizes_in_one_batch_are_named(pairs: list[str], capsys) -> None:
    message = refusal(capsys, "model=cyclegan", *pairs, "data.preprocess=none", "data.batch_size=3")
    assert "data.batch_size=1" in message
    assert "(80 x 64 and 80 x 64)" in message


def test_colorization_has_the_image_sizes_of_the_reference(capsys) -> None:
    assert main(["train", "model=colorization", "data=single", "data.root=x", "--cfg", "job"]) == 0
    data = OmegaConf.create(capsys.readouterr().out).data
    assert (data.preprocess, data.load_size, data.crop_size) == ("resize_and_crop", 286, 256)


def test_options_in_other_styles_are_refused_with_the_valid_key(capsys) -> None:
    assert main(["train", "--dataroot", "x"]) == 2
    assert "data.root=FOLDER" in capsys.readouterr().err
    assert main(["train", "--multrun"]) == 2
    assert "did you mean '--multirun'?" in capsys.readouterr().err
