"""A Piper voice cut in two, so that its vocoder can run on short windows and the first audio leaves early."""

import tempfile
from pathlib import Path

import onnx
import onnx.utils


def split_voice(voice: Path, cut: str, *, encoder: Path, decoder: Path) -> None:
    """Write the part of `voice` up to the tensor `cut`, and the part from it on.

    Raises `ValueError` when the graph has no such tensor.
    """
    graph = onnx.load(voice).graph
    if not any(cut in node.output for node in graph.node):
        raise ValueError(f"{voice.name} has no tensor {cut}")
    inputs = [tensor.name for tensor in graph.input]
    outputs = [tensor.name for tensor in graph.output]
    with tempfile.TemporaryDirectory(dir=encoder.parent) as scratch:
        halves = {encoder: (inputs, [cut]), decoder: ([cut], outputs)}
        for number, (target, (sources, sinks)) in enumerate(halves.items()):
            half = Path(scratch) / f"{number}.onnx"
            onnx.utils.extract_model(str(voice), str(half), sources, sinks, check_model=False)
            half.replace(target)
