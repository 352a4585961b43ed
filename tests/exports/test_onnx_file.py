"""ONNX files: every generator, and every norm of both kinds of generators, against the model itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import onnx
import pytest
import torch
from exported import source_of
from tiny_keys import TRANSLATION_KEYS

import gantrain
from gantrain.data.base import ImageSpec
from gantrain.exports.onnx_file import OnnxFormat
from gantrain.inference.exported import run_onnx
from gantrain.models.translation import Direction
from gantrain.networks.common import Norm
from gantrain.registry import GENERATORS

X = Path("x.onnx")
SIZES = [(1, 33, 41), (3, 7, 9), (1, 65, 37)]  # Items, height and width.
# Of every network, some norms: the model, the mode of its norms, and keys that differ from those of the other rows.
ROWS: dict[tuple[str, str], tuple[str, str, dict[str, Any]]] = {
    ("dcgan", "batch"): ("cgan", "eval", {"width": 4}),
    ("dcgan", "instance"): ("dcgan", "eval", {"order": "conv_act_norm"}),
    ("dcgan", "spectral"): ("infogan", "eval", {"extra_layers": 1}),
    ("mlp", "batch"): ("gan", "eval", {}),
    ("mlp", "spectral"): ("wgan", "eval", {"num_layers": 2}),
    ("resnet", "batch"): ("pix2pix", "train", {"padding": "replicate", "kernel": 4}),
    ("resnet", "instance"): ("cut", "train", {"antialias": True}),
    ("resnet", "spectral"): ("cyclegan", "eval", {"padding": "zero", "upsample": "resize"}),
    ("resnet_gan", "batch"): ("cgan", "eval", {"attention": [8, 32], "spectral": True}),
    ("resnet_gan", "instance"): ("dcgan", "eval", {"attention": [16]}),
    ("resnet_gan", "none"): ("acgan", "eval", {}),
    ("unet", "batch"): ("pix2pix", "train", {}),
    ("unet", "instance"): ("colorization", "train", {"skips": False, "upsample": "resize"}),
    ("unet_resize", "batch"): ("pix2pix", "eval", {}),
    ("unet_resize", "none"): ("pix2pix", "train", {}),
}


def test_the_table_has_every_generator_and_both_kinds_with_every_norm() -> None:
    assert {name for name, _ in ROWS} == set(GENERATORS)
    for translates in (False, True):
        norms = {norm for (_, norm), (model, *_) in ROWS.items() if (model in TRANSLATION_KEYS) == translates}
        assert norms == set(get_args(Norm)) - {"sync_batch"}  # In evaluation it is batch norm.


@pytest.mark.parametrize(("generator", "norm"), ROWS)
def test_onnxruntime_computes_what_the_model_does(generator: str, norm: str) -> None:
    model, mode, keys = ROWS[generator, norm]
    direction: Direction = "b_to_a" if model == "cyclegan" else "a_to_b"
    source = source_of(model, generator, mode=mode, direction=direction, norm=norm, **keys)
    OnnxFormat("float", half=False, opset=20).write([source], X)
    assert [path.name for path in Path().iterdir()] == ["x.onnx"]
    loaded = gantrain.load(X)
    for items, *size in SIZES:
        if source.direction is None:
            latents = loaded.latents(items, seed=items)
            assert torch.equal(latents, source.model.latents(items, seed=items))
            inputs = [latents, torch.arange(items)] if source.model.uses_labels else [latents]
            found, wanted = loaded.sample(*inputs), source.model.sample(*inputs)
        else:
            image = torch.rand(items, source.channels[0], *size) * 2 - 1
            seeds = [0] * items if mode == "train" else None  # Seeds of dropout, which is off.
            found, wanted = loaded.translate(image), source.model.translate(image, direction, seeds=seeds)
        assert wanted.std() > 0.01
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_images_of_sides_that_are_no_powers_of_two() -> None:
    source = source_of("dcgan", "dcgan", spec=ImageSpec(20, 36, {"image": 3}, {"image": "uint8"}))
    OnnxFormat("float", half=False, opset=20).write([source], Path("x.onnx"))
    latents = source.model.latents(2, seed=0)
    wanted = source.model.sample(latents)
    assert wanted.shape == (2, 3, 20, 36)
    torch.testing.assert_close(run_onnx(Path("x.onnx"))(latents), wanted, atol=1e-5, rtol=0)


def test_half_stores_the_weights_in_half_the_space() -> None:
    source = source_of("gan", "mlp", hidden=64)
    formats = {half: OnnxFormat("float", half=half, opset=18) for half in (False, True)}
    for half, form in formats.items():
        form.write([source], Path(f"{half}.onnx"))
    sizes = {half: Path(f"{half}.onnx").stat().st_size for half in formats}
    assert sizes[True] < 0.6 * sizes[False]
    assert {each.version for each in onnx.load("True.onnx").opset_import if each.domain == ""} == {18}
    assert 0 < formats[True].difference([source], Path("True.onnx")) < 1


def test_eight_bit_pixels_in_and_out() -> None:
    source = source_of("pix2pix", "resnet")
    form = OnnxFormat("uint8", half=False, opset=20)
    form.write([source], X)
    image = torch.randint(256, (3, 35, 43, 2), dtype=torch.uint8)
    found = run_onnx(X)(image)
    assert found.dtype == torch.uint8
    wanted = source.model.translate(image.permute(0, 3, 1, 2) / 127.5 - 1, "a_to_b", seeds=[0, 0, 0])
    assert (found - (wanted.permute(0, 2, 3, 1) + 1) * 127.5).abs().max() <= 0.51  # They are rounded.
    assert form.difference([source], X) <= 1


def test_the_metadata_and_the_difference_describe_the_file() -> None:
    source = source_of("pix2pix", "resnet", norm="none")
    form = OnnxFormat("float", half=False, opset=20)
    form.write([source], X)
    found = {each.key: each.value for each in onnx.load("x.onnx").metadata_props}
    assert found.pop("config").startswith('{"format": 1')
    about = {"gantrain": "0.0", "run": "run", "step": "7", "revision": "abc", "network_mode": "train", "dropout": "off"}
    images = {"range": "[-1, 1]", "depth": "uint8", "channels": "2", "input_channels": "2"}
    assert found == {**about, **images, "direction": "a_to_b", "multiple": "4", "smallest": "8"}
    assert form.difference([source], X) < 0.01
    source.network.model[-2].weight.mul_(1.01)
    assert 0.01 < form.difference([source], X) < 10
    source.network.model[-2].weight.mul_(float("nan"))
    assert form.difference([source], X) == float("inf")
