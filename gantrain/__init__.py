"""gantrain trains the classic GANs from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gantrain.api import Run, train
    from gantrain.inference.load import load

__all__ = ["Run", "__version__", "load", "train"]

__version__ = "0.2.0"

# Installed, the configurations are a package inside this one. In a clone they stand beside it, and `python -m gantrain`
# there shall find them too.
_clone = Path(__file__).parent.parent
if not (Path(__file__).parent / "configs").is_dir() and (_clone / "configs" / "train.yaml").is_file():
    __path__.append(str(_clone))


def __getattr__(name: str) -> Any:
    # These import torch, which `gantrain --help` does without.
    if name == "load":
        from gantrain.inference.load import load

        return load
    if name in ("Run", "train"):
        from gantrain import api

        return getattr(api, name)
    raise AttributeError(f"module 'gantrain' has no attribute '{name}'")
