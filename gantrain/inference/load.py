"""Loading trained models from run folders, and single generators from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from gantrain.checkpoints.reference_weights import read_reference
from gantrain.checkpoints.store import Checkpoints, Step
from gantrain.config.settings import choose_device
from gantrain.data.base import ImageSpec
from gantrain.data.errors import OnError
from gantrain.errors import ConfigError
from gantrain.inference.exported import open_exported
from gantrain.inference.model import Model
from gantrain.models.base import GAN
from gantrain.models.colorization import BareColorization
from gantrain.models.translation import BareGenerator, Direction
from gantrain.optim.ema import EMA
from gantrain.registry import import_plugins, import_saved
from gantrain.runtime import console
from gantrain.training.build import build_model

NetworkWeights: TypeAlias = Literal["auto", "average", "last"]


def load(
    path: str | Path,
    *,
    step: Step | None = None,
    device: str = "cpu",
    network_weights: NetworkWeights = "auto",
    plugins: Sequence[str] = (),
    trust_plugins: bool = False,
) -> Model:
    """A trained model, ready for use.

    >>> gan = gantrain.load("checkpoints/dcgan_digits")
    >>> images = gan.sample(gan.latents(64, seed=0))  # (64, 1, 32, 32) in [-1, 1]
    >>> gan = gantrain.load("checkpoints/cyclegan_horse2zebra")
    >>> zebra = gan(PIL.Image.open("horse.jpg"))  # a PIL image of the same size; or an array, or a tensor
    >>> zebras = gan.translate(horses, "a_to_b")  # both (N, 3, H, W) in [-1, 1]

    Args:
        path: A run folder; a hub folder, or a ``.safetensors`` or ``.onnx`` file, of ``gantrain export``; or a
            generator file of pytorch-CycleGAN-and-pix2pix (``latest_net_G.pth``), which is taken to translate a to b.
        step: The step of a checkpoint, or ``best``; None for the newest.
        device: ``cpu``, ``cuda``, ``mps`` or ``auto``.
        network_weights: ``average``, ``last``, or ``auto``: the averages if the run has any.
        plugins: Modules that register classes. A run that was trained with plug-ins needs them again.
        trust_plugins: Import all modules that the run's checkpoint names, and read ``.pt2`` files. Code from them runs:
            not for untrusted ones.

    Raises:
        ConfigError: The run or file does not exist, or can't be rebuilt.
    """
    import_plugins(plugins)
    return open_model(
        Path(path).expanduser(),
        choose_device(device),
        step=step,
        network_weights=network_weights,
        plugins=plugins,
        trust_plugins=trust_plugins,
    )


def open_model(
    path: Path,
    device: torch.device,
    *,
    step: Step | None = None,
    network_weights: NetworkWeights = "auto",
    plugins: Sequence[str] = (),
    trust_plugins: bool = False,
    direction: Direction = "a_to_b",
    dropout: float | None = None,
    autocast: torch.dtype | None = None,
) -> Model:
    """The model of a run folder or of a file, whichever the path is.

    Args:
        path: See ``load``, also for the arguments that are not described here.
        device: The device of the networks.
        step: For a run.
        network_weights: For a run.
        plugins: For a run; they are imported already.
        trust_plugins: For a run.
        direction: For a generator file: the direction in which it translates.
        dropout: For a generator file; see ``load_generator``.
        autocast: See ``Model``.

    Raises:
        ConfigError: See ``load``.
    """
    exported = open_exported(path, device, trusted=trust_plugins)
    if exported is not None or path.is_file():
        of_run = {"step": step, "network_weights": network_weights}
        for key, value in of_run.items():
            if value not in (None, "auto"):
                raise ConfigError(f"{key}={value} is for run=checkpoints/NAME, but {path} is no run")
    if exported is not None:
        module, spec = exported
        return Model(module, spec=spec, autocast=autocast)
    if path.is_file():
        return Model(load_generator(path, direction, device, dropout=dropout), autocast=autocast)
    state = read_run(path, step, plugins=plugins, trust_plugins=trust_plugins)
    module = rebuild(path, state, device, network_weights)
    spec = ImageSpec.from_dict(state["spec"])
    return Model(module, spec=spec, step=state["step"], config=state["config"], autocast=autocast)


def read_run(run: Path, step: Step | None, *, plugins: Sequence[str], trust_plugins: bool) -> dict[str, Any]:
    """The checkpoint of a run folder, after importing the plug-ins that it needs; for the arguments see ``load``.

    Raises:
        ConfigError: There is no checkpoint, it is not of a run, or it needs other plug-ins.
    """
    if not run.is_dir():
        raise ConfigError(f"run={run}: no such folder")
    state = Checkpoints(run).load(step)
    for key in ("model", "network", "trainer", "data"):  # A model is rebuilt from these groups.
        if not isinstance(state["config"].get(key), dict):
            raise ConfigError(f"{run}: its checkpoint is not of a run (its configuration has no {key})")
    import_saved(state["config"].get("plugins"), run, given=plugins, trusted=trust_plugins)
    return state


def rebuild(run: Path, state: dict[str, Any], device: torch.device, network_weights: NetworkWeights) -> GAN:
    """The model of a checkpoint with its weights, in evaluation mode and without gradients.

    Raises:
        ConfigError: Averaged weights are requested and the run has none, or the checkpoint is inconsistent.
    """
    try:
        config = state["config"]
        model = build_model(config, ImageSpec.from_dict(state["spec"]))
        if config["trainer"]["precision"] == "float64":
            model.double()
        model.load_state_dict(state["model"])
        if takes_average(state, network_weights):
            averages = EMA(model.generators(), decay=0.0)
            averages.load_state_dict(state["updates"]["averages"])
            averages.swap()
        return model.requires_grad_(False).eval().to(device)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:  # The file may come from anywhere.
        reason = (str(error).strip().splitlines() or [""])[-1].strip()
        raise ConfigError(f"{run}: its checkpoint can't be rebuilt ({type(error).__name__}: {reason})") from None


def load_generator(path: Path, direction: Direction, device: torch.device, *, dropout: float | None) -> BareGenerator:
    """A generator of pytorch-CycleGAN-and-pix2pix, in evaluation mode and without gradients.

    A generator from 1 channel to 2 is taken for a colorization, from lightness to colour in CIE Lab.

    Args:
        path: The ``.pth`` file.
        direction: The direction in which it translates; a colorization only supports a_to_b.
        device: The device of the returned module.
        dropout: The dropout rate of a U-Net, which its file does not contain; None for that of pix2pix.

    Raises:
        ConfigError: The file does not contain such a generator.
    """
    found = read_reference(path, dropout=dropout)
    if found.side != "generator":
        raise ConfigError(f"{path} contains a discriminator: give the file of the generator")
    side = 2 ** (found.halvings + 1)  # It accepts images of any size, whatever it is built for.
    generator = found.build(side, side)
    generator.load_state_dict(found.state)
    channels = {direction[0]: found.channels_in, direction[-1]: found.channels_out}
    colours = (found.channels_in, found.channels_out) == (1, 2)
    bare = BareColorization(generator) if colours else BareGenerator(generator, direction, channels)
    return bare.requires_grad_(False).eval().to(device)


def takes_average(state: dict[str, Any], network_weights: NetworkWeights) -> bool:
    """Whether the moving averages replace the trained weights.

    Raises:
        ConfigError: They are requested, but the run has none.
    """
    averaged = state["updates"]["averages"] is not None
    if network_weights == "average" and not averaged:
        raise ConfigError("network_weights=average: this run has no averaged weights (model.ema was 0); use last")
    return averaged and network_weights != "last"


@dataclass(frozen=True)
class ReadPolicy:
    """How the images of a test are read, and which of them were unreadable."""

    seed: int  # The run's seed, which selects the images of ``data.fraction``.
    on_error: OnError  # Whether an unreadable image ends the test or is skipped.
    left_out: set[str] = field(default_factory=set)  # The error messages of skipped images.

    def report(self) -> dict[str, str]:
        """Print how many images were skipped, and return that as a fact for the page."""
        if not self.left_out:
            return {}
        console.err(f"warning: unreadable images skipped: {len(self.left_out)}; one: {min(self.left_out)}")
        return {"skipped": f"{len(self.left_out)} unreadable images"}
