"""``data.range`` is of the files that it fits; others are refused or named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from data_check import SMALL, check, findings
from translated import RESNET, pixels

from gantrain.cli.main import main
from gantrain.data.images.convert import ImageFormat, read_image, write_pixels
from gantrain.data.settings import build_dataset
from gantrain.errors import ConfigError

TWELVE = (0, 4095)
PLAIN = {"load_size": 8, "crop_size": 8, "flip": False, "preprocess": "resize_and_crop", "decoder": "exact"}
TWO = {
    "mode": "aligned",
    "direction": "a_to_b",
    "channels": 1,
    "channels_b": 1,
    "range": None,
    "range_b": None,
    **PLAIN,
}


def save(path: Path | str, largest: float, dtype: Any, least: float = 0) -> Path:
    """A ramp of values as TIFF, as an array or, by any other suffix, as PNG."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.linspace(least, largest, 64).astype(dtype).reshape(8, 8)
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".tif":
        tifffile.imwrite(path, values)
    else:
        write_pixels(path, values[..., None])
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".npy"])
@pytest.mark.parametrize(
    ("stored", "depth", "value_range", "fits"),
    [
        ("uint8", "uint8", (0, 200), True),
        ("uint8", "uint8", TWELVE, False),
        ("uint8", "uint8", (-1, 1), False),
        ("uint8", "uint16", TWELVE, False),  # It would be scaled to 16 bits, of which 12 are the range.
        ("uint8", "uint16", (0, 65535), True),
        ("uint8", "float32", (-1000, 3000), False),
        ("uint8", "float32", (-255, 255), True),
        ("uint16", "uint16", TWELVE, True),
        ("uint16", "uint16", (0, 70000), False),
        ("uint16", "uint16", (-1000, 3000), False),
        ("uint16", "float32", (-1000, 3000), True),
        ("uint16", "uint8", (0, 15), True),
        ("uint16", "uint8", TWELVE, False),
        ("float32", "float32", (-1000, 3000), True),
    ],
)
def test_a_file_whose_type_lacks_the_range_is_refused(
    stored: str, depth: str, value_range: Any, fits: bool, suffix: str, tmp_path: Path
) -> None:
    if (stored, suffix) == ("float32", ".png"):
        suffix = ".tif"
    path = save(tmp_path / f"1{suffix}", 100, stored)
    target = ImageFormat(1, depth, value_range, convert=True, suffix="_b")
    if fits:
        assert read_image(path, target).dtype == np.float32
        return
    with pytest.raises(ConfigError, match=r"^data\.range_b=\[.* does not fit .*1\..*: give data\.range_b=null"):
        read_image(path, target)


def test_the_range_of_deep_images_is_not_taken_for_shallow_ones(capsys) -> None:
    """``data.range_b`` is ``data.range`` unless it is given."""
    save("p/trainA/1.png", 4095, np.uint16)
    save("p/trainB/1.png", 255, np.uint8)
    data = ["model=pix2pix", "data=aligned", "data.root=p", "data.channels=1", "data.range=[0,4095]", *SMALL]
    small = ["network/generator=resnet_6blocks", "network.width=2", "trainer.steps=1", "data.num_workers=0"]
    assert main(["train", *data, *small]) == 2
    printed = capsys.readouterr().err
    assert "data.range_b=[0.0, 4095.0] does not fit p/trainB/1.png" in printed
    assert "data.range_b=null" in printed
    two = {**TWO, "root": "p", "depth": "auto"}
    item = build_dataset({**two, "range": list(TWELVE)}, phase="train").item(0, 0)
    assert (item["a"].max(), item["b"].max()) == (1, 255)


@pytest.mark.parametrize(("value_range", "clipped"), [((0, 1), True), ((0, 200), False), ((300, 400), True)])
def test_a_range_that_most_values_are_outside_of_is_named(value_range: Any, clipped: bool, capsys) -> None:
    for name in ("1", "2"):
        save(f"d/{name}.tif", 255, np.float32)
    save("d/3.tif", -50, np.float32, least=-100)
    single = {"mode": "single", "root": "d", "list": None, "channels": 1, "crop": "center", "depth": "auto", **PLAIN}
    build_dataset({**single, "range": list(value_range)}, phase="train")
    assert ("are outside (0 to 255)" in capsys.readouterr().err) == clipped
    words = ["data=single", "data.root=d", "data.channels=1", f"data.range={list(value_range)}", *SMALL]
    text = "warning: train: images most of whose values are outside data.range: "
    listed = [path for line, paths in findings(check(*words)[1]).items() if line.startswith(text) for path in paths]
    assert listed == ["d/1.tif", "d/2.tif", "d/3.tif"][0 if clipped else 2 :]


def translated(source: str, out: str, *words: str) -> np.ndarray:
    test = ["test", "run=checkpoints/run", "data=single", f"data.root={source}", "accelerator=cpu"]
    assert main([*test, f"out={out}", "direction=a_to_b", *words]) == 0
    return np.asarray(pixels(f"{out}/fake_b/1.png"), dtype=float)


def test_images_to_translate_have_the_range_of_training(capsys) -> None:
    for part in ("trainA", "trainB", "testA"):
        save(f"p/{part}/1.png", 4095, np.uint16)
    save("photo/1.png", 255, np.uint8)
    small = ["data.channels=1", "data.load_size=32", "data.crop_size=32", "trainer.steps=1", "name=run"]
    train = ["train", "model=cyclegan", "data=unaligned", "data.root=p", "data.range=[0,4095]", *small, *RESNET]
    assert main([*train, "data.cache=off"]) == 0
    capsys.readouterr()
    own = translated("p/testA", "own")
    assert "data.range=[0.0, 4095.0], as in training" in capsys.readouterr().err
    assert np.array_equal(own, translated("p/testA", "typed", "data.range=[0,4095]"))
    assert np.array_equal(pixels("own/real_a/1.png"), pixels("p/testA/1.png"))
    assert not np.array_equal(own, translated("p/testA", "whole", "data.range=[0,65535]"))
    capsys.readouterr()
    translated("photo", "photos")  # Of another depth.
    assert "as in training" not in capsys.readouterr().err
    assert np.array_equal(pixels("photos/real_a/1.png"), pixels("photo/1.png"))
