"""A single ``.safetensors`` file with the weights of all generators of a model, and what rebuilds it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import save

from gantrain.exports.source import Source
from gantrain.inference.hub import CONFIG_KEY, generator_state, load_safetensors
from gantrain.models.base import GAN, LatentGAN
from gantrain.models.translation import Translator


@dataclass(frozen=True)
class SafetensorsFormat:
    """Writes ``.safetensors`` files.

    Args:
        half: Whether weights are stored as float16; they are converted to float32 when they are read.
    """

    half: bool
    suffix = ".safetensors"
    whole = True

    def write(self, sources: Sequence[Source], path: Path) -> None:
        """Write all weights, with the content of ``config.json`` in the metadata."""
        state = {
            key: (value.half() if self.half and value.is_floating_point() else value).contiguous()
            for key, value in generator_state(cast(GAN, sources[0].model)).items()
        }
        path.write_bytes(save(state, metadata={"format": "pt", CONFIG_KEY: json.dumps(sources[0].facts)}))

    def difference(self, sources: Sequence[Source], path: Path) -> float:
        """The largest difference in grey levels between the images of the rebuilt model and the model's."""
        return largest_difference(sources, load_safetensors(path, torch.device("cpu"))[0])

    def usage(self, sources: Sequence[Source], path: Path) -> list[str]:
        """Lines of Python that use the file."""
        return loading(sources, path)


def largest_difference(sources: Sequence[Source], model: GAN) -> float:
    """The largest difference in grey levels between a rebuilt model and the sources, in all directions."""
    return max(source.difference_of(cast("Translator | LatentGAN", model)) for source in sources)


def loading(sources: Sequence[Source], path: Path) -> list[str]:
    """Lines of Python that load a file or folder with gantrain and use the model."""
    source = sources[0]
    load = f'gan = gantrain.load("{path.as_posix()}")'
    if source.direction is not None and source.is_8_bit:
        return ["import gantrain, PIL.Image", load, 'gan(PIL.Image.open("photo.png")).save("output.png")']
    if source.direction is not None:
        image = f"image = torch.zeros(1, {source.channels[0]}, {source.spec.height}, {source.spec.width})  # in [-1, 1]"
        return ["import gantrain, torch", load, image, f'output = gan.translate(image, "{source.direction}")']
    labels = ", torch.tensor([0, 1, 2, 3])" if "labels" in source.inputs else ""
    shape = f"(4, {', '.join(map(str, source.spec.shape('image')))})"
    sample = f"images = gan.sample(gan.latents(4, seed=0){labels})  # {shape} in [-1, 1]"
    return ["import gantrain, torch", load, sample]
