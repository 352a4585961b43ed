"""Exported files as models, and files of others."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import onnx
import pytest
import torch
from conftest import assert_mentions
from exported import source_of

import gantrain
from gantrain.errors import ConfigError
from gantrain.exports.onnx_file import OnnxFormat
from gantrain.exports.pt2 import Pt2Format

FORM = OnnxFormat("float", half=False, opset=20)
X = Path("x.onnx")


def with_metadata(**changes: str | None) -> None:
    model = onnx.load(X)
    found = {each.key: each.value for each in model.metadata_props} | changes
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {key: value for key, value in found.items() if value is not None})
    onnx.save(model, X)


def refusal(path: str | Path) -> str:
    with pytest.raises(ConfigError) as error:
        gantrain.load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_onnx_file_with_other_metadata_is_refused() -> None:
    FORM.write([source_of("infogan", "mlp")], X)
    config = {each.key: each.value for each in onnx.load(X).metadata_props}["config"]
    for changes, parts in (
        ({"config": config.replace('"latent_dim": 3', f'"latent_dim": {1 << 40}')}, ["latents", str((1 << 40) + 5)]),
        ({"config": config.replace('"infogan"', '"pix2pix"')}, ["model.latent_dim"]),
        ({"config": "[" * 100_000}, ["does not describe a model"]),
        ({"config": None}, ["not exported by gantrain"]),
        ({"config": config, "direction": "sideways"}, ["direction", "sideways"]),
        ({"range": "[0, 255]"}, ["pixels=uint8", "pixels=float"]),
    ):
        with_metadata(**changes)
        assert_mentions(refusal(X), "x.onnx", *parts)


def test_a_graph_that_is_not_what_its_metadata_says_is_one_line() -> None:
    FORM.write([source_of("gan", "mlp")], X)
    with_metadata(config=json.dumps(source_of("pix2pix", "resnet").facts), direction="a_to_b")
    with pytest.raises(ConfigError, match=r"onnxruntime can't run x\.onnx"):
        gantrain.load(X).translate(torch.zeros(1, 2, 8, 8))


def test_an_onnx_file_with_labels_samples_like_its_model() -> None:
    source = source_of("cgan", "mlp")
    FORM.write([source], X)
    loaded = gantrain.load(X)
    latents, labels = loaded.latents(3, seed=5), torch.tensor([2, 0, 1])
    wanted = source.model.sample(latents, labels)
    torch.testing.assert_close(loaded.sample(latents, labels), wanted, atol=1e-6, rtol=0)


def test_files_that_are_no_models_are_one_line() -> None:
    for content in (b"", b"\x80\x04", pickle.dumps([1])):
        X.write_bytes(content)
        assert_mentions(refusal(X), "x.onnx")
    assert_mentions(refusal("missing.onnx"), "missing.onnx")


def test_a_pt2_file_is_read_only_where_it_is_trusted() -> None:
    source = source_of("cgan", "dcgan", norm="instance")
    Pt2Format("float").write([source], Path("x.pt2"))
    assert_mentions(refusal("x.pt2"), "x.pt2", "code", "trust_plugins=true")
    loaded = gantrain.load("x.pt2", trust_plugins=True)
    latents, labels = loaded.latents(3, seed=5), torch.tensor([0, 1, 2])
    wanted = source.model.sample(latents, labels)
    torch.testing.assert_close(loaded.sample(latents, labels), wanted, atol=1e-6, rtol=0)
    Path("y.pt2").write_bytes(b"no archive")
    with pytest.raises(ConfigError, match=r"can't read y\.pt2"):
        gantrain.load("y.pt2", trust_plugins=True)


def test_a_pt2_file_takes_any_size() -> None:
    source = source_of("pix2pix", "unet", norm="batch")
    Pt2Format("float").write([source], Path("x.pt2"))
    loaded = gantrain.load("x.pt2", trust_plugins=True)
    for items, height, width in ((1, 64, 32), (3, 7, 9), (1, 33, 65)):
        image = torch.rand(items, 2, height, width) * 2 - 1
        wanted = source.model.translate(image, "a_to_b", seeds=[0] * items)
        torch.testing.assert_close(loaded.translate(image, "a_to_b"), wanted, atol=1e-5, rtol=0)
