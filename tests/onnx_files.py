"""ONNX files of tiny segmentation networks."""

from __future__ import annotations


def segmenter(
    path: str,
    *,
    dtype: str = "float",
    channels: int = 3,
    sides: tuple[int, int] | None = None,
    numbers: bool = False,
    batch: int | None = None,
    weights: list[list[float]] | None = None,
) -> str:
    """A network whose scores are those of its channels, or combinations of them by ``weights`` (classes, channels)."""
    import onnx  # It may be missing.
    from onnx import TensorProto, helper

    kind = {"uint8": TensorProto.UINT8, "float": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}[dtype]
    shape = [batch or "n", channels, *(sides or ("h", "w"))]
    weights = weights or [[float(one == other) for other in range(channels)] for one in range(channels)]
    kernel = helper.make_tensor(
        "kernel", TensorProto.FLOAT, [len(weights), channels, 1, 1], [value for row in weights for value in row]
    )
    nodes = [
        helper.make_node("Cast", ["photo"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["pixels", "kernel"], ["scores"]),
        *([helper.make_node("ArgMax", ["scores"], ["numbers"], axis=1, keepdims=0)] if numbers else []),
    ]
    output = helper.make_tensor_value_info(
        "numbers" if numbers else "scores", TensorProto.INT64 if numbers else TensorProto.FLOAT, None
    )
    graph = helper.make_graph(
        nodes, "segmenter", [helper.make_tensor_value_info("photo", kind, shape)], [output], [kernel]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
