"""The composition root of exports: a run in, its generators in the format of another program out."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch

from gantrain import __version__
from gantrain.config.overrides import split_override
from gantrain.config.schema import NonNegativeInt, Range, construct
from gantrain.data.base import ImageSpec
from gantrain.errors import ConfigError
from gantrain.exports.graph import Pixels
from gantrain.exports.onnx_file import OnnxFormat
from gantrain.exports.source import Source
from gantrain.inference.hub import FORMAT
from gantrain.inference.load import NetworkWeights, read_run, rebuild
from gantrain.models.base import LatentGAN
from gantrain.models.translation import Direction, NetworkMode, Translator
from gantrain.registry import import_plugins
from gantrain.report.provenance import provenance
from gantrain.runtime import console
from gantrain.runtime.atomic import atomic_write
from gantrain.runtime.storage import storage_errors
from gantrain.test import find_run

EXPORTS = "exports"  # The folder in a run folder.
TOLERANCE = {False: 1.0, True: 2.0}  # Grey levels, by ``half``.


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """The keys of ``gantrain export``."""

    run: str | None  # A run folder, or the name of a run in ``checkpoints_dir``.
    checkpoints_dir: str  # The folder that contains the run folders.
    format: Literal["onnx", "safetensors", "pt2", "reference", "hub"] | None
    out: str | None  # The file or folder; None for one in ``exports`` in the run folder.
    overwrite: bool  # Whether an existing file is replaced.
    step: NonNegativeInt | Literal["best"] | None  # Of the checkpoint; None for the newest.
    network_weights: NetworkWeights  # As in ``gantrain test``.
    direction: Direction | None  # None for every direction of the model.
    network_mode: NetworkMode  # Of a translator; see ``Source``.
    pixels: Pixels  # The form of inputs and outputs.
    half: bool  # Whether weights are stored as float16.
    opset: Annotated[int, Range(at_least=18, at_most=25)]  # Of ONNX; older ones are not written correctly.
    licence: str | None  # Of the weights, for the model card.
    to: str | None  # ``hf:USER/NAME``.
    plugins: list[str]  # Modules that register classes.
    trust_plugins: bool  # Also import the modules that the run's checkpoint names.


class FileFormat(Protocol):
    """A format that stores a generator in one file."""

    suffix: str

    def write(self, source: Source, path: Path) -> None:
        """Write the file."""

    def difference(self, source: Source, path: Path) -> float:
        """Read the file, run it, and return the largest difference from the model in grey levels."""

    def usage(self, source: Source, path: Path) -> list[str]:
        """Lines of Python that use the file."""


FILES: dict[str, Callable[[ExportSettings], FileFormat]] = {
    "onnx": lambda settings: OnnxFormat(settings.pixels, settings.half, settings.opset),
}
# The keys that have an effect in some formats only.
KEYS = {
    "onnx": {"direction", "network_mode", "pixels", "half", "opset"},
}


def export(config: dict[str, Any], overrides: list[str]) -> int:
    """Write a model in another format, and compare what was written with the model.

    Args:
        config: The composed configuration, plain values.
        overrides: As typed.

    Returns:
        Exit status 0.

    Raises:
        ConfigError: The configuration is wrong, the model can't be written in this format, or the written file makes
            other images.
    """
    settings = construct(ExportSettings, config, key="")
    if settings.run is None:
        raise ConfigError(f"run is missing: give run={settings.checkpoints_dir}/NAME")
    if settings.format is None:
        raise ConfigError(f"format is missing: give format=NAME, one of {', '.join(KEYS)}")
    for key, _ in map(split_override, overrides):
        if key in set().union(*KEYS.values()) - KEYS[settings.format]:
            able = ", ".join(name for name, keys in KEYS.items() if key in keys)
            raise ConfigError(
                f"{key}={getattr(settings, key)} has no effect with format={settings.format}, but: {able}"
            )
    import_plugins(settings.plugins)
    run = find_run(settings.run, settings.checkpoints_dir)
    sources = read_sources(run, settings)
    if settings.pixels == "uint8" and not sources[0].is_8_bit:
        raise ConfigError("pixels=uint8: the images of this model are not of 8 bits, or are in Lab: give pixels=float")
    targets = _targets(run, sources, settings)
    for source, target in zip(sources, targets, strict=True):
        _write(source, target, FILES[settings.format](settings), settings)
    return 0


def read_sources(run: Path, settings: ExportSettings) -> list[Source]:
    """What is exported of a run, one entry per direction.

    Raises:
        ConfigError: The run can't be loaded, or its model has no such direction.
    """
    state = read_run(run, settings.step, plugins=settings.plugins, trust_plugins=settings.trust_plugins)
    model = rebuild(run, state, torch.device("cpu"), settings.network_weights)
    facts = {
        "format": FORMAT,
        "gantrain": __version__,
        "revision": provenance(torch.device("cpu")).get("commit", ""),
        "run": run.resolve().name,
        "step": state["step"],
        "model": state["config"]["model"],
        "generator": state["config"]["network"]["generator"],
        "spec": state["spec"],
    }
    if isinstance(model, LatentGAN):
        directions: Sequence[Direction | None] = (None,)
    elif isinstance(model, Translator):
        directions = model.directions
    else:
        raise ConfigError(f"{run}: {type(model).__name__} has neither `sample` nor `translate`, so it is not exported")
    if settings.direction is not None:
        if settings.direction not in directions:
            available = " and ".join(filter(None, directions)) or "nothing: it generates images from noise"
            raise ConfigError(f"direction={settings.direction}: this model only translates {available}")
        directions = (settings.direction,)
    spec = ImageSpec.from_dict(state["spec"])
    return [Source(model, spec, direction, settings.network_mode, facts) for direction in directions]


def _targets(run: Path, sources: Sequence[Source], settings: ExportSettings) -> list[Path]:
    """The path of each file, refused if it exists."""
    suffix = FILES[str(settings.format)](settings).suffix
    if settings.out is None:
        stem = run.resolve().name
        several = len(sources) > 1 or (
            isinstance(sources[0].model, Translator) and len(sources[0].model.directions) > 1
        )
        paths = [run / EXPORTS / f"{stem}{f'_{source.direction}' if several else ''}{suffix}" for source in sources]
    elif len(sources) > 1:
        raise ConfigError(f"out={settings.out} is one file, and this model has two directions: give direction=a_to_b")
    else:
        paths = [Path(settings.out).expanduser()]
    for path in paths:
        if path.suffix != suffix:
            raise ConfigError(f"out={settings.out}: a file of this format ends in {suffix}")
        if os.path.lexists(path) and not settings.overwrite:
            raise ConfigError(f"{path} exists: give overwrite=true to replace it, or another out=FILE{suffix}")
    return paths


def _write(source: Source, path: Path, form: FileFormat, settings: ExportSettings) -> None:
    """Write a file, compare it with the model, and print how to use it; nothing is left of a file that differs."""
    with storage_errors(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            temporary = Path(file.name)
            form.write(source, temporary)
            difference = form.difference(source, temporary)
            if not difference <= TOLERANCE[settings.half]:  # It may be nan.
                raise ConfigError(
                    f"{path} is not written: it would make images that differ from the model's by {difference:.3g} "
                    f"grey levels of 255, and {TOLERANCE[settings.half]:g} is allowed"
                )
        size = path.stat().st_size / 1e6
    console.err(f"{path}: {size:.2f} MB, differs from the model by at most {difference:.2g} grey levels of 255")
    if source.direction is not None:
        console.err(f"{_about(source)}; dropout is off")
    console.out(*form.usage(source, path))


def _about(source: Source) -> str:
    statistics = "the statistics of each image" if source.own_statistics else "its running statistics"
    return f"network_mode={source.network_mode}: batch norm, if there is any, uses {statistics}"
