"""Trained models from run folders, and bare generators from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gantrain.build import build_model
from gantrain.checkpoint import Checkpoints
from gantrain.data.base import Batch, ImageSpec
from gantrain.models.base import GAN
from gantrain.models.colorization import colour_results
from gantrain.models.translation import BareGenerator, Direction, NetworkMode, Translator
from gantrain.networks.reference_files import read_reference
from gantrain.optim import Averages
from gantrain.registry import MODELS, ConfigError
from gantrain.settings import choose_device, import_plugins

NetworkWeights: TypeAlias = Literal["auto", "average", "last"]


def load(
    run: str | Path,
    *,
    step: int | None = None,
    device: str = "cpu",
    network_weights: NetworkWeights = "auto",
    plugins: list[str] | None = None,
) -> GAN | Translator:
    """The trained model of a run, in evaluation mode, ready for ``sample`` or ``translate``.

    >>> gan = gantrain.load("checkpoints/dcgan_digits")
    >>> images = gan.sample(gan.latents(64, seed=0))  # (64, 1, 32, 32) in [-1, 1]
    >>> gan = gantrain.load("checkpoints/cyclegan_horse2zebra")
    >>> zebras = gan.translate(horses, "a_to_b")  # both (N, 3, H, W) in [-1, 1]

    Args:
        run: A run folder; or a bare generator of pytorch-CycleGAN-and-pix2pix (``latest_net_G.pth``), which is loaded
            as one that translates a to b.
        step: Which of the run's checkpoints; None for the newest.
        device: Where to put it.
        network_weights: ``average``, ``last``, or ``auto``: the averages if the run kept any.
        plugins: Modules that register classes.

    Raises:
        ConfigError: There is no such run or file, or it can't be rebuilt.
    """
    import_plugins(plugins or [])
    path = Path(run).expanduser()
    if path.is_file():
        return load_generator(path, "a_to_b", choose_device(device), dropout=None)
    return rebuild(read_run(path, step), choose_device(device), network_weights)


def read_run(run: Path, step: int | None) -> dict[str, Any]:
    """The checkpoint of a run folder.

    Raises:
        ConfigError: There is none.
    """
    if not run.is_dir():
        raise ConfigError(f"run={run}: there is no such folder")
    return Checkpoints(run).load(step)


def rebuild(state: dict[str, Any], device: torch.device, network_weights: NetworkWeights) -> GAN:
    """The model that a checkpoint describes, with its weights, for use and not for training."""
    config = state["config"]
    if config["model"]["name"] not in MODELS and config["plugins"]:
        # never imported because a file says so, only because the user does
        raise ConfigError(f"this run was trained with plugins: give plugins=[{','.join(config['plugins'])}] again")
    model = build_model(config, trained_on(state))
    if config["trainer"]["precision"] == "float64":
        model.double()
    model.load_state_dict(state["model"])
    if takes_average(state, network_weights):
        averages = Averages(model.generators(), decay=0.0)
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


def trained_on(state: dict[str, Any]) -> ImageSpec:
    """What the training images of a checkpoint were."""
    return ImageSpec.from_dict(state["spec"])
