"""The package's YAML files, and what they compose."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

CONFIGS = Path(str(resources.files("gantrain.configs")))
GROUPS = (
    "data",
    "experiment",
    "logger",
    "metrics",
    "model",
    "network/discriminator",
    "network/generator",
    "optimizer",
    "recipe",
    "recipe/rates",
    "recipe/schedule",
    "schedule",
    "trainer",
)
FILES = [(group, path.stem) for group in GROUPS for path in sorted((CONFIGS / group).glob("*.yaml"))]


def files_of(group: str) -> list[str]:
    names = [name for of, name in FILES if of == group]
    assert names
    return names


def layout(data: str) -> str:
    """The data mode that a data file inherits (``aligned``, ``unaligned``), or else its own name."""
    return OmegaConf.load(CONFIGS / f"data/{data}.yaml").get("defaults", [data])[0]


@functools.cache
def composed(*overrides: str) -> dict:
    with initialize_config_module("gantrain.configs", version_base="1.3"):
        config = compose("train", list(overrides), return_hydra_config=True)
    choices = dict(config.hydra.runtime.choices)
    own = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
    return {"choices": choices, **OmegaConf.to_container(own, resolve=True, throw_on_missing=True)}
