"""Wrong values are refused before torch is imported, which takes seconds.

The constructors of the classes are the schema, as ever, but their annotations are read from the source code. What can't
be found there is checked when the objects are built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gantrain.config import schema
from gantrain.config.schema import checked, construct
from gantrain.config.settings import RunSettings, TrainerSettings
from gantrain.config.source import GROUPS, arguments_at, arguments_of, loss_names
from gantrain.errors import ConfigError, nearest


def check_values(config: Mapping[str, Any], *, also: Mapping[str, str]) -> None:
    """Refuse values of a composed configuration by their annotations.

    Args:
        config: All of it.
        also: Further classes that read the keys of a group, by the group: ``module.Class``.

    Raises:
        ConfigError: The first that does not fit.
    """
    construct(RunSettings, {**config, "name": config["name"] or "run"}, key="")
    construct(TrainerSettings, config["trainer"], key="trainer")
    for key, group in GROUPS.items():
        values: Any = config
        for part in key.split("."):
            values = values.get(part) if isinstance(values, Mapping) else None
        if not isinstance(values, Mapping):
            continue  # It is refused later.
        arguments = arguments_of(key, str(values.get(group.choose_by)))
        if key in also:
            arguments = arguments_at(also[key]) | arguments
        for name, value in values.items():
            if name in arguments and (annotation := arguments[name].annotation) is not None:
                checked(value, annotation, f"{key}.{name}")
    loss, known = config["model"].get("loss"), loss_names()
    if loss is not None and loss not in known and not config.get("plugins"):  # A plug-in may add others.
        raise ConfigError(f"model.loss: no adversarial loss '{loss}'; {nearest(str(loss), known)}")
    checked(config["optimizer"].get("lr", 0), schema.NonNegativeFloat, "optimizer.lr")
    checked(config["optimizer"].get("discriminator_lr"), schema.NonNegativeFloat | None, "optimizer.discriminator_lr")
