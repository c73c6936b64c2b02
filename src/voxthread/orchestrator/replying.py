"""What a session's agent says: the one reply there is at a time, begun, resumed, sent again or stopped."""

from collections.abc import AsyncIterator, Callable, Sequence

from anyio.abc import TaskGroup

from voxthread.core import effects as do
from voxthread.core.encoding import LineQuality
from voxthread.core.history import Message
from voxthread.core.inputs import Input
from voxthread.orchestrator.ports import Agent, Engines
from voxthread.orchestrator.session_log import SessionLog
from voxthread.orchestrator.speaking import NOTHING, Filler, Known, ReplyTask, Synthesize
from voxthread.orchestrator.streams import closing
from voxthread.wire.facts import RewindPlayout
from voxthread.wire.stamp import Stamp


class Replying:
    """Performs the effects of the turn machine that concern a reply; results come back through `tell`."""

    def __init__(
        self,
        agent: Agent,
        *,
        synthesize: Synthesize,
        engines: Engines,
        filler: Filler | None,
        log: SessionLog,
        stamp: Stamp,
        stages: TaskGroup,
        tell: Callable[[Input], None],
    ) -> None:
        self._agent = agent
        self._synthesize = synthesize
        self._open_encoder = engines.open_encoder
        self._decoder = engines.open_decoder()
        self._filler = filler
        self._log = log
        self._stamp = stamp
        self._stages = stages
        self._tell = tell
        self._line = LineQuality()
        self._reply: ReplyTask | None = None

    def start(self, effect: do.StartReply) -> None:
        text = _ask(self._agent, effect.history, effect.utterance)
        self._log.begin_reply()
        self._begin(effect.turn_id, text, is_committed=not effect.speculative, filler=self._filler)

    def speak(self, effect: do.StartSpeech) -> None:
        self._log.begin_reply()
        self._begin(effect.turn_id, _once(effect.text))

    def resume(self, effect: do.ResumeReply, *, sent_ms: int) -> None:
        """Go on with a reply of which `sent_ms` are on the log."""
        is_answer = effect.utterance is not None
        if effect.utterance is not None:
            text = _ask(self._agent, effect.history, effect.utterance)
        else:
            text = _once(effect.speech or "")
        known = Known(
            generated_chars=effect.generated_chars,
            clauses=effect.clauses,
            sent_ms=sent_ms,
            played_ms=min(effect.played_ms, sent_ms),
        )
        self._begin(effect.turn_id, text, known=known, filler=self._filler if is_answer else None)

    async def rewind(self, effect: do.RewindReply) -> None:
        running = self._running(effect.turn_id)
        if running.has_sent_since(effect.to_ms):
            await running.rewind(effect.to_ms)
            return
        running.cancel()
        rewind = RewindPlayout(turn_id=effect.turn_id, to_ms=effect.to_ms)
        await self._log.out.put(self._stamp.out_fact(rewind))
        self.resume(effect.reply, sent_ms=effect.to_ms)

    def commit(self, turn_id: int) -> None:
        self._running(turn_id).commit()

    def cancel(self, turn_id: int) -> None:
        self._running(turn_id).cancel()

    def played(self, turn_id: int, played_ms: int, heard_ms: int) -> None:
        """How far a reply was played when `heard_ms` of the caller were heard; stale reports are of others."""
        if self._reply is not None and self._reply.turn_id == turn_id:
            self._reply.played(played_ms)
            self._reply.voice.played(played_ms, heard_ms)

    def is_echoed_in(self, heard: bytes, heard_ms: int) -> bool:
        """Whether the newest of the caller, up to `heard_ms`, is the reply come back; see `OwnVoice`."""
        return self._reply is not None and self._reply.voice.is_in(heard, heard_ms, self._decoder)

    def measured(self, loss_fraction: float | None, round_trip_ms: int | None) -> None:
        """What the caller says of the line; replies are encoded for it from now on."""
        if self._line.reported(loss_fraction, round_trip_ms) and self._reply is not None:
            self._reply.tune(self._line.encoding)

    def _begin(
        self,
        turn_id: int,
        text: AsyncIterator[str],
        *,
        is_committed: bool = True,
        known: Known = NOTHING,
        filler: Filler | None = None,
    ) -> None:
        encoder = self._open_encoder()
        encoder.tune(self._line.encoding)
        self._reply = ReplyTask(
            turn_id,
            encoder=encoder,
            out=self._log.out,
            stamp=self._stamp,
            tell=self._tell,
            is_committed=is_committed,
            known=known,
            filler=filler,
        )
        self._stages.start_soon(self._reply.run, text, self._synthesize)

    def _running(self, turn_id: int) -> ReplyTask:
        """The machine has at most one reply, live or speculative, and names no other."""
        assert self._reply is not None
        assert self._reply.turn_id == turn_id
        return self._reply


async def _once(text: str) -> AsyncIterator[str]:
    yield text


async def _ask(agent: Agent, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
    """The agent's reply; what its author's code raises is raised where the reply is read, not here."""
    async with closing(agent.reply(history, utterance)) as deltas:
        async for delta in deltas:
            yield delta
