"""The files of pytorch-CycleGAN-and-pix2pix: ``latest_net_G.pth``, which it loads as its own."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gantrain.checkpoints.reference_weights import DROPOUT, REFERENCE
from gantrain.errors import ConfigError
from gantrain.exports.source import Source
from gantrain.inference.load import load_generator
from gantrain.models.translation import Translator, size_limits

# What its ``define_G`` can build: the values of the keys of gantrain's networks, and its name by depth or blocks.
RESNET: dict[str, list[Any]] = {
    "downsamplings": [2],
    "kernel": [3],
    "stem": [7],
    "padding": ["reflection"],
    "upsample": ["transposed"],
    "antialias": [False],
}
UNET: dict[str, list[Any]] = {"skips": [True], "upsample": ["transposed"]}
SHARED: dict[str, list[Any]] = {"norm": ["batch", "sync_batch", "instance", "none"], "dropout": [0.0, DROPOUT]}
NAMES: dict[str, tuple[str, dict[int, str], dict[str, list[Any]]]] = {
    "resnet": ("blocks", {9: "resnet_9blocks", 6: "resnet_6blocks"}, RESNET | SHARED),
    "unet": ("depth", {7: "unet_128", 8: "unet_256"}, UNET | SHARED),
}


@dataclass(frozen=True)
class ReferenceFormat:
    """Writes a folder with one file per generator: ``latest_net_G_A.pth`` translates a to b."""

    suffix = "_reference"
    whole = True

    def write(self, sources: Sequence[Source], path: Path) -> None:
        """Write the weights of each generator.

        Raises:
            ConfigError: The original code can't build this generator.
        """
        for source in sources:
            options_of(source)
            state = source.network.state_dict().items()
            float32 = {key: value.float() if value.is_floating_point() else value for key, value in state}
            torch.save(float32, path / _file(source))

    def difference(self, sources: Sequence[Source], path: Path) -> float:
        """The largest difference in grey levels between generators inferred from the files alone and the model's."""
        gaps = []
        for source in sources:
            direction = source.direction or "a_to_b"
            generator = load_generator(path / _file(source), direction, torch.device("cpu"), dropout=None)
            generator.image_statistics = own_statistics(source)  # The file does not say.
            gaps.append(source.difference_of(generator))
        return max(gaps)

    def usage(self, sources: Sequence[Source], path: Path) -> list[str]:
        """The command of the original code that tests the model."""
        words = {"--dataroot": "DATA", "--checkpoints_dir": path.parent.as_posix(), "--name": path.name}
        model = ["cycle_gan"] if len(sources) > 1 else ["test", "--dataset_mode", "single"]
        if len(sources) == 1 and _file(sources[0]) != "latest_net_G.pth":
            model += ["--model_suffix", _file(sources[0]).removeprefix("latest_net_G").removesuffix(".pth")]
        options = [word for pair in (words | options_of(sources[0])).items() for word in pair if word]
        return [shlex.join(["python", "test.py", *options, "--model", *model])]


def options_of(source: Source) -> dict[str, str]:
    """The options of the original code for a generator.

    Raises:
        ConfigError: There are none.
    """
    config: dict[str, Any] = source.facts["generator"]
    key, names, needed = NAMES.get(config["name"], ("", {}, {}))
    if not isinstance(source.model, Translator) or not names:
        raise ConfigError(f"format=reference: {REFERENCE} has no generator '{config['name']}', but resnet and unet")
    for name, values in needed.items():
        if config[name] not in values:
            able = " or ".join(map(str, values))
            raise ConfigError(f"format=reference: the generators of {REFERENCE} have {name}={able}, not {config[name]}")
    size = config[key] or size_limits(source.network)[0].bit_length() - 1  # The depth of a U-Net may follow the images.
    if size not in names:
        able = " or ".join(map(str, names))
        raise ConfigError(f"format=reference: a {config['name']} of {REFERENCE} has {key}={able}, not {size}")
    ins, outs = source.channels
    options = {"--netG": names[size], "--norm": config["norm"].removeprefix("sync_"), "--ngf": str(config["width"])}
    options |= {"--input_nc": str(ins), "--output_nc": str(outs)}
    options |= {} if config["dropout"] else {"--no_dropout": ""}
    return options | ({} if own_statistics(source) else {"--eval": ""})


def own_statistics(source: Source) -> bool:
    """Whether the model was trained on single images, as the original code tests it without ``--eval``."""
    return isinstance(source.model, Translator) and source.model.image_statistics


def _file(source: Source) -> str:
    """``latest_net_G_A.pth`` for a to b of a model with two directions."""
    end = {"": "", "_a_to_b": "_A", "_b_to_a": "_B"}[source.distinction]
    return f"latest_net_G{end}.pth"
