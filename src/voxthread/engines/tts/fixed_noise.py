"""The noise a VITS voice draws, taken from a table instead: the same text is then always the same samples.

The `seed` of `RandomNormalLike` does not do that: its generator goes on from one run to the next.
"""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_TABLE_SHAPE = (1, 192, 4096)
"""(batch, channels, steps): as many channels as the prior has, 47 s of frames of 256 samples at 22.05 kHz."""

_STEPS_APART = 1024
"""Where in the table one draw starts after the other, so that the two of a voice share no values at once."""

SEED = 1
"""Of the seeds 0 to 7 the one whose sentences last nearest to what they last on average when noise is drawn."""

_PREFIX = "voxthread/noise"


def fix_noise(graph: onnx.GraphProto, seed: int = SEED) -> None:
    """Replace each `RandomNormalLike` of a (batch, channels, steps) tensor by a constant of that shape.

    The value at a channel and step depends on nothing else, the length of the sentence least of all.
    """
    nodes: list[onnx.NodeProto] = []
    draws = 0
    for node in graph.node:
        if node.op_type == "RandomNormalLike":
            nodes += _look_up(graph, draws, like=node.input[0], output=node.output[0])
            draws += 1
        else:
            nodes.append(node)
    if draws:
        _add_constant(graph, "table", _standard_normal(seed))
        _add_constant(graph, "zeros", np.zeros(len(_TABLE_SHAPE), dtype=np.int64))
        del graph.node[:]
        graph.node.extend(nodes)


def _look_up(graph: onnx.GraphProto, draw: int, *, like: str, output: str) -> list[onnx.NodeProto]:
    """Cut from the table what there is of the shape of `like`, and repeat it where it is too short.

    A slice ends where its tensor does, so only what is needed is copied: 0.1 ms in a sentence.
    """
    start = np.array([0, 0, draw * _STEPS_APART])
    room = np.array(_TABLE_SHAPE) - start
    start_name = _add_constant(graph, f"{draw}/start", start)
    room_name = _add_constant(graph, f"{draw}/room", room)
    rounding_up = _add_constant(graph, f"{draw}/rounding_up", room - 1)

    def at(name: str) -> str:
        return f"{_PREFIX}/{draw}/{name}"

    return [
        helper.make_node("Shape", [like], [at("shape")]),
        helper.make_node("Add", [at("shape"), start_name], [at("end")]),
        helper.make_node("Slice", [f"{_PREFIX}/table", start_name, at("end")], [at("piece")]),
        helper.make_node("Add", [at("shape"), rounding_up], [at("rounded_up")]),
        helper.make_node("Div", [at("rounded_up"), room_name], [at("repeats")]),
        helper.make_node("Tile", [at("piece"), at("repeats")], [at("tiled")]),
        helper.make_node("Slice", [at("tiled"), f"{_PREFIX}/zeros", at("shape")], [output]),
    ]


def _add_constant(graph: onnx.GraphProto, name: str, values: NDArray[Any]) -> str:
    full_name = f"{_PREFIX}/{name}"
    graph.initializer.append(numpy_helper.from_array(values, full_name))
    return full_name


def _standard_normal(seed: int) -> NDArray[np.float32]:
    # Of numpy's generators only the old one gives the same values in every version of numpy to come (NEP 19).
    return np.random.RandomState(seed).standard_normal(_TABLE_SHAPE).astype(np.float32)
