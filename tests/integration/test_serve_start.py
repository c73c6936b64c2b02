"""`voxthread serve` that cannot start: one clear line on what is wrong and what to do, and exit code 1."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import SkipLoudly
from spoken import bundled_models
from voxthread.config import read_config

pytestmark = pytest.mark.integration

VOXTHREAD = str(Path(sys.executable).with_name("voxthread"))


def refusal_to_serve(*arguments: str, **environment: str) -> str:
    """The line a server that does not start leaves behind, its JSON log aside."""
    ended = subprocess.run(
        [VOXTHREAD, "serve", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1, ended.stderr
    assert ended.stdout == ""
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("{")]
    return line


def linked_models(models_dir: Path) -> Path:
    """The bundled models by symlinks, to be damaged one by one."""
    for file in read_config().models_dir.rglob("*"):
        link = models_dir / file.relative_to(read_config().models_dir)
        if file.is_file():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    return models_dir


def test_starting_without_models_names_the_command_that_fetches_them(tmp_path: Path) -> None:
    line = refusal_to_serve("--port", "0", VOXTHREAD_MODELS_DIR=str(tmp_path / "none"))
    assert str(tmp_path / "none") in line
    assert "voxthread models pull" in line


def test_starting_with_a_file_missing_names_it(skip_loudly: SkipLoudly, tmp_path: Path) -> None:
    missing = bundled_models(skip_loudly).silero
    damaged = linked_models(tmp_path) / missing.relative_to(read_config().models_dir)
    damaged.unlink()
    line = refusal_to_serve("--port", "0", VOXTHREAD_MODELS_DIR=str(tmp_path))
    assert str(damaged) in line
    assert "voxthread models pull" in line


def test_starting_with_a_file_damaged_names_it(skip_loudly: SkipLoudly, tmp_path: Path) -> None:
    sound = bundled_models(skip_loudly).smart_turn
    damaged = linked_models(tmp_path) / sound.relative_to(read_config().models_dir)
    damaged.unlink()
    content = bytearray(sound.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    line = refusal_to_serve("--port", "0", VOXTHREAD_MODELS_DIR=str(tmp_path))
    assert str(damaged) in line
    assert "voxthread models pull" in line


def test_starting_on_a_port_in_use_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        line = refusal_to_serve("--port", str(port))
    assert f"127.0.0.1:{port}" in line
    assert "--port" in line


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("import nothing_of_the_kind", "ModuleNotFoundError"),
        ("agent = 7", "agent(llm)"),
        ("def (", "SyntaxError"),
    ],
)
def test_starting_with_an_agent_file_that_is_none_says_what_it_lacks(
    tmp_path: Path, content: str, named: str
) -> None:
    agent = tmp_path / "mine.py"
    agent.write_text(content)
    line = refusal_to_serve(str(agent), "--port", "0")
    assert str(agent) in line
    assert named in line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--single", "--orchestrators", "2"], "--orchestrators"),
        (["--single", "--bus", "sqlite:log.db"], "--bus"),
        (["--bus", "memory"], "--single"),
        (["--bus", "kafka://somebody@127.0.0.1:9092"], "@"),
    ],
)
def test_starting_with_options_that_contradict_each_other_names_one(options: list[str], named: str) -> None:
    assert named in refusal_to_serve("--port", "0", *options)


def test_starting_with_a_setting_that_does_not_exist_names_it() -> None:
    line = refusal_to_serve("--port", "0", VOXTHREAD_LLM__BASE_URI="http://127.0.0.1:1")
    assert "llm.base_uri" in line
