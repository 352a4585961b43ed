"""The composition root of exports: a run in, its generators in the format of another program out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch

from gantrain import __version__
from gantrain.config.overrides import split_override
from gantrain.config.schema import NonNegativeInt, Range, construct
from gantrain.data.base import ImageSpec
from gantrain.data.settings import DataSettings
from gantrain.errors import ConfigError
from gantrain.exports.graph import Pixels
from gantrain.exports.html import HtmlFormat
from gantrain.exports.hub import HubFormat, upload
from gantrain.exports.onnx_file import OnnxFormat
from gantrain.exports.pt2 import Pt2Format
from gantrain.exports.reference import ReferenceFormat
from gantrain.exports.source import Source
from gantrain.exports.weights_file import SafetensorsFormat
from gantrain.inference.hub import FORMAT
from gantrain.inference.load import NetworkWeights, read_run, rebuild
from gantrain.models.base import LatentGAN
from gantrain.models.translation import Direction, NetworkMode, Translator
from gantrain.registry import import_plugins
from gantrain.report.images import sample_images
from gantrain.report.log import EVALUATIONS, readable_lines
from gantrain.report.provenance import provenance
from gantrain.runtime import console
from gantrain.runtime.atomic import atomic_write
from gantrain.runtime.directories import refuse_links
from gantrain.runtime.scratch import scratch_folder
from gantrain.runtime.storage import storage_errors
from gantrain.test import find_run

MEASURED = ("losses.jsonl", "metrics.jsonl", EVALUATIONS)  # Logs with metrics.
EXPORTS = "exports"  # The folder in a run folder.
TOLERANCE = {False: 1.0, True: 2.0}  # Grey levels, by ``half``.


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """The keys of ``gantrain export``."""

    run: str | None  # A run folder, or the name of a run in ``checkpoints_dir``.
    checkpoints_dir: str  # The folder that contains the run folders.
    format: Literal["onnx", "html", "safetensors", "pt2", "reference", "hub"] | None  # Of the file.
    out: str | None  # The file or folder to write; null for one in ``exports`` in the run folder.
    overwrite: bool  # Whether an existing file is replaced.
    step: NonNegativeInt | Literal["best"] | None  # The step of the checkpoint, or ``best``; null for the newest.
    network_weights: NetworkWeights  # ``average`` (EMA), ``last``, or ``auto``: the average if the run has one.
    direction: Direction | None  # The direction; null for every one of the model, each in a file.
    # The statistics that batch norm uses in a model that translates: ``train`` and ``per_image`` as in gantrain test,
    # ``eval`` the running ones. Dropout is off in all files.
    network_mode: NetworkMode
    # Of ``onnx`` and ``pt2``: ``float`` is (N, C, H, W) in [-1, 1], ``uint8`` is (N, H, W, C) in 0 to 255.
    pixels: Pixels
    half: bool  # Whether weights are stored in half precision; all formats compute in float32.
    opset: Annotated[int, Range(at_least=18, at_most=25)]  # Of ``onnx``: the version of its operators.
    licence: str | None  # Of ``hub``: the licence of the weights, as an identifier of the hub (cc-by-4.0).
    to: str | None  # Of ``hub``: hf:USER/NAME uploads the folder to the Hugging Face Hub.
    # Of ``html``: a folder with the npm package onnxruntime-web; null for npm to fetch it once.
    ort: str | None
    plugins: list[str]  # Modules that register classes; required again for a run that was trained with plugins.
    trust_plugins: bool  # true imports every module that the run's checkpoint names, and so runs its code.

    def __post_init__(self) -> None:
        if self.to is not None and not re.fullmatch(r"hf:[\w.-]+/[\w.-]+", self.to):
            raise ConfigError(f"to={self.to}: give to=hf:USER/NAME")


class Format(Protocol):
    """A format, with what can be chosen in it."""

    @property
    def suffix(self) -> str:
        """Of the file, with a dot, or of the folder."""

    @property
    def whole(self) -> bool:
        """Whether all directions of a model are written together."""

    def write(self, sources: Sequence[Source], path: Path) -> None:
        """Write the file, or into the empty folder."""

    def difference(self, sources: Sequence[Source], path: Path) -> float:
        """Read what was written, run it, and return the largest difference from the model in grey levels."""

    def usage(self, sources: Sequence[Source], path: Path) -> list[str]:
        """Lines of code that use it."""


# For each format how it is built, and those keys that only have an effect in some formats.
FORMATS: dict[str, tuple[Callable[[ExportSettings, Path, dict[str, Any]], Format], set[str]]] = {
    "onnx": (
        lambda settings, run, state: OnnxFormat(settings.pixels, settings.half, settings.opset),
        {"direction", "network_mode", "pixels", "half", "opset"},
    ),
    "safetensors": (lambda settings, run, state: SafetensorsFormat(settings.half), {"half"}),
    "pt2": (lambda settings, run, state: Pt2Format(settings.pixels), {"direction", "network_mode", "pixels"}),
    "reference": (lambda settings, run, state: ReferenceFormat(), {"direction"}),
    "hub": (lambda settings, run, state: _hub(settings, run, state), {"half", "licence", "to"}),
    "html": (
        lambda settings, run, state: _html(settings, state),
        {"direction", "network_mode", "half", "opset", "ort"},
    ),
}


def export(config: dict[str, Any], overrides: list[str]) -> int:
    """``export_model`` as a command, with the exit status 0."""
    export_model(config, overrides)
    return 0


def export_model(config: dict[str, Any], overrides: list[str]) -> list[Path]:
    """Write a model in another format, and compare what was written with the model.

    Args:
        config: The composed configuration, plain values.
        overrides: As typed.

    Returns:
        The files or folders.

    Raises:
        ConfigError: The configuration is wrong, the model can't be written in this format, or the written file makes
            other images.
    """
    settings = construct(ExportSettings, config, key="")
    if settings.run is None:
        raise ConfigError(f"run is missing: give run={settings.checkpoints_dir}/NAME")
    if settings.format is None:
        raise ConfigError(f"format is missing: give format=NAME, one of {', '.join(FORMATS)}")
    build, used = FORMATS[settings.format]
    for key, _ in map(split_override, overrides):
        able = [name for name, (_, keys) in FORMATS.items() if key in keys]
        if able and key not in used:
            value = getattr(settings, key)
            raise ConfigError(f"{key}={value} has no effect with format={settings.format}, but with {', '.join(able)}")
    import_plugins(settings.plugins)
    run = find_run(settings.run, settings.checkpoints_dir)
    state = read_run(run, settings.step, plugins=settings.plugins, trust_plugins=settings.trust_plugins)
    sources = sources_of(run, state, settings)
    form = build(settings, run, state)
    groups = [sources] if form.whole else [[source] for source in sources]
    targets = _targets(run, groups, form, settings)
    for group, target in zip(groups, targets, strict=True):
        _write(group, target, form, settings)
        if settings.to is not None:
            console.err(upload(target, settings.to))
    return targets


def sources_of(run: Path, state: dict[str, Any], settings: ExportSettings) -> list[Source]:
    """What is exported of a checkpoint, one entry per direction.

    Raises:
        ConfigError: The model can't be rebuilt, or has no such direction, or no such pixels.
    """
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
        "image_statistics": isinstance(model, Translator) and model.image_statistics,
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
    sources = [Source(model, spec, direction, settings.network_mode, facts) for direction in directions]
    if settings.pixels == "uint8" and not sources[0].is_8_bit:
        raise ConfigError("pixels=uint8: the images of this model are not of 8 bits, or are in Lab: give pixels=float")
    return sources


def _hub(settings: ExportSettings, run: Path, state: dict[str, Any]) -> HubFormat:
    """The format with the facts of a run for its model card."""
    segments, data = state.get("segments") or [{}], state["config"]["data"]
    step = state["step"]
    images = [path for path, at in sample_images(run) if at <= step]
    measured = [line for name in MEASURED for line in readable_lines(run / name) if line["step"] == step]
    return HubFormat(
        half=settings.half,
        licence=settings.licence,
        command=str(segments[0].get("command", "")),
        data=str(data.get("dataset") or Path(str(data.get("root") or data["mode"])).name),
        metrics=measured,
        images=images[-1] if images else None,
    )


def _html(settings: ExportSettings, state: dict[str, Any]) -> HtmlFormat:
    own = state["config"]
    data = DataSettings.split(own["data"])
    return HtmlFormat(settings.half, settings.opset, settings.ort, lambda: data.build(phase="test", seed=own["seed"]))


def _targets(run: Path, groups: Sequence[Sequence[Source]], form: Format, settings: ExportSettings) -> list[Path]:
    """The path of each file or folder, refused if it exists."""
    if settings.out is None:
        refuse_links(run)
        stem = run.resolve().name
        paths = [
            run / EXPORTS / f"{stem}{'' if form.whole else source.distinction}{form.suffix}" for source, *_ in groups
        ]
    elif len(groups) > 1:
        raise ConfigError(f"out={settings.out} is one file, and this model has two directions: give direction=a_to_b")
    else:
        paths = [Path(settings.out).expanduser()]
    for path in paths:
        if form.suffix.startswith(".") and path.suffix != form.suffix:
            raise ConfigError(f"out={settings.out}: a file of format={settings.format} ends in {form.suffix}")
        if os.path.lexists(path) and not settings.overwrite:
            raise ConfigError(f"{path} exists: give overwrite=true to replace it, or another out=PATH")
    return paths


def _write(sources: Sequence[Source], path: Path, form: Format, settings: ExportSettings) -> None:
    """Write a file or folder, compare it with the model, and print how to use it; nothing is left if it differs."""

    def write_and_compare(unfinished: Path) -> float:
        form.write(sources, unfinished)
        difference = form.difference(sources, unfinished)
        if difference <= TOLERANCE[settings.half]:
            return difference
        raise ConfigError(  # It may be nan.
            f"{path} is not written: it would make images that differ from the model's by {difference:.3g} grey levels "
            f"of 255, and {TOLERANCE[settings.half]:g} is allowed"
        )

    with storage_errors(f"write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if form.suffix.startswith("."):
            with atomic_write(path) as file:
                difference = write_and_compare(Path(file.name))
        else:
            with scratch_folder(path.parent, f".{path.name}-") as scratch:
                folder = scratch / path.name
                folder.mkdir()
                difference = write_and_compare(folder)
                if path.is_dir():
                    for written in folder.iterdir():
                        written.replace(path / written.name)
                else:
                    folder.replace(path)
        size = sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path])) / 1e6
    console.err(f"{path}: {size:.2f} MB, differs from the model by at most {difference:.2g} grey levels of 255")
    if not form.whole and sources[0].direction is not None:
        console.err(f"{_about(sources[0])}; dropout is off")
    console.out(*form.usage(sources, path))


def _about(source: Source) -> str:
    statistics = "the statistics of each image" if source.own_statistics else "its running statistics"
    return f"network_mode={source.network_mode}: batch norm, if there is any, uses {statistics}"
