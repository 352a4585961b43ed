"""Networks of ONNX files that find the classes of pixels: what they take, what they return, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from conftest import assert_mentions
from needs import needs
from onnx_files import segmenter
from torch import Tensor

from gantrain.errors import ConfigError
from gantrain.metrics.features.segmenter import Segmenter


def photos(*shape: int) -> Tensor:
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(autouse=True)
def _packages() -> None:
    needs("onnx", "onnxruntime")


@pytest.mark.parametrize("dtype", ["uint8", "float", "float16"])
@pytest.mark.parametrize("numbers", [False, True])
def test_the_class_is_the_brightest_channel(dtype: str, numbers: bool) -> None:
    images = photos(3, 3, 5, 7)
    found = Segmenter(segmenter("net.onnx", dtype=dtype, numbers=numbers), 3)(images)
    assert torch.equal(found, images.int().argmax(dim=1))


def test_photos_are_resized_to_a_fixed_size_and_classes_back() -> None:
    images = torch.zeros(2, 3, 6, 6, dtype=torch.uint8)
    images[:, 0, :, :3], images[:, 2, :, 3:] = 255, 255
    for numbers in (False, True):
        found = Segmenter(segmenter("net.onnx", sides=(4, 4), numbers=numbers), 3)(images)
        assert torch.equal(found, images.int().argmax(dim=1))


def test_classes_after_the_known_ones_are_never_chosen() -> None:
    images = photos(1, 3, 4, 4)
    assert torch.equal(Segmenter(segmenter("net.onnx"), 2)(images), images[:, :2].int().argmax(dim=1))


def test_what_is_no_segmenter_is_refused_in_one_line(monkeypatch) -> None:
    Path("text.onnx").write_text("no network")
    for path, words in (
        ("nix.onnx", ["nix.onnx", "no such file"]),
        ("text.onnx", ["text.onnx", "can't read it"]),
        (segmenter("gray.onnx", channels=1), ["(N, 3, H, W)", "1"]),
    ):
        with pytest.raises(ConfigError) as error:
            Segmenter(path, 3)
        assert_mentions(str(error.value), "metrics.segmenter=", *words)
    with pytest.raises(ConfigError, match=r"metrics.segmenter=net.onnx.*scores of 19 classes"):
        Segmenter(segmenter("net.onnx"), 19)(photos(1, 3, 4, 4))
    with pytest.raises(ConfigError, match=r"fails for a photo of 4 x 4"):
        Segmenter(segmenter("net.onnx", batch=2), 3)(photos(1, 3, 4, 4))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"needs the package onnxruntime: pip install 'gantrain\[export\]'"):
        Segmenter("net.onnx", 3)
