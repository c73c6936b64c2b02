"""Replies are encoded for the line that the caller reports: the one that is being given, and those after it."""

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from anyio.abc import TaskGroup

from voxthread.core import effects as do
from voxthread.core.audio import PcmFrame
from voxthread.core.encoding import BAD, STEADY, Encoding
from voxthread.orchestrator.ports import Agent, Engines
from voxthread.orchestrator.replying import Replying
from voxthread.orchestrator.session_log import SessionLog
from voxthread.wire.stamp import Stamp

pytestmark = pytest.mark.unit


class Encoder:
    def __init__(self) -> None:
        self.tuned: list[Encoding] = []

    def tune(self, encoding: Encoding) -> None:
        self.tuned.append(encoding)

    def encode(self, _frame: PcmFrame) -> list[bytes]:
        return []

    def finish(self) -> list[bytes]:
        return []


class Log:
    """Nothing is written: no task of a reply runs."""

    out = None

    def begin_reply(self) -> None: ...


class Tasks:
    def start_soon(self, *_work: Any) -> None: ...


async def synthesize(_text: str) -> AsyncIterator[PcmFrame]:
    return
    yield


@pytest.mark.anyio
async def test_reports_of_loss_tune_the_live_reply_and_those_to_come() -> None:
    encoders: list[Encoder] = []

    def open_encoder() -> Encoder:
        encoders.append(Encoder())
        return encoders[-1]

    replying = Replying(
        cast(Agent, None),
        synthesize=synthesize,
        engines=cast(Engines, SimpleNamespace(open_encoder=open_encoder, open_decoder=lambda: None)),
        filler=None,
        log=cast(SessionLog, Log()),
        stamp=Stamp("session_1753590741399040_5cc15fe6", epoch=1),
        stages=cast(TaskGroup, Tasks()),
        tell=lambda _fact: None,
    )
    replying.measured(None, None)
    replying.speak(do.StartSpeech(turn_id=1, text="Hello."))
    replying.measured(0.2, 30)
    replying.measured(0.2, 30)
    replying.speak(do.StartSpeech(turn_id=2, text="Bye."))
    assert [encoder.tuned for encoder in encoders] == [[STEADY, BAD], [BAD]]
