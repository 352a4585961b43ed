"""gantrain trains the classic GANs from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["load"]
__version__ = "0.1.0"

# Installed, the configurations are a package inside this one. In a clone they stand beside it, and `python -m gantrain`
# there shall find them too.
_clone = Path(__file__).parent.parent
if not (Path(__file__).parent / "configs").is_dir() and (_clone / "configs" / "train.yaml").is_file():
    __path__.append(str(_clone))


def __getattr__(name: str) -> Any:
    if name == "load":  # imports torch, which `gantrain --help` can do without
        from gantrain.inference.load import load

        return load
    raise AttributeError(f"module 'gantrain' has no attribute '{name}'")
