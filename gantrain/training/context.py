"""The configuration of a run, checked, before any object is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from gantrain.config.overrides import command_line
from gantrain.config.schema import construct
from gantrain.config.settings import RunSettings, TrainerSettings, choose_device
from gantrain.data.settings import DataSettings
from gantrain.runtime import distributed

# Composes the configuration of the model and the data alone, for the page; its result is None if it is unknown.
Defaults = Callable[[], dict[str, Any] | None]


@dataclass(frozen=True)
class RunContext:
    """A run's configuration, the same as plain values and as checked settings, and where it runs."""

    config: dict[str, Any]  # The final configuration, plain values, as checkpoints store it.
    overrides: list[str]  # As typed, for the record and for messages.
    defaults: Defaults
    settings: RunSettings  # The top level of ``config``.
    trainer: TrainerSettings  # ``config["trainer"]``.
    data: DataSettings  # ``config["data"]``.
    device: torch.device  # The device of this process.
    wants_stop: Callable[[], bool] = field(default=lambda: False)  # Whether the run has been asked to stop.

    @classmethod
    def create(
        cls, config: dict[str, Any], overrides: list[str] | None = None, defaults: Defaults = lambda: None
    ) -> RunContext:
        """Check a configuration and choose the device of this process.

        Raises:
            ConfigError: A key is unknown, missing or of the wrong type, or this machine has no such device.
        """
        settings = construct(RunSettings, config, key="")
        trainer = construct(TrainerSettings, settings.trainer, key="trainer")
        return cls(
            config=config,
            overrides=overrides or [],
            defaults=defaults,
            settings=settings,
            trainer=trainer,
            data=DataSettings.split(settings.data),
            device=choose_device(trainer.accelerator, distributed.local_rank()),
        )

    @property
    def is_named(self) -> bool:
        """Whether ``resume`` names the run, which may then continue with other settings."""
        return self.settings.resume not in ("auto", "never")

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.settings.folder

    def command(self, *changes: str) -> str:
        """The command that was typed, with ``changes`` replacing overrides of the same keys, quoted for a shell."""
        return command_line("train", self.overrides, *changes)
