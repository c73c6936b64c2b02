"""`voxthread chaos`: the process that owns a spoken call is killed, and the caller notices nothing."""

import json
import os
from pathlib import Path

import anyio
import pytest

from conftest import SkipLoudly
from e2e.served import VOXTHREAD
from voxthread.chaos.processes import PROC, having_environment
from voxthread.engines.models import ModelFiles

pytestmark = [pytest.mark.e2e, pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture
def proc(skip_loudly: SkipLoudly) -> Path:
    if not PROC.is_dir():
        skip_loudly("/proc", "processes cannot be counted here")
    return PROC


async def test_owner_killed_while_it_speaks_the_call_goes_on_and_nothing_is_left_behind(
    models: ModelFiles, proc: Path, tmp_path: Path
) -> None:
    options = ["--kill", "orchestrator", "--at", "speaking", "--calls", "1", "--agent", "hotel", "--seed", "4"]
    done = await anyio.run_process(
        [VOXTHREAD, "chaos", *options, "--json"], check=False, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    log = done.stderr.decode()
    result = json.loads(done.stdout or b"null")
    assert result is not None, log
    (run,) = result["runs"]
    assert run["problem"] is None, log
    assert run["struck"]["role"].startswith("orchestrator"), log
    assert run["takeover_ms"], log
    assert result["seed"] == 4
    for name in ("words_lost", "sentences_repeated", "sessions_stuck"):
        assert result[name] == 0, log
    assert result["history_equal_fraction"] == 1.0, log
    assert having_environment(f"TMPDIR={tmp_path}") == []
