"""``init_from``: starting a run from trained networks, another run's or files of pytorch-CycleGAN-and-pix2pix."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gantrain.checkpoints.reference_weights import ReferenceNetwork, read_reference
from gantrain.checkpoints.store import Checkpoints
from gantrain.config.overrides import split_override
from gantrain.errors import ConfigError
from gantrain.models.base import GAN
from gantrain.registry import MODELS
from gantrain.runtime import console, distributed

SHARED = ("width", "norm", "dropout", "antialias")  # Keys directly under `network`, for both networks.
INITIALISATION = ("init", "init_gain")  # For networks that are not loaded from a file.


def adopt_architecture(config: dict[str, Any], overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration with the architecture of the ``.pth`` files that ``init_from`` names, if it does.

    Raises:
        ConfigError: A file can't be read, its network is unknown, or it contradicts another file or an override.
    """
    source = config.get("init_from")
    if not isinstance(source, str) or not source.endswith(".pth"):
        return config
    path = Path(source).expanduser()
    files = _read_files(path, config, has_pairs=_has_pairs(config))
    networks: dict[str, dict[str, Any]] = {}
    for name, file in files.items():
        network = networks.setdefault(file.side, dict(file.config))
        if different := [key for key, value in file.config.items() if value != network.get(key)]:
            raise ConfigError(
                f"init_from={source}: {name} differs from the other {file.side} in {', '.join(different)}, but a run "
                f"has one architecture for both {file.side}s"
            )
    for override in overrides:
        _check_override(override, config["network"], files, path)
        side, _, key = split_override(override)[0].removeprefix("network.").partition(".")
        if key in INITIALISATION and side in networks:
            networks[side][key] = config["network"][side][key]
    _check_crop_size(config, files)
    return {**config, "network": {**config["network"], **networks}}


def load_networks(model: GAN, source: Path, config: dict[str, Any] | None = None) -> Sequence[str]:
    """Load the networks, and nothing else, of ``source`` into ``model``.

    Args:
        model: With newly initialised networks.
        source: A run folder, or a ``.pth`` file; those of the other networks beside it are loaded too.
        config: The configuration of this run, to report how the other run differs.

    Returns:
        The class names of the other run, in the order of its networks; none for files.

    Raises:
        ConfigError: The networks do not exist, or do not fit.
    """
    if source.suffix != ".pth":
        return _load_run(model, source, config)
    has_pairs = len(getattr(model, "directions", ())) > 1
    files = _read_files(source, config or {}, has_pairs=has_pairs)
    for name, file in files.items():
        networks = model.generators() if file.side == "generator" else model.discriminators()
        channels = f"{file.channels_in} channels in, {file.channels_out} out"
        what = f"init_from={source}: {name} ({channels}; see data.channels, data.channels_b)"
        _load_state(networks[1 if name.endswith("_B") and has_pairs else 0], file.state, what)
    if distributed.rank() == 0:
        path = source if len(files) == 1 else source.with_name(re.sub(r"(_net_).*", r"\1*.pth", source.name))
        networks_by_side = {file.side: _summary(file.config) for file in files.values()}
        console.err(f"init_from: {', '.join(files)} of {path}: {'; '.join(networks_by_side.values())}")
    return ()


def _load_state(network: nn.Module, state: dict[str, Tensor], what: str) -> None:
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = textwrap.shorten(str(error).splitlines()[-1], 300, placeholder="...")  # torch may list every key.
        raise ConfigError(f"{what} does not fit this one ({reason})") from None


# ---- files


def _has_pairs(config: dict[str, Any]) -> bool:
    """Whether the model has a generator for each direction; True for a model of a plug-in not imported yet."""
    name = config.get("model", {}).get("name")
    return name not in MODELS or len(getattr(MODELS[name], "directions", ())) > 1


def _read_files(source: Path, config: dict[str, Any], *, has_pairs: bool) -> dict[str, ReferenceNetwork]:
    """The networks in ``source`` and in the files of the same epoch beside it, by name (``G_A``, ``G_B``, ``D_A`` ...).

    ``D_A`` is the discriminator of the images that ``G_A`` generates. A file with any other name is the first
    generator. If ``source`` is one of four, a model without pairs of networks loads it alone.
    """
    network = config.get("network", {})
    dropout = network.get("generator", {}).get("dropout", network.get("dropout"))
    match = re.fullmatch(r"(.*_net_)([GD](_[AB])?)", source.stem)
    if match is None or (match[3] and not has_pairs):
        paths = {match[2] if match else "G": source}
    else:
        names = ("G_A", "G_B", "D_A", "D_B") if match[3] else ("G", "D")
        paths = {name: source.with_name(f"{match[1]}{name}.pth") for name in names}
    return {
        name: read_reference(path, dropout=dropout, run_key="init_from")
        for name, path in paths.items()
        if path.exists() or path == source
    }


def _check_override(
    override: str, network: dict[str, Any], files: Mapping[str, ReferenceNetwork], source: Path
) -> None:
    """Refuse an override of the networks that contradicts a file."""
    typed, value = split_override(override)
    for name, file in files.items():
        for key, wanted in _overridden(typed, network, file.side).items():
            is_unknown = file.config["name"] == "unet" and key == "dropout"  # The file does not show it.
            if is_unknown or wanted == file.config.get(key):
                continue
            found = f"{key} {file.config[key]}" if key in file.config else f"a {file.config['name']} without {key}"
            which = "" if name in source.stem or len(files) == 1 else f" ({name})"
            raise ConfigError(f"{typed}={value} contradicts {source}{which}, which has {found}: omit {typed}")


def _overridden(typed: str, network: dict[str, Any], side: str) -> dict[str, Any]:
    """The keys that an override sets in the network of one side, with their values."""
    own = network.get(side, {})
    if typed == f"network/{side}":  # A group takes shared keys from `network`, and null values from the data.
        return {k: v for k, v in own.items() if k not in (*SHARED, *INITIALISATION) and v is not None}
    key = typed.rpartition(".")[2]
    if typed == f"network.{key}" and key in SHARED and (key, side) != ("dropout", "discriminator"):
        return {key: network[key]}
    if typed == f"network.{side}.{key}" and key not in INITIALISATION:
        return {key: own.get(key)}
    return {}


def _check_crop_size(config: dict[str, Any], files: Mapping[str, ReferenceNetwork]) -> None:
    """Refuse a U-Net whose depth requires other multiples than the size to which images are cropped."""
    data = config.get("data", {})
    preprocess, size = data.get("preprocess"), data.get("crop_size")
    if preprocess is not None and "crop" not in str(preprocess):
        return
    for file in files.values():
        multiple = 2**file.halvings
        sides = size if isinstance(size, list) else [size]
        if file.config["name"] == "unet" and any(isinstance(side, int) and side % multiple for side in sides):
            raise ConfigError(
                f"data.crop_size={size}: the U-Net of init_from={config['init_from']} halves images {file.halvings} "
                f"times: give multiples of {multiple}"
            )


def _summary(network: dict[str, Any]) -> str:
    words = [network["name"], *(f"{network[key]} {key}" for key in ("blocks", "layers") if key in network)]
    words += [f"{key} {network[key]}" for key in ("depth", "width") if key in network]
    words += [f"{network['norm']} norm" if network["norm"] != "none" else "no norm"]
    words += [f"dropout {network['dropout']}"] if network.get("dropout") else []
    return ", ".join(words)


# ---- runs


def _load_run(model: GAN, run: Path, config: dict[str, Any] | None) -> Sequence[str]:
    state = _read_run(run)
    networks = {name: module for name, module in model.named_children() if any(True for _ in module.parameters())}
    states = {
        name: {key[len(name) + 1 :]: value for key, value in state["model"].items() if key.startswith(f"{name}.")}
        for name in networks
    }
    try:
        for name, module in networks.items():
            _load_state(module, states[name], f"init_from={run}: its {name}")
    except ConfigError:
        different = _different_keys(state["config"], config, same_names=all(states.values())) if config else {}
        if not different:
            raise
        found = ", ".join(f"{key}={theirs} (here {ours})" for key, (theirs, ours) in different.items())
        remedy = " ".join(f"{key}={theirs}" for key, (theirs, _) in different.items())
        raise ConfigError(f"init_from={run}: that run has {found}: give {remedy}") from None
    names: Sequence[str] = state.get("spec", {}).get("class_names", ())
    return names


def _read_run(run: Path) -> dict[str, Any]:
    if run.is_file():
        raise ConfigError(f"init_from={run} is not a .pth file: give the run folder, init_from={run.parent}")
    try:
        return Checkpoints(run).load()
    except ConfigError as error:
        files = sorted(path.name for path in run.glob("*.pth"))
        if not files or Checkpoints(run).steps():
            raise ConfigError(f"init_from={run}: {error}") from None
        best = next((name for name in files if "latest_net_G" in name), files[0])
        more = f" and {len(files) - 6} more" if len(files) > 6 else ""
        raise ConfigError(
            f"init_from={run}: no checkpoint in this folder, only {', '.join(files[:6])}{more}: give one of them, "
            f"init_from={run / best}"
        ) from None


def _different_keys(theirs: dict[str, Any], ours: dict[str, Any], *, same_names: bool) -> dict[str, tuple[Any, Any]]:
    """The keys, as typed, under which the networks of two runs differ, with both values.

    Only the model, if that differs and does not have networks of the ``same_names``.
    """
    names = theirs["model"]["name"], ours["model"]["name"]
    model = {"model": names} if names[0] != names[1] else {}
    if model and not same_names:
        return model
    different: dict[str, tuple[Any, Any]] = {}
    networks = theirs["network"], ours["network"]
    for side in ("generator", "discriminator"):
        a, b = (network[side] for network in networks)
        if a["name"] != b["name"]:
            different[f"network/{side}"] = (a["name"], b["name"])
            continue
        for key in sorted({*a, *b} - {*INITIALISATION}):
            values = a.get(key), b.get(key)
            is_shared = key in SHARED and values == tuple(network[key] for network in networks)
            if values[0] != values[1]:
                different[f"network.{key}" if is_shared else f"network.{side}.{key}"] = values
    return different or model
