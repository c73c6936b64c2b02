"""A Piper voice made fit for calls: cut in two, and free of chance.

Cut, so that its vocoder can run on short windows and the first audio leaves early. Free of chance, so that
whoever takes a call over in the middle of a sentence can say it again and go on at the very sample.
The lock numbers what this module makes (`split.version`); raise it there when the halves become others.
"""

import tempfile
from pathlib import Path

import onnx
import onnx.utils

from voxthread.engines.tts.fixed_noise import SEED, fix_noise


def split_voice(voice: Path, cut: str, *, encoder: Path, decoder: Path, seed: int = SEED) -> None:
    """Write the part of `voice` up to the tensor `cut`, and the part from it on; `seed` makes its noise.

    Raises `ValueError` when the graph has no such tensor.
    """
    model = onnx.load(voice)
    graph = model.graph
    if not any(cut in node.output for node in graph.node):
        raise ValueError(f"{voice.name} has no tensor {cut}")
    inputs = [tensor.name for tensor in graph.input]
    outputs = [tensor.name for tensor in graph.output]
    fix_noise(graph, seed)
    with tempfile.TemporaryDirectory(dir=encoder.parent) as scratch:
        fixed = Path(scratch) / "fixed.onnx"
        onnx.save(model, fixed)
        halves = {encoder: (inputs, [cut]), decoder: ([cut], outputs)}
        for number, (target, (sources, sinks)) in enumerate(halves.items()):
            half = Path(scratch) / f"{number}.onnx"
            onnx.utils.extract_model(str(fixed), str(half), sources, sinks, check_model=False)
            half.replace(target)
