"""What is exported: a generator of a trained model, and the images that an exported file is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from gantrain.data.base import ImageSpec, to_signed_range
from gantrain.errors import ConfigError
from gantrain.exports.graph import Pixels, SamplingGraph, TranslationGraph, to_bytes, traceable
from gantrain.models.base import LatentGAN
from gantrain.models.colorization import ColourResults
from gantrain.models.translation import Direction, NetworkMode, Translator, in_mode, size_limits

LEVELS = 127.5  # Grey levels of 8 bits in a unit of [-1, 1].


@dataclass(frozen=True)
class Source:
    """A trained model in evaluation mode, of which one generator is exported.

    Its dropout rates are set to 0: dropout is off in all files.
    """

    model: Translator | LatentGAN
    spec: ImageSpec  # Of the training images.
    direction: Direction | None  # None for a model that generates images from noise.
    network_mode: NetworkMode  # Determines the statistics that batch norm uses in a translator.
    facts: dict[str, Any]  # Plain values that describe the run: the content of ``config.json`` in a hub folder.

    def __post_init__(self) -> None:
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    @property
    def network(self) -> nn.Module:
        """The generator that is exported."""
        if isinstance(self.model, Translator):
            return self.model.generator_of(self.direction or "a_to_b")
        return self.model.generator

    @property
    def inputs(self) -> list[str]:
        """The names of the inputs of the graph."""
        if isinstance(self.model, Translator):
            return ["image"]
        return ["latents", "labels"] if self.model.uses_labels else ["latents"]

    @property
    def distinction(self) -> str:
        """What distinguishes the names of files of several directions: ``_a_to_b``; empty for a single direction."""
        several = isinstance(self.model, Translator) and len(self.model.directions) > 1
        return f"_{self.direction}" if several else ""

    @property
    def is_8_bit(self) -> bool:
        """Whether 0 to 255 are the stored values of its images that become -1 to 1."""
        depths = set(self.spec.depth.values())
        return depths == {"uint8"} and not self.spec.ranges and not isinstance(self.model, ColourResults)

    @property
    def channels(self) -> tuple[int, int]:
        """The numbers of channels of the input (0 for noise) and of the output images."""
        source, target = self.domains
        if not isinstance(self.model, Translator):
            return 0, self.spec.channels[target]
        if isinstance(self.model, ColourResults):
            return 1, 2
        return self.model.channels[source], self.model.channels[target]

    @property
    def domains(self) -> tuple[str, str]:
        """The domains of the input and of the output images."""
        if not isinstance(self.model, Translator) or self.direction is None:
            return "image", "image"
        return self.direction[0], self.direction[-1]

    @property
    def own_statistics(self) -> bool:
        """Whether batch norm uses the statistics of each image."""
        return isinstance(self.model, Translator) and self.model.uses_image_statistics(self.network_mode)

    def graph(self, pixels: Pixels) -> nn.Module:
        """The generator as a traceable module."""
        network = traceable(self.network, own_statistics=self.own_statistics)
        if isinstance(self.model, Translator):
            return TranslationGraph(network, pixels)
        return SamplingGraph(network, pixels)

    def examples(self, pixels: Pixels) -> list[tuple[Tensor, ...]]:
        """Inputs of two batch sizes; the first has two items. Images are of two odd sizes and of that of training."""
        draws = torch.Generator().manual_seed(0)
        if not isinstance(self.model, Translator):
            classes = self.spec.num_classes
            latents = [self.model.latents(count, seed=count).float().cpu() for count in (2, 5)]
            labels = [torch.randint(classes or 1, (len(each),), generator=draws) for each in latents]
            return list(zip(latents, labels, strict=True)) if self.model.uses_labels else [(each,) for each in latents]
        height, width = self.spec.height, self.spec.width
        sizes = [(2, height + 1 | 1, (width - 1) | 1), (1, (height // 2) | 1, (width // 2 + 4) | 1), (1, height, width)]
        images = [torch.rand(count, self.channels[0], *size, generator=draws) * 2 - 1 for count, *size in sizes]
        return [(to_bytes(image) if pixels == "uint8" else image,) for image in images]

    def dynamic_shapes(self, pixels: Pixels) -> tuple[dict[int, Any], ...]:
        """The axes of each input that may have any size, for ``torch.export``.

        It must be given the first of ``examples``: the size of a batch of one would become a constant.
        """
        batch, height, width = Dim("batch"), Dim("height"), Dim("width")
        if self.direction is None:
            return tuple({0: batch} for _ in self.inputs)
        return ({0: batch, 2: height, 3: width} if pixels == "float" else {0: batch, 1: height, 2: width},)

    def expected(self, inputs: tuple[Tensor, ...], pixels: Pixels) -> Tensor:
        """What the model itself makes of inputs in the form of ``pixels``, in the same form."""
        weights = next(self.model.parameters())
        if isinstance(self.model, Translator):
            (image,) = inputs
            if pixels == "uint8":
                image = to_signed_range(image, torch.float32).permute(0, 3, 1, 2)
            mode = in_mode(range(len(image)), self.network_mode)
            output = self.model.translate(image.to(weights), self.direction or "a_to_b", **mode)
        else:
            latents, *labels = (each.to(weights.device) for each in inputs)
            output = self.model.sample(latents.to(weights), *labels)
        return (to_bytes(output) if pixels == "uint8" else output.float()).cpu()

    def difference(self, run: Callable[..., Tensor], pixels: Pixels) -> float:
        """The largest difference, in grey levels of 8 bits, between an exported file and the model.

        Args:
            run: Takes the inputs of ``examples`` and returns the images that the file makes of them.
            pixels: The form of inputs and outputs.
        """
        worst = 0.0
        for inputs in self.examples(pixels):
            found, wanted = run(*inputs).cpu(), self.expected(inputs, pixels)
            if found.shape != wanted.shape:
                raise ConfigError(f"it makes images {tuple(found.shape)} where the model makes {tuple(wanted.shape)}")
            scale = LEVELS if pixels == "float" else 1.0
            gap = (found.float() - wanted.float()).abs().max()
            worst = max(worst, float("inf") if gap.isnan() else float(gap) * scale)
        return worst

    def difference_of(self, other: Translator | LatentGAN) -> float:
        """The ``difference`` between another model and this one."""
        copy = replace(self, model=other)
        return self.difference(lambda *inputs: copy.expected(inputs, "float"), "float")

    def metadata(self, pixels: Pixels) -> dict[str, str]:
        """Facts for the metadata of a file, as text."""
        _, target = self.domains
        multiple, smallest = size_limits(self.network)
        depth, ranges = self.spec.depth, self.spec.ranges
        ins, outs = self.channels
        facts: dict[str, Any] = {key: self.facts[key] for key in ("gantrain", "run", "step", "revision")}
        facts |= {
            "range": "[-1, 1]" if pixels == "float" else "[0, 255]",
            "depth": depth.get(target, depth.get("image", "")),
            "channels": outs,
        }
        if target in ranges:
            facts["stored_range"] = list(ranges[target])
        if self.direction is not None:
            facts |= {"direction": self.direction, "multiple": multiple, "smallest": smallest}
            facts |= {"input_channels": ins, "network_mode": self.network_mode, "dropout": "off"}
        elif self.spec.class_names:
            facts["class_names"] = list(self.spec.class_names)
        return {key: str(value) for key, value in facts.items()}
