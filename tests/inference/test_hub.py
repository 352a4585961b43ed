"""Hub folders and ``.safetensors`` files: the same model again, and nothing hostile runs or fills memory."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_mentions
from exported import source_of
from safetensors.torch import save_file

import gantrain
from gantrain.errors import ConfigError
from gantrain.exports.hub import HubFormat
from gantrain.exports.source import Source
from gantrain.exports.weights_file import SafetensorsFormat

FOLDER = Path("folder")


def written(model: str = "pix2pix", generator: str = "resnet", *, half: bool = False, **keys: Any) -> Source:
    source = source_of(model, generator, **keys)
    FOLDER.mkdir()
    HubFormat(half=half, licence=None, command="", data="digits").write([source], FOLDER)
    return source


@pytest.mark.parametrize(
    ("model", "generator", "norm"),
    [
        ("pix2pix", "resnet", "spectral"),
        ("cyclegan", "unet_resize", "batch"),
        ("cut", "resnet", "instance"),
        ("infogan", "dcgan", "batch"),
        ("dcgan", "resnet_gan", "spectral"),
        ("colorization", "unet_resize", "instance"),
    ],
)
def test_a_folder_and_a_file_are_the_same_model_again(model: str, generator: str, norm: str) -> None:
    source = written(model, generator, norm=norm)
    SafetensorsFormat(half=False).write([source], Path("x.safetensors"))
    for path in (FOLDER, "x.safetensors"):
        found = gantrain.load(path)
        for name, value in source.model.state_dict().items():
            if name.startswith("generator") and isinstance(value, torch.Tensor):
                assert torch.equal(found.state_dict()[name], value)
        if source.direction is None:
            latents = found.latents(3, seed=1)
            assert torch.equal(latents, source.model.latents(3, seed=1))
            assert torch.equal(found.sample(latents), source.model.sample(latents))
        else:
            image = torch.rand(2, source.channels[0], 17, 23)
            for direction in source.model.directions:
                assert torch.equal(found.translate(image, direction), source.model.translate(image, direction))


@pytest.mark.parametrize("alone", [True, False])
def test_batch_norm_uses_the_same_statistics_in_train_mode_again(alone: bool) -> None:
    source = source_of("pix2pix", "resnet", norm="batch")
    source.model.image_statistics = source.facts["image_statistics"] = alone
    SafetensorsFormat(half=False).write([source], Path("x.safetensors"))
    assert gantrain.load("x.safetensors").module.uses_image_statistics("train") == alone


def test_half_precision_and_double_precision_are_kept() -> None:
    source = source_of("gan", "mlp", hidden=64)
    SafetensorsFormat(half=True).write([source], Path("half.safetensors"))
    SafetensorsFormat(half=False).write([source], Path("float.safetensors"))
    sizes = [Path(f"{name}.safetensors").stat().st_size for name in ("half", "float")]
    assert sizes[0] < 0.6 * sizes[1]
    found = gantrain.load("half.safetensors")
    latents = found.latents(2, seed=0)
    assert latents.dtype == torch.float32
    assert 0 < (found.sample(latents) - source.model.sample(latents)).abs().max() < 0.01
    source.model.double()
    SafetensorsFormat(half=False).write([source], Path("double.safetensors"))
    assert gantrain.load("double.safetensors").latents(1, seed=0).dtype == torch.float64


# ---- hostile folders


class Code:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def change(*keys: str, to: Any) -> Callable[[], None]:
    def edit() -> None:
        facts = json.loads((FOLDER / "config.json").read_text())
        place = facts
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = to
        (FOLDER / "config.json").write_text(json.dumps(facts))

    return edit


def text(content: str) -> Callable[[], None]:
    return lambda: (FOLDER / "config.json").write_text(content) and None


def weights(content: bytes) -> Callable[[], None]:
    return lambda: (FOLDER / "model.safetensors").write_bytes(content) and None


def pickles_only() -> None:
    (FOLDER / "model.safetensors").unlink()
    (FOLDER / "pytorch_model.bin").write_bytes(pickle.dumps(Code()))


def link(target: str) -> Callable[[], None]:
    def edit() -> None:
        (FOLDER / "config.json").unlink()
        (FOLDER / "config.json").symlink_to(target)

    return edit


def huge_header() -> None:
    header = json.dumps({"generator.x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (FOLDER / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 8)


def other_weights() -> None:
    save_file({"generator.model.1.weight": torch.zeros(2, 2)}, FOLDER / "model.safetensors")


HOSTILE: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "no config": (lambda: (FOLDER / "config.json").unlink(), ["config.json"]),
    "no JSON": (text("import os"), ["config.json"]),
    "nested": (text("[" * 100_000), ["config.json"]),
    "no object": (text("[1, 2]"), ["config.json", "no object"]),
    "too large": (text(" " * (1 << 20) + "{}"), ["config.json", "larger than"]),
    "a device": (link("/dev/zero"), ["config.json", "not a regular file"]),
    "another file": (link("/etc/passwd"), ["config.json", "does not describe a model"]),
    "transformers": (text('{"architectures": ["Bert"], "auto_map": {"AutoModel": "a.py--B"}}'), ["config.json", "no "]),
    "newer": (change("format", to=99), ["config.json", "newer", "99"]),
    "unknown model": (change("model", "name", to="os.system"), ["config.json", "model.name=os.system"]),
    "a path as model": (change("model", "name", to="../../evil"), ["model.name=../../evil"]),
    "a list as name": (change("generator", "name", to=["resnet"]), ["config.json"]),
    "unknown key": (change("generator", "trust_remote_code", to=True), ["trust_remote_code=True: unknown key"]),
    "runtime key": (change("generator", "shape", to=[3, 9, 9]), ["shape"]),
    "no spec": (change("spec", to={}), ["config.json", "spec.height"]),
    "spec of another kind": (change("spec", "channels", to={"image": 3}), ["config.json"]),
    "huge image": (change("spec", "height", to=1 << 60), ["spec.height"]),
    "huge channels": (change("spec", "channels", to={"a": 1 << 60, "b": 2}), ["config.json"]),
    "huge width": (change("generator", "width", to=1 << 40), ["config.json"]),
    "huge number": (change("generator", "width", to=10**400), ["config.json"]),
    "many layers": (change("generator", "blocks", to=1000), ["model.safetensors", "shape"]),
    "too many layers": (change("generator", "blocks", to=1 << 40), ["blocks"]),
    "not a number": (change("model", "lambda_l1", to=float("nan")), ["lambda_l1"]),
    "no weights": (lambda: (FOLDER / "model.safetensors").unlink(), ["model.safetensors"]),
    "pickles only": (pickles_only, ["model.safetensors", "pickles"]),
    "a pickle": (weights(pickle.dumps(Code())), ["model.safetensors", "no safetensors file"]),
    "a torch file": (lambda: torch.save(Code(), FOLDER / "model.safetensors"), ["no safetensors file"]),
    "empty weights": (weights(b""), ["model.safetensors", "no safetensors file"]),
    "huge header": (huge_header, ["model.safetensors", "no safetensors file"]),
    "huge header size": (weights(b"\xff" * 8), ["model.safetensors", "no safetensors file"]),
    "other weights": (other_weights, ["model.safetensors", "shape"]),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_folder_is_one_line_and_runs_nothing(kind: str) -> None:
    written()
    edit, parts = HOSTILE[kind]
    edit()
    with pytest.raises(ConfigError) as error:
        gantrain.load(FOLDER)
    message = str(error.value)
    assert_mentions(message, *parts)
    assert "\n" not in message
    assert not Path("ran").exists()


def test_huge_latents_and_class_names_allocate_nothing() -> None:
    written("cgan", "dcgan")
    for keys, value in ((("model", "latent_dim"), 1 << 40), (("spec", "class_names"), ["x"] * 100_000)):
        before = (FOLDER / "config.json").read_text()
        change(*keys, to=value)()
        with pytest.raises(ConfigError) as error:
            gantrain.load(FOLDER)
        assert_mentions(str(error.value), "model.safetensors")
        (FOLDER / "config.json").write_text(before)
    assert gantrain.load(FOLDER).spec.class_names == ("zero", "one", "two")


def test_a_file_without_a_description_is_refused() -> None:
    save_file({"generator.x": torch.zeros(2)}, "x.safetensors")
    with pytest.raises(ConfigError) as error:
        gantrain.load("x.safetensors")
    assert_mentions(str(error.value), "x.safetensors", "metadata")
