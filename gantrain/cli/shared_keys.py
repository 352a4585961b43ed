"""The keys directly under ``network``, which are for both networks, and keys that only YAML files may set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from gantrain.config.overrides import split_override
from gantrain.errors import ConfigError

SIDES = ("generator", "discriminator")
# Keys that no class reads, by which files give defaults to files of other groups.
DEFAULTS = ("demo", "discriminator_defaults", "network_defaults")


def add_shared_resolver() -> None:
    """Register ``${shared:norm,batch}``: ``network.norm`` if it was set, or else ``batch``, the network's own value."""

    def shared(key: str, own: Any, *, _root_: DictConfig) -> Any:
        network = _root_.network
        return own if OmegaConf.is_interpolation(network, key) else network[key]

    OmegaConf.register_new_resolver("shared", shared, replace=True)


def unread(config: DictConfig) -> dict[str, list[str]]:
    """The keys directly under ``network`` that neither chosen network refers to, each with the keys that these have."""
    if "network" not in config:  # As for a test.
        return {}
    network = cast(dict[str, Any], OmegaConf.to_container(config.network, resolve=False))
    if not all(isinstance(network.get(side), dict) for side in SIDES):  # It is refused elsewhere.
        return {}
    sides = {f"network.{side}": keys for side, keys in network.items() if isinstance(keys, dict)}
    values = [str(value) for keys in sides.values() for value in keys.values()]
    shared = [key for key in network if f"network.{key}" not in sides]
    return {
        key: [f"{side}.{key}" for side, keys in sides.items() if key in keys]
        for key in shared
        if not any(re.search(rf"\$\{{(network\.|\.\.|shared:){key}\b", value) for value in values)
    }


def refuse_unread(overrides: Sequence[str], unread_keys: dict[str, list[str]], network: dict[str, Any]) -> None:
    """Refuse overrides of keys that no class and no network reads.

    Args:
        overrides: As typed.
        unread_keys: The result of ``unread``.
        network: The composed keys under ``network``.
    """
    for override in overrides:
        key = split_override(override)[0]
        first, _, rest = key.partition(".")
        if first in DEFAULTS:
            keys = " and ".join(f"{key}=..." for key in _instead(first, rest, network))
            remedy = f"; give {keys}" if keys else ", and no network here has such a key"
            raise ConfigError(f"{override} has no effect: it is for files of models and data{remedy}")
        if first == "network" and rest in unread_keys:
            names = " and ".join(f"network/{side}={network[side].get('name')}" for side in SIDES)
            own = " or ".join(f"{name}=..." for name in unread_keys[rest])
            raise ConfigError(
                f"{override} has no effect on {names}: "
                + (f"their own keys are set; give {own}" if own else "neither has such a key, or its own is set")
            )


def _instead(group: str, key: str, network: dict[str, Any]) -> list[str]:
    """The keys that exist of those that may be typed instead of a key of one of ``DEFAULTS``."""
    if group == "demo":
        return ["data"]
    if group == "network_defaults" and key in network:
        return [f"network.{key}"]
    sides = SIDES if group == "network_defaults" else ("discriminator",)
    return [f"network.{side}.{key}" for side in sides if isinstance(network.get(side), dict) and key in network[side]]
