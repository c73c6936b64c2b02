"""Which agents a server has: the one file given, or the examples."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

DEFAULT_AGENT = "hotel"


def agent_files(agent_file: Path | None) -> Sequence[Path]:
    """The one file given, or the examples, the default one first. Loads nothing."""
    if agent_file is not None:
        return [agent_file]
    examples = Path(str(files("voxthread.examples")))
    return [examples / f"{DEFAULT_AGENT}.py", examples / "chat.py"]
