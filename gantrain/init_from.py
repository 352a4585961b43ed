"""Starting a run from networks that somebody has trained: another run's, or files of pytorch-CycleGAN-and-pix2pix."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gantrain.checkpoint import Checkpoints
from gantrain.models.base import GAN
from gantrain.networks.reference_files import ReferenceNetwork, read_reference
from gantrain.registry import ConfigError


def shaped_like(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the architecture of the network files under ``init_from``, if it names any.

    Raises:
        ConfigError: There is no such file, or it holds no network of the reference code, or two that a run can't have.
    """
    source = config.get("init_from")
    if not isinstance(source, str) or not source.endswith(".pth"):
        return config
    found = _files(Path(source).expanduser(), config)
    shapes: dict[str, dict[str, Any]] = {}
    for name, file in found.items():
        first = shapes.setdefault(file.side, file.config)
        differing = [key for key in file.config if file.config[key] != first.get(key)]
        if differing:
            raise ConfigError(
                f"init_from={source}: {name} differs from its counterpart in {', '.join(differing)}, and a run has one "
                f"architecture for both {file.side}s"
            )
    return {**config, "network": {**config["network"], **shapes}}


def take_networks(model: GAN, source: Path) -> None:
    """Take the networks of another run, or of the files there are beside ``source``, and nothing else of them.

    Raises:
        ConfigError: They are not there, or do not fit.
    """
    if source.suffix != ".pth":
        _take_run(model, source)
        return
    for name, file in _files(source, {}).items():
        side = model.generators() if file.side == "generator" else model.discriminators()
        place = 1 if name.endswith("_B") else 0
        if place >= len(side):
            raise ConfigError(f"init_from={source}: this model has one {file.side}, and {name} would be the second")
        channels = f"{file.channels_in} channels in, {file.channels_out} out"
        _fill(side[place], file.state, f"init_from={source}: {name} ({channels}; see data.channels, data.channels_b)")


def _files(source: Path, config: dict[str, Any]) -> dict[str, ReferenceNetwork]:
    """The file, and those of the same epoch beside it (``latest_net_G_A``, ``_G_B``, ``_D_A``, ``_D_B``), by name.

    ``D_A`` is the judge of what ``G_A`` makes. A file under any other name is the first generator's.
    """
    network = config.get("network", {})
    dropout = network.get("generator", {}).get("dropout", network.get("dropout"))
    given = re.fullmatch(r"(.*_net_)[GD](_[AB])?", source.stem)
    if given is None:
        return {"G": read_reference(source, dropout=dropout)}
    names = ("G_A", "G_B", "D_A", "D_B") if given[2] else ("G", "D")
    beside = {name: source.with_name(f"{given[1]}{name}.pth") for name in names}
    return {
        name: read_reference(path, dropout=dropout) for name, path in beside.items() if path.exists() or path == source
    }


def _take_run(model: GAN, run: Path) -> None:
    try:
        state = Checkpoints(run).load()["model"]
    except ConfigError as error:
        raise ConfigError(f"init_from={run}: {error}") from None
    for name, module in model.named_children():
        if any(True for _ in module.parameters()):
            own = {key[len(name) + 1 :]: value for key, value in state.items() if key.startswith(f"{name}.")}
            _fill(module, own, f"init_from={run}: its {name}")


def _fill(network: nn.Module, state: dict[str, Tensor], what: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise ConfigError(f"{what} does not fit this one ({reason})") from None
