"""Entry points of ``torch.hub``: ``torch.hub.load(PATH, "cyclegan", source="local", run="checkpoints/NAME")``.

``PATH`` is a clone of this repository, in an environment with its dependencies. The entry points are the names of the
models; ``run`` is anything that ``gantrain.load`` reads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

dependencies = ["torch", "torchvision", "omegaconf", "safetensors"]


def _entry(name: str) -> Callable[..., Any]:
    def load(run: str, **options: Any) -> Any:
        import gantrain
        from gantrain.errors import ConfigError

        model = gantrain.load(run, **options)
        if found := _names(model, name):
            raise ConfigError(
                f"run={run}: a model of the kind {found}, not {name}; torch.hub.load(PATH, '{found}', ...)"
            )
        return model

    load.__name__ = load.__qualname__ = name
    load.__doc__ = (
        f"""A trained {name}: ``run`` is a run folder or an exported file, the others as in ``gantrain.load``."""
    )
    return load


def _names(model: Any, wanted: str) -> str:
    """The name of the model's class, if it is registered under another name than the wanted one; or else empty."""
    from gantrain.registry import MODELS

    kind = type(getattr(model, "module", model))
    found = [name for name in MODELS if MODELS[name] is kind]
    return found[0] if found and wanted not in found else ""


_MODELS = "acgan cgan colorization cut cyclegan dcgan gan infogan lsgan pix2pix sgan wgan wgan_gp"
globals().update({name: _entry(name) for name in _MODELS.split()})
