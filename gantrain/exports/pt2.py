"""``torch.export``: one ``.pt2`` file that runs in Python without gantrain, and in torch's other runtimes."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch

from gantrain.exports.graph import Pixels
from gantrain.exports.source import Source
from gantrain.exports.usage import usage
from gantrain.inference.exported import METADATA, run_pt2
from gantrain.inference.hub import CONFIG_KEY


@dataclass(frozen=True)
class Pt2Format:
    """Writes ``.pt2`` files.

    Args:
        pixels: The form of inputs and outputs.
    """

    pixels: Pixels
    suffix = ".pt2"
    whole = False

    def write(self, sources: Sequence[Source], path: Path) -> None:
        """Write the graph with its weights and metadata into one file."""
        (source,) = sources
        with warnings.catch_warnings(), torch.no_grad(), _any_size():
            warnings.simplefilter("ignore")  # About torch's own code.
            program = torch.export.export(
                source.graph(self.pixels),
                source.examples(self.pixels)[0],
                dynamic_shapes=source.dynamic_shapes(self.pixels),
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,  # Sizes are checked when it runs, not ruled out.
            )
            buffer = io.BytesIO()
            metadata = source.metadata(self.pixels) | {CONFIG_KEY: json.dumps(source.facts)}
            torch.export.save(program, buffer, extra_files={METADATA: json.dumps(metadata)})
        path.write_bytes(buffer.getvalue())

    def difference(self, sources: Sequence[Source], path: Path) -> float:
        """The largest difference in grey levels between the images of the loaded graph and the model's."""
        (source,) = sources
        return source.difference(run_pt2(path)[0], self.pixels)

    def usage(self, sources: Sequence[Source], path: Path) -> list[str]:
        """Lines of Python that use the file."""
        (source,) = sources
        before, after = usage(source, self.pixels)
        tensors = ", ".join(f"torch.from_numpy({name})" for name in source.inputs)
        load = (
            f'network = torch.export.load("{path.as_posix()}").module()  # This can run code: not for files of others.'
        )
        return ["import numpy, torch, PIL.Image", load, *before, f"output = network({tensors}).numpy()", *after]


def _any_size() -> AbstractContextManager[None]:
    """Inside, traced sizes of 0 and 1, and those that need no padding, are like all others; ``torch.onnx`` does so."""
    from torch.fx.experimental import _config

    patched: AbstractContextManager[None] = cast(Any, _config).patch(backed_size_oblivious=True)
    return patched
