"""How every ONNX model is opened: one thread, no spinning."""

from pathlib import Path

import onnxruntime

from voxthread.core.failures import ModelFileError


def open_onnx_session(path: Path) -> onnxruntime.InferenceSession:
    """Open a model for one thread. The session is thread-safe and may be shared. Raises `ModelFileError`.

    Idle onnxruntime threads spin, which on a shared machine costs more than a second thread brings.
    """
    if not path.is_file():
        raise ModelFileError("models.missing", f"{path} is not there; run `voxthread models pull`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base of their own
        raise ModelFileError("models.corrupt", f"{path} cannot be opened: {error}") from error
