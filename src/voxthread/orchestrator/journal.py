"""A session's story on `voxthread.events`: numbered public events, and the inputs that led to them."""

from collections.abc import Callable, Sequence

from voxthread.core.effects import Effect
from voxthread.core.events import ErrorOccurred, Event, TurnTiming
from voxthread.core.replay import Told, effects_digest
from voxthread.observability.metrics import FAILURES, STAGE_SECONDS
from voxthread.orchestrator.log_writer import LogWriter
from voxthread.wire.events import Envelope, encode_event
from voxthread.wire.inputs import encode_input


class Journal:
    """`frontend_session_id` falls back to the session's own id while no frontend is bound."""

    def __init__(
        self,
        writer: LogWriter,
        *,
        session_id: str,
        frontend_session_id: str | None,
        principal: str,
        epoch: int,
        now: Callable[[], int],
        event_seq: int = 0,
        input_seq: int = 0,
    ) -> None:
        """`event_seq` and `input_seq` are the last numbers used by an owner before this one."""
        self._writer = writer
        self._session_id = session_id
        self.bound_frontend_session_id = frontend_session_id
        self._principal = principal
        self._epoch = epoch
        self._now = now
        self.event_seq = event_seq
        self.input_seq = input_seq

    def bind(self, frontend_session_id: str) -> None:
        self.bound_frontend_session_id = frontend_session_id

    async def publish(self, event: Event) -> None:
        self.event_seq += 1
        await self._writer.put(
            encode_event(
                Envelope(
                    session_id=self._session_id,
                    frontend_session_id=self.bound_frontend_session_id or self._session_id,
                    epoch=self._epoch,
                    seq=self.event_seq,
                    at_ms=self._now(),
                    event=event,
                ),
                principal=self._principal,
            )
        )
        match event:
            case TurnTiming(stage=stage, ms=ms):
                STAGE_SECONDS.labels(stage=stage).observe(ms / 1000)
            case ErrorOccurred(stage=stage, code=code):
                FAILURES.labels(stage=stage, code=code).inc()
            case _:
                pass

    async def record(self, told: Told, now: int, in_position: int, effects: Sequence[Effect]) -> None:
        """Keep what the turn machine was told (None: a deadline came), for replay and for the next owner.

        `effects` are what it wants done, none of which may be done before.
        """
        self.input_seq += 1
        await self._writer.put(
            encode_input(
                told,
                session_id=self._session_id,
                epoch=self._epoch,
                seq=self.input_seq,
                now=now,
                in_position=in_position,
                effects_digest=effects_digest(effects),
            )
        )
