"""Exported files as models: ``.onnx`` through onnxruntime, and ``.pt2`` through ``torch.export``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gantrain.config.extras import require
from gantrain.config.schema import checked
from gantrain.config.side_files import parse_json
from gantrain.data.base import ImageSpec
from gantrain.errors import ConfigError, reason_of
from gantrain.inference.hub import CONFIG, CONFIG_KEY, WEIGHTS, Described, load_hub, load_safetensors
from gantrain.models.base import GAN, LatentGAN
from gantrain.models.colorization import BareColorization
from gantrain.models.translation import BareGenerator, Direction, Translator

METADATA = "metadata.json"  # In a ``.pt2`` file.


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


def open_exported(path: Path, device: torch.device, *, trusted: bool) -> tuple[GAN | Translator, ImageSpec] | None:
    """The model of a hub folder or of a ``.safetensors``, ``.onnx`` or ``.pt2`` file; None for any other path.

    Args:
        path: A file or a folder.
        device: The device of the model's weights; exported graphs are computed on the CPU.
        trusted: Whether code in a ``.pt2`` file may run.

    Returns:
        The model, in evaluation mode and without gradients, and the images that it was trained on.

    Raises:
        ConfigError: It can't be read.
    """
    if path.is_dir() and ((path / CONFIG).exists() or (path / WEIGHTS).exists()):
        return load_hub(path, device)
    if path.suffix == ".safetensors":
        return load_safetensors(path, device)
    if path.suffix == ".onnx":
        return load_onnx(path)
    return load_pt2(path, trusted=trusted) if path.suffix == ".pt2" else None


def run_onnx(path: Path) -> Callable[..., Tensor]:
    """The function that an ONNX file computes, on the CPU by onnxruntime, with as many threads as torch has.

    Raises:
        ConfigError: onnxruntime is missing, or can't read the file.
    """
    return _function(path, _session(path))


def load_onnx(path: Path) -> tuple[Translator | LatentGAN, ImageSpec]:
    """The model in an ONNX file that gantrain wrote, and the images that it was trained on.

    Raises:
        ConfigError: onnxruntime is missing, or the file is not such a file, or takes 8-bit pixels.
    """
    session = _session(path)
    first = session.get_inputs()[:1]
    latent_size = first[0].shape[1] if first and len(first[0].shape) == 2 else 0
    metadata = session.get_modelmeta().custom_metadata_map
    return _wrap(path, ExportedNetwork(_function(path, session)), metadata, latent_size=latent_size)


def run_pt2(path: Path) -> tuple[Callable[..., Tensor], Mapping[str, str]]:
    """The function of a ``.pt2`` file, on the CPU, and the file's metadata.

    Only for files of one's own: torch unpickles parts of such a file, and evaluates the expressions in it as Python.

    Raises:
        ConfigError: torch can't read the file.
    """
    extra = {METADATA: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # About torch's own code.
            program = torch.export.load(str(path), extra_files=extra)
        return torch.no_grad()(program.module()), parse_json(extra[METADATA] or "{}", {})
    except Exception as error:  # torch raises anything for a corrupt file.
        raise ConfigError(f"torch can't read {path}: {reason_of(error)}") from None


def load_pt2(path: Path, *, trusted: bool) -> tuple[Translator | LatentGAN, ImageSpec]:
    """The model in a ``.pt2`` file that gantrain wrote; see ``load_onnx``.

    Args:
        path: The file.
        trusted: Whether code in the file may run, as ``torch.export.load`` can't prevent.

    Raises:
        ConfigError: The file is not trusted, or not such a file.
    """
    if not trusted:
        raise ConfigError(
            f"{path}: torch runs code that a .pt2 file contains: give the .onnx file or the run instead, or "
            "trust_plugins=true if you know where the file comes from"
        )
    run, metadata = run_pt2(path)
    return _wrap(path, ExportedNetwork(run), metadata, latent_size=None)


def _session(path: Path) -> Any:
    require("onnxruntime", extra="export", by=str(path))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # Errors only; they are raised as well.
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has its own types.
        raise ConfigError(f"onnxruntime can't read {path}: {reason_of(error)}") from None


def _function(path: Path, session: Any) -> Callable[..., Tensor]:
    names = [each.name for each in session.get_inputs()]

    def run(*inputs: Tensor) -> Tensor:
        arrays = (each.detach().numpy() for each in inputs)
        try:
            return torch.from_numpy(session.run(None, dict(zip(names, arrays, strict=True)))[0])
        except Exception as error:  # The graph may be any, and onnxruntime has its own types.
            raise ConfigError(f"onnxruntime can't run {path}: {reason_of(error)}") from None

    return run


def _wrap(
    path: Path, network: ExportedNetwork, metadata: Mapping[str, str], *, latent_size: int | None
) -> tuple[Translator | LatentGAN, ImageSpec]:
    """The model of a file from its metadata; ``latent_size`` is that of its graph, None if unknown."""
    if CONFIG_KEY not in metadata:
        raise ConfigError(f"{path} was not exported by gantrain: its metadata has no {CONFIG_KEY}")
    if metadata.get("range") != "[-1, 1]":
        raise ConfigError(f"{path} was exported with pixels=uint8, for programs without gantrain: give pixels=float")
    described = Described.parse(metadata[CONFIG_KEY], f"{path}: {CONFIG_KEY}")
    name = described.facts["model"].get("name")
    if "direction" not in metadata:

        def generator(*, latent_dim: int, **_: Any) -> nn.Module:
            if latent_size not in (None, latent_dim):  # It could be any, and as many are allocated.
                raise ConfigError(f"latents have the size {latent_dim}, and those of the graph {latent_size}")
            return network

        model = described.build(generator)
        if not isinstance(model, LatentGAN):
            raise ConfigError(f"{path}: model={name} does not generate images from noise, and its graph does")
        return model, described.spec
    direction: Direction = checked(metadata["direction"], Direction, f"{path}: direction")
    if "image" in described.spec.channels:
        return BareColorization(network).eval(), described.spec
    return BareGenerator(network, direction, described.spec.channels).eval(), described.spec
