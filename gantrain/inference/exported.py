"""Exported files as models: ``.onnx`` through onnxruntime, and ``.pt2`` through ``torch.export``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gantrain.config.extras import needs
from gantrain.config.schema import checked
from gantrain.data.base import ImageSpec
from gantrain.errors import ConfigError, reason_of
from gantrain.inference.hub import CONFIG_KEY, Described
from gantrain.models.base import LatentGAN
from gantrain.models.colorization import BareColorization
from gantrain.models.translation import BareGenerator, Direction, Translator


class ExportedNetwork(nn.Module):
    """A generator whose computation is done by the runtime of a file format.

    Its only parameter is empty: it shows the type and the device of the inputs.

    Args:
        run: Takes the inputs of the graph on the CPU, and returns its output.
    """

    def __init__(self, run: Callable[..., Tensor]) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.empty(0), requires_grad=False)
        self._run = run

    def forward(self, *inputs: Tensor) -> Tensor:
        """Images (N, C, H, W) in [-1, 1] to such images, or latents (N, latent_size) and labels (N,) to images."""
        return self._run(*(each.cpu() for each in inputs)).to(inputs[0].device)


def run_onnx(path: Path) -> Callable[..., Tensor]:
    """The function that an ONNX file computes, on the CPU by onnxruntime, with as many threads as torch has.

    Raises:
        ConfigError: onnxruntime is missing, or can't read the file.
    """
    return _function(_session(path))


def load_onnx(path: Path) -> tuple[Translator | LatentGAN, ImageSpec]:
    """The model in an ONNX file that gantrain wrote, and the images that it was trained on.

    Raises:
        ConfigError: onnxruntime is missing, or the file is not such a file, or takes 8-bit pixels.
    """
    session = _session(path)
    sizes = {each.name: each.shape for each in session.get_inputs()}
    return _wrap(path, ExportedNetwork(_function(session)), session.get_modelmeta().custom_metadata_map, sizes)


def _session(path: Path) -> Any:
    needs("onnxruntime", extra="export", by=str(path))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # Errors only; they are raised as well.
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own types.
        raise ConfigError(f"onnxruntime can't read {path}: {reason_of(error)}") from None


def _function(session: Any) -> Callable[..., Tensor]:
    names = [each.name for each in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        arrays = (each.detach().numpy() for each in inputs)
        return torch.from_numpy(session.run(None, dict(zip(names, arrays, strict=True)))[0])

    return run


def _wrap(
    path: Path, network: ExportedNetwork, metadata: Mapping[str, str], sizes: Mapping[str, Any]
) -> tuple[Translator | LatentGAN, ImageSpec]:
    """The model of a file from its metadata; ``sizes`` are the shapes of the inputs of its graph."""
    if CONFIG_KEY not in metadata:
        raise ConfigError(f"{path} was not exported by gantrain: its metadata has no {CONFIG_KEY}")
    if metadata.get("range") != "[-1, 1]":
        raise ConfigError(f"{path} was exported with pixels=uint8, for programs without gantrain: give pixels=float")
    described = Described.parse(metadata[CONFIG_KEY], f"{path}: {CONFIG_KEY}")
    name = described.facts["model"].get("name")
    if "latents" in sizes:

        def generator(*, latent_dim: int, **_: Any) -> nn.Module:
            if latent_dim != sizes["latents"][1]:
                raise ConfigError(f"latents have the size {latent_dim}, and those of the graph {sizes['latents'][1]}")
            return network

        model = described.build(generator)
        if not isinstance(model, LatentGAN):
            raise ConfigError(f"{path}: model={name} does not generate images from noise, and its graph does")
        return model, described.spec
    direction: Direction = checked(metadata.get("direction"), Direction, f"{path}: direction")
    if "image" in described.spec.channels:
        return BareColorization(network).eval(), described.spec
    return BareGenerator(network, direction, described.spec.channels).eval(), described.spec
