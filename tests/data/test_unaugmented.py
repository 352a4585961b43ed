"""Tests and pages show images as they are, only scaled, in the training phase too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lmdb_files import encoded, write
from PIL import Image
from sharded import pack
from torch import Tensor
from torchvision_files import made_mnist

from gantrain.cli.main import main
from gantrain.data.base import IMAGE_KEYS, ImageDataset, Selection
from gantrain.data.images.cache import Cache
from gantrain.data.settings import build_dataset
from gantrain.data.stream import in_order

ONE = {"channels": 3, "load_size": 40, "crop_size": 32, "crop": "random", "flip": True, "preprocess": None}
ONE |= {"range": None, "depth": "auto", "decoder": "exact"}
TWO = {key: value for key, value in ONE.items() if key != "crop"} | {"channels_b": 3, "range_b": None}
TWO |= {"direction": "b_to_a", "preprocess": "resize_and_crop"}
MODES = ["resize_and_crop", "crop", "scale_width", "scale_width_and_crop", "scale_shortside_and_crop", "none"]


def red_and_blue(path: Path, size: tuple[int, int] = (50, 46)) -> None:
    """An image whose left half is red and whose right half is blue, with a gradient from top to bottom."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2, 0] = pixels[:, size[0] // 2 :, 2] = 255
    pixels[..., 1] = np.linspace(0, 255, size[1]).astype(np.uint8)[:, None]
    Image.fromarray(pixels).save(path)


def shown(dataset: ImageDataset) -> list[Tensor]:
    batches = in_order(dataset, 1, torch.device("cpu"), torch.float32)
    return [batch[key] for batch in batches for key in IMAGE_KEYS if key in batch]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) > 0 and all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def kinds() -> Iterator[Any]:
    for mode in [None, *MODES]:
        yield pytest.param("single", ONE | {"list": None, "preprocess": mode}, id=f"single {mode}")
    for mode in MODES:
        yield pytest.param("aligned", TWO | {"preprocess": mode}, id=f"aligned {mode}")
        yield pytest.param("unaligned", TWO | {"preprocess": mode, "serial": False}, id=f"unaligned {mode}")
    yield pytest.param("lsun", ONE | {"category": None}, id="lsun")
    yield pytest.param("shards", ONE, id="shards")


def make(mode: str) -> Path:
    """Two training images, which are also those of every other phase."""
    for folder in ("A", "B") if mode in ("aligned", "unaligned") else ("",):
        for number in range(2):
            red_and_blue(Path("made") / folder / f"{number}.png")
    if mode == "lsun":
        write(Path("db"), {b"%d" % seed: encoded(seed=seed, height=50, width=50) for seed in range(2)})
        return Path("db")
    if mode == "shards":
        pack(Path("s/0.tar"), [(f"{n}.png", encoded(seed=n, height=50, width=50)) for n in range(2)])
        return Path("s")
    return Path("made")


@pytest.mark.parametrize(("mode", "keys"), list(kinds()))
def test_training_images_are_shown_as_those_of_any_other_phase(mode: str, keys: dict[str, Any]) -> None:
    data = {"mode": mode, "root": str(make(mode)), **keys}
    train, other = (build_dataset(data, phase=phase) for phase in ("train", "test"))
    assert same(shown(train), shown(other))
    assert same(shown(Selection(train, [1])), shown(Selection(other, [1])))
    if mode == "unaligned":
        assert same(shown(train.of_domain("a")), shown(other.of_domain("a")))
    again, spec = train.unaugmented(), train.unaugmented().spec
    assert again.item(0, 1)[next(iter(spec.channels))].shape[1:] == (spec.height, spec.width)
    train.use_cache(Cache(cache="memory"))  # Decoded in the sizes of training.
    assert same(shown(train), shown(other))


def test_torchvision_sets_are_shown_unmirrored(workplace: Path) -> None:
    made_mnist(workplace, "MNIST")
    data = {"mode": "torchvision", "dataset": "MNIST", "root": str(workplace), "load_size": 32, "crop_size": 32}
    mirrored, plain = (build_dataset({**data, "flip": flip}, phase="train") for flip in (True, False))
    assert same(shown(mirrored), shown(plain))


@pytest.mark.parametrize("layout", ["made/trainA made/trainB", "made/train"])
def test_a_test_of_training_images_keeps_left_and_top(layout: str) -> None:
    for folder in layout.split():
        for number in range(6):
            red_and_blue(Path(folder) / f"{number}.png", size=(64 * (3 - len(layout.split())), 64))
    data = ["data=aligned", "data.root=made", "data.load_size=40", "data.crop_size=32", "data.flip=true"]
    small = ["network.width=2", "data.num_workers=0", "trainer.accelerator=cpu", "trainer.steps=1", "name=run"]
    assert main(["train", "model=pix2pix", *data, *small]) == 0
    assert main(["test", "run=checkpoints/run", "phase=train", "out=results", "accelerator=cpu"]) == 0
    for path in sorted(Path("results/real_a").iterdir()):
        pixels = np.asarray(Image.open(path)).astype(int)
        assert pixels.shape == (32, 32, 3)
        assert abs(pixels[16, 2, 1] - 127) < 10
        assert pixels[0, 0, 1] < 10
        assert pixels[-1, 0, 1] > 245
        assert pixels[16, 2, 0] > 245
    # The page of a run without held-out images shows them in the same way.
    page = np.asarray(Image.open(next(Path("checkpoints/run/images").glob("step_1_*.png"))))
    assert (page[2 : 2 + 32, 2 : 2 + 32] == np.asarray(Image.open("results/real_a/0.png"))).all()
