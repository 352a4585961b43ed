"""Trained models from run folders, and bare generators from files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gantrain.checkpoints.reference_weights import read_reference
from gantrain.checkpoints.store import Checkpoints, Step
from gantrain.config.settings import choose_device
from gantrain.data.base import Batch, ImageSpec
from gantrain.data.errors import OnError
from gantrain.errors import ConfigError
from gantrain.models.base import GAN
from gantrain.models.colorization import colour_results
from gantrain.models.translation import BareGenerator, Direction, NetworkMode, Translator
from gantrain.optim.ema import EMA
from gantrain.registry import import_plugins, import_saved
from gantrain.training.build import STREAM_KEYS, build_model

NetworkWeights: TypeAlias = Literal["auto", "average", "last"]
CONFIG = ("model", "network", "trainer", "data")  # of a configuration, what a model is rebuilt from


def load(
    run: str | Path,
    *,
    step: Step | None = None,
    device: str = "cpu",
    network_weights: NetworkWeights = "auto",
    plugins: Sequence[str] = (),
    trust_plugins: bool = False,
) -> GAN | Translator:
    """The trained model of a run, in evaluation mode, ready for ``sample`` or ``translate``.

    >>> gan = gantrain.load("checkpoints/dcgan_digits")
    >>> images = gan.sample(gan.latents(64, seed=0))  # (64, 1, 32, 32) in [-1, 1]
    >>> gan = gantrain.load("checkpoints/cyclegan_horse2zebra")
    >>> zebras = gan.translate(horses, "a_to_b")  # both (N, 3, H, W) in [-1, 1]

    Args:
        run: A run folder; or a bare generator of pytorch-CycleGAN-and-pix2pix (``latest_net_G.pth``), which is loaded
            as one that translates a to b.
        step: Which of the run's checkpoints, or ``best``; None for the newest.
        device: Where to put it.
        network_weights: ``average``, ``last``, or ``auto``: the averages if the run kept any.
        plugins: Modules that register classes. A run that was trained with some needs them again.
        trust_plugins: Import whatever modules the run's checkpoint names. Their code runs: not for runs of strangers.

    Raises:
        ConfigError: There is no such run or file, or it can't be rebuilt.
    """
    import_plugins(plugins)
    path = Path(run).expanduser()
    if path.is_file():
        return load_generator(path, "a_to_b", choose_device(device), dropout=None)
    state = read_run(path, step, plugins=plugins, trust_plugins=trust_plugins)
    return rebuild(path, state, choose_device(device), network_weights)


def read_run(run: Path, step: Step | None, *, plugins: Sequence[str], trust_plugins: bool) -> dict[str, Any]:
    """The checkpoint of a run folder, once the plugins that it needs are there.

    Args:
        run: The folder.
        step: Of the checkpoint, or ``best``; None for the newest.
        plugins: Those that the user has named.
        trust_plugins: Whether the checkpoint may name others.

    Raises:
        ConfigError: There is none, or it holds something else, or names other plugins.
    """
    if not run.is_dir():
        raise ConfigError(f"run={run}: there is no such folder")
    state = Checkpoints(run).load(step)
    for key in CONFIG:
        if not isinstance(state["config"].get(key), dict):
            raise ConfigError(f"{run}: its checkpoint holds no run, for there is no {key} in its configuration")
    import_saved(state["config"].get("plugins"), run, given=plugins, trusted=trust_plugins)
    return state


def rebuild(run: Path, state: dict[str, Any], device: torch.device, network_weights: NetworkWeights) -> GAN:
    """The model that a checkpoint describes, with its weights, for use and not for training.

    Raises:
        ConfigError: The averages are asked for, and there are none; or the checkpoint contradicts itself.
    """
    try:
        return _rebuilt(state, device, network_weights)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:  # from hands that we don't know
        reason = (str(error).strip().splitlines() or [""])[-1].strip()
        raise ConfigError(f"{run}: its checkpoint can't be rebuilt ({type(error).__name__}: {reason})") from None


def _rebuilt(state: dict[str, Any], device: torch.device, network_weights: NetworkWeights) -> GAN:
    config = state["config"]
    model = build_model(config, trained_on(state))
    if config["trainer"]["precision"] == "float64":
        model.double()
    model.load_state_dict(state["model"])
    if takes_average(state, network_weights):
        averages = EMA(model.generators(), decay=0.0)
        averages.load_state_dict(state["updates"]["averages"])
        averages.swap()
    return model.requires_grad_(False).eval().to(device)


class BareColorization(BareGenerator):
    """A generator from lightness to colour on its own; it shows what ``Colorization`` shows.

    Args:
        generator: The network, from 1 channel to 2.
    """

    needs = frozenset({"image"})

    def __init__(self, generator: nn.Module) -> None:
        super().__init__(generator, "a_to_b", {"image": 3})

    def results(self, batch: Batch, direction: Direction, *, network_mode: NetworkMode = "train") -> dict[str, Tensor]:
        """See ``colour_results``."""
        return colour_results(self, batch, direction, network_mode)


def load_generator(path: Path, direction: Direction, device: torch.device, *, dropout: float | None) -> BareGenerator:
    """A bare generator of pytorch-CycleGAN-and-pix2pix, for use and not for training.

    One from 1 channel to 2 is that of its colorization, from lightness to colour in CIE Lab.

    Args:
        path: The ``.pth`` file.
        direction: What it is taken to do; colorization knows only a_to_b.
        device: Where to put it.
        dropout: Of a U-Net, whose file does not show it; None for what pix2pix has.

    Raises:
        ConfigError: The file holds no such generator.
    """
    found = read_reference(path, dropout=dropout)
    if found.side != "generator":
        raise ConfigError(f"{path} holds a discriminator, which translates nothing: give the generator's file")
    side = 2 ** (found.halvings + 1)  # whatever it is built for, it takes images of any size
    generator = found.build(side, side)
    generator.load_state_dict(found.state)
    channels = {direction[0]: found.channels_in, direction[-1]: found.channels_out}
    colours = (found.channels_in, found.channels_out) == (1, 2)
    bare = BareColorization(generator) if colours else BareGenerator(generator, direction, channels)
    return bare.requires_grad_(False).eval().to(device)


def takes_average(state: dict[str, Any], network_weights: NetworkWeights) -> bool:
    """Whether the moving averages stand for the trained weights.

    Raises:
        ConfigError: They are asked for, and there are none.
    """
    kept = state["updates"]["averages"] is not None
    if network_weights == "average" and not kept:
        raise ConfigError("network_weights=average: this run kept no averages (model.ema was 0); use last")
    return kept and network_weights != "last"


@dataclass(frozen=True)
class Reading:
    """How data is read, and what could not be.

    Attributes:
        seed: The run's, which draws ``data.fraction``.
        on_error: What an image that can't be read does.
        left_out: What was wrong with those that were left out.
    """

    seed: int
    on_error: OnError
    left_out: set[str] = field(default_factory=set)

    def told(self) -> dict[str, str]:
        """Say how many were left out; and what the page says of it."""
        if not self.left_out:
            return {}
        print(f"warning: bad images left out: {len(self.left_out)}; one: {min(self.left_out)}", file=sys.stderr)
        return {"left out": f"{len(self.left_out)}, which can't be read"}


def trained_on(state: dict[str, Any]) -> ImageSpec:
    """What the training images of a checkpoint were."""
    return ImageSpec.from_dict(state["spec"])


def own_data(state: dict[str, Any]) -> dict[str, Any]:
    """What the run was trained on, as a data configuration names it."""
    return without_stream(state["config"]["data"])


def without_stream(data: dict[str, Any]) -> dict[str, Any]:
    """The keys of the data set alone."""
    return {key: value for key, value in data.items() if key not in STREAM_KEYS}
