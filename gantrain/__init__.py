"""gantrain trains the classic GANs from a configuration."""

from __future__ import annotations

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    if name == "load":  # imports torch, which `gantrain --help` can do without
        from gantrain.test import load

        return load
    raise AttributeError(f"module 'gantrain' has no attribute '{name}'")
