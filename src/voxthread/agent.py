"""What a user writes against.

An agent file defines one function:

    from voxthread.agent import Agent, LanguageModel, Message

    def agent(llm: LanguageModel) -> Agent: ...

An agent has a `greeting` and `reply(history, utterance)`; if it also has `prepare(history, utterance)`, that
is called while the caller still speaks (`PreparingAgent`). `voxthread serve my_agent.py` loads the file; the
agent's name is the file's without `.py`.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import cast

from voxthread.core.failures import AgentError
from voxthread.core.history import Message
from voxthread.orchestrator.ports import Agent, LanguageModel, PreparingAgent

__all__ = ["Agent", "LanguageModel", "Message", "PreparingAgent", "load_agent"]

AgentFactory = Callable[[LanguageModel], Agent]


def load_agent(path: Path) -> tuple[str, AgentFactory]:
    """The name and factory of the agent in a Python file. Raises `AgentError`."""
    name = path.stem
    spec = importlib.util.spec_from_file_location(f"voxthread_agent_{name}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise AgentError("agent.not_found", f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a user's file may raise anything while it is imported
        raise AgentError("agent.import_failed", f"{path}: {type(error).__name__}: {error}") from error
    factory = getattr(module, "agent", None)
    if not callable(factory):
        raise AgentError("agent.no_factory", f"{path} defines no function agent(llm)")
    return name, cast(AgentFactory, factory)
