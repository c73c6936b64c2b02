"""The page and the server agree on what a session id is."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import voxthread.gateway

pytestmark = pytest.mark.integration

PAGE_MODULE = Path(voxthread.gateway.__file__).parent / "page" / "session-id.js"
VECTORS = Path(__file__).parents[1] / "vectors" / "session_ids.json"
SCRIPT = Path(__file__).with_name("session_id_vectors.mjs")


def test_the_vectors_in_the_page_s_javascript_give_the_server_s_answers(
    skip_loudly: Callable[[str, str], None],
) -> None:
    node = shutil.which("node")
    if node is None:
        skip_loudly("node", "the page's session-id.js is checked with Node.js, which is not installed")
        return
    checked = subprocess.run(
        [node, str(SCRIPT), str(PAGE_MODULE), str(VECTORS)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
