"""Models in hub folders and ``.safetensors`` files, which are read without running code from them.

A hub folder contains ``config.json``, which describes the model, and ``model.safetensors``, its generators' weights. A
single ``.safetensors`` file has the same description in its metadata.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from gantrain.config.schema import NonNegativeInt, PositiveInt, Side, checked
from gantrain.config.side_files import MEGABYTE, DamagedError, open_regular, parse_json
from gantrain.data.base import ImageSpec
from gantrain.errors import ConfigError, reason_of
from gantrain.models.base import GAN
from gantrain.models.translation import Translator
from gantrain.registry import GENERATORS, MODELS
from gantrain.runtime.storage import explain

CONFIG, WEIGHTS = "config.json", "model.safetensors"
CONFIG_KEY = "config"  # Of the metadata of a single file that has the content of ``config.json``.
FORMAT = 1  # Of ``config.json``.
FIELDS = {
    "format": PositiveInt,
    "gantrain": str,
    "run": str,
    "step": NonNegativeInt,
    "model": dict[str, Any],
    "generator": dict[str, Any],
    "spec": dict[str, Any],
    "image_statistics": bool,  # See ``Translator``.
}
SPEC_FIELDS = {
    "height": Side,
    "width": Side,
    "channels": dict[str, PositiveInt],
    "depth": dict[str, str],
    "class_names": list[str],
    "ranges": dict[str, tuple[float, float]],
}


@dataclass(frozen=True)
class Described:
    """A model as its ``config.json`` describes it."""

    where: str  # The file, for messages.
    facts: dict[str, Any]  # The whole content, with the types of ``FIELDS``.
    spec: ImageSpec  # Of the images that the model was trained on.

    @classmethod
    def parse(cls, text: str | bytes, where: str) -> Described:
        """Check the text of a ``config.json``, which may come from anywhere.

        Raises:
            ConfigError: It does not describe a model, or was written by a newer version.
        """
        try:
            facts = parse_json(text, FIELDS, required=FIELDS)
            if facts["format"] > FORMAT:
                raise ConfigError(
                    f"{where}: format={facts['format']} needs a newer gantrain, such as {facts['gantrain']}"
                )
            values = {key: checked(facts["spec"][key], kind, f"spec.{key}") for key, kind in SPEC_FIELDS.items()}
            return cls(where, facts, ImageSpec.from_dict(values))
        except (DamagedError, KeyError) as error:
            reason = f"it has no spec.{error.args[0]}" if isinstance(error, KeyError) else error
            raise ConfigError(f"{where} does not describe a model of gantrain: {reason}") from None

    def build(self, make_generator: Callable[..., nn.Module]) -> GAN:
        """The model with these generators, without discriminators, on the CPU.

        Args:
            make_generator: Called as ``GENERATORS.build`` without a configuration.

        Raises:
            ConfigError: There is no such model, or its keys are wrong.
        """
        try:
            model: GAN = MODELS.build(
                self.facts["model"], spec=self.spec, make_generator=make_generator, make_discriminator=_no_discriminator
            )
        except ConfigError as error:
            raise ConfigError(f"{self.where}: {error}") from None
        except Exception as error:  # Any value of any size may be there.
            raise ConfigError(f"{self.where} does not describe a model of gantrain: {reason_of(error)}") from None
        if isinstance(model, Translator):
            model.image_statistics = self.facts["image_statistics"]
        return model.requires_grad_(False).eval()


def load_hub(folder: Path, device: torch.device) -> tuple[GAN, ImageSpec]:
    """The model of a hub folder, in evaluation mode, and the images that it was trained on.

    Raises:
        ConfigError: The folder does not contain a model of gantrain.
    """
    path = folder / CONFIG
    try:
        with open_regular(path) as file:
            text = file.read(MEGABYTE + 1)
    except OSError as error:
        raise ConfigError(explain(error, f"read {path}")) from None
    if len(text) > MEGABYTE:
        raise ConfigError(f"{path} does not describe a model of gantrain: larger than {MEGABYTE:,} bytes")
    if not (folder / WEIGHTS).is_file():
        raise ConfigError(f"{folder} has no {WEIGHTS}; weights in other files, such as pickles, are not read")
    described = Described.parse(text, str(path))
    return _with_weights(described, read_tensors(folder / WEIGHTS)[0], folder / WEIGHTS, device), described.spec


def load_safetensors(path: Path, device: torch.device) -> tuple[GAN, ImageSpec]:
    """The model of a single ``.safetensors`` file; see ``load_hub``."""
    state, metadata = read_tensors(path)
    if CONFIG_KEY not in metadata:
        raise ConfigError(f"{path} does not describe a model of gantrain: its metadata has no {CONFIG_KEY}")
    described = Described.parse(metadata[CONFIG_KEY], f"{path}: {CONFIG_KEY}")
    return _with_weights(described, state, path, device), described.spec


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a ``.safetensors`` file, in float32 if they are stored in half precision, and its metadata.

    Raises:
        ConfigError: The file can't be read. Its header is checked against its size before anything is allocated.
    """
    try:
        with open_regular(path):
            pass
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            state = {name: file.get_tensor(name) for name in names}
            metadata = file.metadata() or {}
    except OSError as error:
        raise ConfigError(explain(error, f"read {path}")) from None
    except Exception as error:  # safetensors raises its own types.
        raise ConfigError(f"can't read {path}: {reason_of(error)}; it is no safetensors file, or corrupt") from None
    half = (torch.float16, torch.bfloat16)
    return {key: value.float() if value.dtype in half else value for key, value in state.items()}, metadata


def generator_state(model: GAN) -> dict[str, Tensor]:
    """The tensors of the model's generators under the names that they have in the model."""
    names = {module: name for name, module in model.named_modules()}
    return {
        f"{names[generator]}.{key}": value
        for generator in model.generators()
        for key, value in generator.state_dict().items()
        if isinstance(value, Tensor)
    }


def _with_weights(described: Described, state: dict[str, Tensor], path: Path, device: torch.device) -> GAN:
    """The model with the tensors of a file, which must be exactly those of its generators."""
    shapes = Counter(tuple(value.shape) for value in state.values())
    model = described.build(partial(_build_generator, described.facts["generator"], shapes, path))
    if {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float64}:
        model.double()
    wanted = generator_state(model)
    for key in sorted({*wanted, *state}):
        found, own = ({**states}.get(key) for states in (state, wanted))
        if found is None or own is None or found.shape != own.shape:
            raise ConfigError(f"{path}: its tensors are not those of the model in {described.where}: {key}")
    model.load_state_dict(state, strict=False)
    return model.to(device)


def _build_generator(config: dict[str, Any], shapes: Counter[tuple[int, ...]], path: Path, **runtime: Any) -> nn.Module:
    """A generator, unless it has tensors that the file has not: it could need any amount of memory."""
    config = config | ({"init": "default"} if "init" in config else {})  # The fastest; all weights are replaced.
    with torch.device("meta"):
        needed = Counter(tuple(value.shape) for value in GENERATORS.build(config, **runtime).state_dict().values())
    if missing := needed - shapes:
        raise ConfigError(f"{path}: the generator needs a tensor of shape {next(iter(missing))}, which is not there")
    generator: nn.Module = GENERATORS.build(config, **runtime)
    return generator


def _no_discriminator(**_: Any) -> nn.Module:
    return nn.Identity()
