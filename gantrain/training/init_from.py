"""Starting a run from networks that somebody has trained: another run's, or files of pytorch-CycleGAN-and-pix2pix."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gantrain.checkpoints.reference_weights import ReferenceNetwork, read_reference
from gantrain.checkpoints.store import Checkpoints
from gantrain.config.naming import split_override
from gantrain.errors import ConfigError
from gantrain.models.base import GAN
from gantrain.registry import MODELS
from gantrain.runtime import distributed

SHARED = ("width", "norm", "dropout")  # under `network`, for both networks
NOT_IN_FILE = ("init", "init_gain")  # what a network begins with that has no file
BOTH = ("G_A", "G_B", "D_A", "D_B")


def adopt_architecture(config: dict[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration with the architecture of the network files under ``init_from``, if it names any.

    Args:
        config: The composed configuration, plain values.
        overrides: As typed; what they say of the networks must be what the files show.

    Raises:
        ConfigError: There is no such file, or it holds no network of the reference code, or two that a run can't have,
            or another than was typed.
    """
    source = config.get("init_from")
    if not isinstance(source, str) or not source.endswith(".pth"):
        return config
    path = Path(source).expanduser()
    found = _files(path, config, pairs=_has_pairs(config))
    shapes: dict[str, dict[str, Any]] = {}
    for name, file in found.items():
        first = shapes.setdefault(file.side, dict(file.config))
        differing = [key for key in file.config if file.config[key] != first.get(key)]
        if differing:
            raise ConfigError(
                f"init_from={source}: {name} differs from its counterpart in {', '.join(differing)}, and a run has one "
                f"architecture for both {file.side}s"
            )
    _check_typed(config["network"], overrides, found, path)
    for key, _ in map(split_override, overrides):
        network, _, entry = key.removeprefix("network.").partition(".")
        if entry in NOT_IN_FILE and network in shapes:
            shapes[network][entry] = config["network"][network][entry]
    _check_sides(config, found)
    return {**config, "network": {**config["network"], **shapes}}


def load_networks(model: GAN, source: Path, config: dict[str, Any] | None = None) -> None:
    """Take the networks of another run, or of the files there are beside ``source``, and nothing else of them.

    Args:
        model: Whose networks are filled.
        source: A run folder or a ``.pth`` file.
        config: This run's, to say how the other one differs.

    Raises:
        ConfigError: They are not there, or do not fit.
    """
    if source.suffix != ".pth":
        _take_run(model, source, config)
        return
    generators = len(model.generators())
    found = _files(source, config or {}, pairs=generators > 1)
    for name, file in found.items():
        side = model.generators() if file.side == "generator" else model.discriminators()
        place = 1 if name.endswith("_B") and generators > 1 else 0
        channels = f"{file.channels_in} channels in, {file.channels_out} out"
        _fill(side[place], file.state, f"init_from={source}: {name} ({channels}; see data.channels, data.channels_b)")
    if distributed.rank() == 0:
        print(_told(source, found), file=sys.stderr)


# ---- files


def _has_pairs(config: dict[str, Any]) -> bool:
    """Whether the model has a generator for each direction; one that nobody has registered yet may have."""
    name = config.get("model", {}).get("name")
    return name not in MODELS or len(getattr(MODELS[name], "directions", ())) > 1


def _files(source: Path, config: dict[str, Any], *, pairs: bool) -> dict[str, ReferenceNetwork]:
    """The file, and those of the same epoch beside it (``latest_net_G_A``, ``_G_B``, ``_D_A``, ``_D_B``), by name.

    ``D_A`` is the judge of what ``G_A`` makes. A file under any other name is the first generator's. A model without
    ``pairs`` of networks takes, of one out of four, that one alone.
    """
    network = config.get("network", {})
    dropout = network.get("generator", {}).get("dropout", network.get("dropout"))
    given = re.fullmatch(r"(.*_net_)([GD](_[AB])?)", source.stem)
    if given is None:
        beside = {"G": source}
    elif given[3] and not pairs:
        beside = {given[2]: source}
    else:
        names = BOTH if given[3] else ("G", "D")
        beside = {name: source.with_name(f"{given[1]}{name}.pth") for name in names}
    return {
        name: read_reference(path, dropout=dropout, run_key="init_from")
        for name, path in beside.items()
        if path.exists() or path == source
    }


def _check_typed(
    network: dict[str, Any], overrides: Sequence[str], found: dict[str, ReferenceNetwork], source: Path
) -> None:
    """Refuse what was typed of the networks and is not so in the files."""
    for override in overrides:
        key, typed = split_override(override)
        for name, file in found.items():
            for entry, value in _said(key, network, file.side):
                if file.config["name"] == "unet" and entry == "dropout":
                    continue  # which its file does not show
                has = file.config.get(entry)
                if value != has:
                    words = f"{has} norm" if entry == "norm" else f"{entry} {has}"
                    words = f"a {has}" if entry == "name" else words
                    words = words if entry in file.config else f"a {file.config['name']}, which has no {entry}"
                    beside = "" if name in source.stem or len(found) == 1 else f" ({name})"
                    raise ConfigError(f"{key}={typed} was typed, but {source}{beside} has {words}: leave it away")


def _said(key: str, network: dict[str, Any], side: str) -> Iterator[tuple[str, Any]]:
    """What an override says of the networks of one side, by their keys."""
    own = network.get(side, {})
    parts = key.split(".")
    if key == f"network/{side}":  # a group leaves to others what is of both networks, and null to the data
        yield from ((e, v) for e, v in own.items() if e not in (*SHARED, *NOT_IN_FILE) and v is not None)
    elif parts[0] == "network" and len(parts) == 2 and parts[1] in SHARED:
        if not (parts[1] == "dropout" and side == "discriminator"):
            yield parts[1], network[parts[1]]
    elif parts[:2] == ["network", side] and len(parts) == 3 and parts[2] not in NOT_IN_FILE:
        yield parts[2], own.get(parts[2])


def _check_sides(config: dict[str, Any], found: dict[str, ReferenceNetwork]) -> None:
    """Refuse a U-Net for images that are cut to a size it can't halve so often; its depth is not to be chosen."""
    data = config.get("data", {})
    preprocess, size = data.get("preprocess"), data.get("crop_size")
    cut = preprocess is None or "crop" in str(preprocess)
    sides = size if isinstance(size, list) else [size]
    for file in found.values() if cut else ():
        multiple = 2**file.halvings
        if file.config["name"] == "unet" and any(isinstance(side, int) and side % multiple for side in sides):
            raise ConfigError(
                f"data.crop_size={size}: the U-Net of init_from={config['init_from']} halves its images "
                f"{file.halvings} times: give multiples of {multiple}"
            )


def _told(source: Path, found: dict[str, ReferenceNetwork]) -> str:
    """What was taken, in a line."""
    place = source if len(found) == 1 else source.with_name(re.sub(r"(_net_).*", r"\1*.pth", source.name))
    networks = {file.side: _described(file.config) for file in found.values()}
    return f"init_from: {', '.join(found)} of {place}: {'; '.join(networks.values())}"


def _described(network: dict[str, Any]) -> str:
    words = [network["name"]]
    words += [f"{network[key]} {key}" for key in ("blocks", "layers") if key in network]
    words += [f"{key} {network[key]}" for key in ("depth", "width") if key in network]
    words += [f"{network['norm']} norm" if network["norm"] != "none" else "no norm"]
    words += [f"dropout {network['dropout']}"] if network.get("dropout") else []
    return ", ".join(words)


# ---- runs


def _take_run(model: GAN, run: Path, config: dict[str, Any] | None) -> None:
    state = _read_run(run)
    networks = {name: module for name, module in model.named_children() if any(True for _ in module.parameters())}
    taken = {
        name: {key[len(name) + 1 :]: value for key, value in state["model"].items() if key.startswith(f"{name}.")}
        for name in networks
    }
    try:
        for name, module in networks.items():
            _fill(module, taken[name], f"init_from={run}: its {name}")
    except ConfigError:
        if config is None:
            raise
        differing = _differing(state["config"], config, whole=all(taken.values()))
        if not differing:
            raise
        has = ", ".join(f"{key}={theirs}" for key, theirs, _ in differing)
        here = ", ".join(str(ours) for *_, ours in differing)
        give = " ".join(f"{key}={theirs}" for key, theirs, _ in differing)
        raise ConfigError(f"init_from={run}: that run has {has}, this one {here}: give {give}") from None


def _read_run(run: Path) -> dict[str, Any]:
    if run.is_file():
        raise ConfigError(f"init_from={run} is a file and no .pth: give its folder, init_from={run.parent}")
    try:
        return Checkpoints(run).load()
    except ConfigError as error:
        files = sorted(path.name for path in run.glob("*.pth"))
        if not files or Checkpoints(run).steps():
            raise ConfigError(f"init_from={run}: {error}") from None
        best = next((name for name in files if "latest_net_G" in name), files[0])
        more = f" and {len(files) - 6} more" if len(files) > 6 else ""
        raise ConfigError(
            f"init_from={run}: no checkpoint in there, but {', '.join(files[:6])}{more}: give one of them, "
            f"init_from={run / best}"
        ) from None


def _differing(there: dict[str, Any], here: dict[str, Any], *, whole: bool) -> list[tuple[str, Any, Any]]:
    """The keys, as typed, under which two runs have other networks, with both values; ``whole``: of the same names."""
    model = [("model", there["model"]["name"], here["model"]["name"])]
    if not whole and model[0][1] != model[0][2]:
        return model
    networks, others = there["network"], here["network"]
    found: dict[str, tuple[Any, Any]] = {}
    for side in ("generator", "discriminator"):
        theirs, ours = networks[side], others[side]
        if theirs["name"] != ours["name"]:
            found[f"network/{side}"] = (theirs["name"], ours["name"])
            continue
        for key in sorted({*theirs, *ours} - {*NOT_IN_FILE}):
            values = theirs.get(key), ours.get(key)
            if values[0] != values[1]:
                shared = key in SHARED and values == (networks[key], others[key])
                found[f"network.{key}" if shared else f"network.{side}.{key}"] = values
    return [(key, *values) for key, values in found.items()] or [pair for pair in model if pair[1] != pair[2]]


def _fill(network: nn.Module, state: dict[str, Tensor], what: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        reason = reason if len(reason) < 300 else f"{reason[:300]}..."  # which may list every key
        raise ConfigError(f"{what} does not fit this one ({reason})") from None
