"""Noise from a table: of the shape asked for, the same each time, and still noise."""

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from voxthread.engines.tts.fixed_noise import fix_noise

pytestmark = pytest.mark.unit

NAMES = ("durations", "prior")


@pytest.fixture(scope="module")
def drawing() -> onnxruntime.InferenceSession:
    def tensor(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "channels", "steps"])

    nodes = [helper.make_node("RandomNormalLike", [f"like_{name}"], [name], seed=1.0) for name in NAMES]
    graph = helper.make_graph(
        nodes, "voice", [tensor(f"like_{name}") for name in NAMES], [tensor(name) for name in NAMES]
    )
    fix_noise(graph)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model)
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def draw(
    session: onnxruntime.InferenceSession, *shapes: tuple[int, int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    likes = {f"like_{name}": np.zeros(shape, np.float32) for name, shape in zip(NAMES, shapes, strict=True)}
    durations, prior = session.run(None, likes)
    return durations, prior


@pytest.mark.parametrize("steps", [0, 1, 3072, 3073, 4096, 4097, 9_000])
def test_any_length_has_noise_of_its_shape(drawing: onnxruntime.InferenceSession, steps: int) -> None:
    durations, prior = draw(drawing, (1, 2, steps), (1, 192, steps))
    assert durations.shape == (1, 2, steps)
    assert prior.shape == (1, 192, steps)


def test_more_channels_and_a_batch_are_covered(drawing: onnxruntime.InferenceSession) -> None:
    assert draw(drawing, (3, 200, 5), (2, 500, 7))[1].shape == (2, 500, 7)


def test_noise_is_the_same_again_and_does_not_depend_on_the_length(
    drawing: onnxruntime.InferenceSession,
) -> None:
    once, again = (draw(drawing, (1, 2, 50), (1, 192, 300)) for _ in range(2))
    longer = draw(drawing, (1, 2, 90), (1, 192, 400))
    for name in range(2):
        assert np.array_equal(once[name], again[name])
        assert np.array_equal(once[name], longer[name][:, :, : once[name].shape[2]])


def test_noise_is_standard_normal_and_the_draws_are_independent(
    drawing: onnxruntime.InferenceSession,
) -> None:
    durations, prior = draw(drawing, (1, 2, 400), (1, 192, 400))
    assert prior.mean() == pytest.approx(0, abs=0.02)
    assert prior.std() == pytest.approx(1, abs=0.02)
    assert np.mean(np.abs(prior) < 1) == pytest.approx(0.683, abs=0.01)
    assert abs(np.corrcoef(durations[0, 0], prior[0, 0])[0, 1]) < 0.15


def test_a_graph_that_draws_nothing_is_left_alone() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "plain", [value], [])
    before = graph.SerializeToString()
    fix_noise(graph)
    assert graph.SerializeToString() == before
