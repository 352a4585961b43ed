"""ONNX: one file that onnxruntime and others run at any batch size, height and width."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gantrain.config.extras import require
from gantrain.exports.graph import Pixels
from gantrain.exports.source import Source
from gantrain.exports.usage import usage
from gantrain.inference.exported import run_onnx
from gantrain.inference.hub import CONFIG_KEY

STORED_AS_FLOAT32 = 256  # Elements of a weight below which ``half`` stores it in float32.
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class OnnxFormat:
    """Writes ONNX files.

    Args:
        pixels: The form of inputs and outputs.
        half: Whether weights are stored as float16; computation is in float32.
        opset: The version of ONNX's operators.
    """

    pixels: Pixels
    half: bool
    opset: int
    suffix = ".onnx"
    whole = False

    def write(self, sources: Sequence[Source], path: Path) -> None:
        """Write the graph with its weights and metadata into one file."""
        (source,) = sources
        require(*LIBRARIES, extra="export", by="format=onnx")
        program = _trace(source, self.pixels, self.opset)
        if self.half:
            _store_as_float16(program.model)
        metadata = source.metadata(self.pixels) | {CONFIG_KEY: json.dumps(source.facts)}
        program.model.metadata_props.update(metadata)
        program.model.producer_name, program.model.producer_version = "gantrain", source.facts["gantrain"]
        program.save(str(path), external_data=False)

    def difference(self, sources: Sequence[Source], path: Path) -> float:
        """The largest difference in grey levels between onnxruntime's images and the model's."""
        (source,) = sources
        return source.difference(run_onnx(path), self.pixels)

    def usage(self, sources: Sequence[Source], path: Path) -> list[str]:
        """Lines of Python that use the file."""
        (source,) = sources
        before, after = usage(source, self.pixels)
        feed = ", ".join(f'"{name}": {name}' for name in source.inputs)
        run = f'(output,) = onnxruntime.InferenceSession("{path.as_posix()}").run(None, {{{feed}}})'
        return ["import numpy, onnxruntime, PIL.Image", *before, run, *after]


def _trace(source: Source, pixels: Pixels, opset: int) -> Any:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # About torch's own code.
        return torch.onnx.export(
            source.graph(pixels),
            source.examples(pixels)[0],
            dynamo=True,
            dynamic_shapes=source.dynamic_shapes(pixels),
            input_names=source.inputs,
            output_names=["output"],
            opset_version=opset,
            verbose=False,
        )


def _store_as_float16(model: Any) -> None:
    """Replace the large weights of an ONNX model by half precision, each with a conversion to float32."""
    from onnxscript import ir

    graph = model.graph
    for value in list(graph.initializers.values()):
        weight = value.const_value
        if weight.dtype != ir.DataType.FLOAT or weight.size < STORED_AS_FLOAT32:
            continue
        cast = ir.node("Cast", [], attributes={"to": ir.DataType.FLOAT.value})
        value.replace_all_uses_with(cast.outputs[0])
        cast.resize_inputs(1)
        cast.replace_input_with(0, value)
        cast.outputs[0].name = f"{value.name}_float32"
        cast.outputs[0].shape, cast.outputs[0].dtype = value.shape, ir.DataType.FLOAT
        value.const_value = ir.tensor(weight.numpy().astype("float16"), name=value.name)
        value.dtype = ir.DataType.FLOAT16
        graph.insert_before(graph[0], cast)
