"""One session: the shell around its turn machine.

    log --records--> inbox --facts--> TurnMachine --effects--> listening, speaking, events, playout
                       ^                                            |
                       +--------------- results ---------------------+

One task reads the inbox, tells the machine and performs its effects in order; everything that takes time
runs beside it in the session's task group and comes back through the inbox.
"""

import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import anyio
from structlog.contextvars import bind_contextvars

from voxthread.core import effects as do
from voxthread.core import events, inputs
from voxthread.core.inputs import Input
from voxthread.core.speech import SpeechPolicy, SpeechSegmenter
from voxthread.core.turn_state import State, TurnPolicy
from voxthread.core.turns import TurnMachine
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import STALE_RESULTS_DROPPED
from voxthread.orchestrator.ear import Ear
from voxthread.orchestrator.inbox import Inbox, Item
from voxthread.orchestrator.journal import Journal
from voxthread.orchestrator.listening import Listening
from voxthread.orchestrator.log_writer import LogWriter
from voxthread.orchestrator.phrases import Phrases
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.preparing import Preparation
from voxthread.orchestrator.speaking import ReplyTask
from voxthread.wire import facts
from voxthread.wire.audio import AudioRecord
from voxthread.wire.log import Bus, Stream
from voxthread.wire.stamp import Stamp

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What all sessions of an orchestrator share."""

    bus: Bus
    engines: Engines
    phrases: Phrases
    turn: TurnPolicy
    speech: SpeechPolicy
    now: Callable[[], int]


class Session:
    """Runs until it has ended; owns every task and queue of the session."""

    def __init__(
        self, host: Host, opened: facts.SessionOpened, *, session_id: str, partition: int, epoch: int
    ) -> None:
        engines = host.engines
        self.inbox = Inbox()
        self._host = host
        self._opened = opened
        self._partition = partition
        self._agent = engines.agents.get(opened.agent) or next(iter(engines.agents.values()))
        self._machine = TurnMachine(host.turn)
        self._ear = Ear(engines.open_decoder(), engines.open_voice_activity(), SpeechSegmenter(host.speech))
        self._stages = anyio.create_task_group()
        self._listening = Listening(engines.stt, engines.end_of_turn, self._stages, self.inbox.put)
        self._preparation = Preparation(self._agent, self._stages)
        self._events = LogWriter(host.bus, Stream.EVENTS, partition)
        self._out = LogWriter(host.bus, Stream.OUT, partition)
        self._stamp = Stamp(session_id, epoch=epoch)
        self._journal = Journal(
            self._events,
            session_id=session_id,
            frontend_session_id=opened.frontend_session_id,
            principal=opened.principal,
            epoch=epoch,
            now=host.now,
        )
        self._reply: ReplyTask | None = None
        self._has_greeted = False

    async def run(self) -> None:
        """Publish `session.created`, live the call, and return when it is over and written."""
        async with anyio.create_task_group() as writers:
            writers.start_soon(self._events.run)
            writers.start_soon(self._out.run)
            try:
                async with self._stages:
                    await self._live()
                    self._stages.cancel_scope.cancel()
            except Exception:
                await self._journal.publish(events.SessionClosed(reason="failed"))
                await self._send(facts.CloseLeg(reason="failed"))
                raise
            finally:
                self._events.close()
                self._out.close()

    async def _live(self) -> None:
        await self._journal.publish(
            events.SessionCreated(agent=self._opened.agent, partition=self._partition, via=self._opened.via)
        )
        if self._opened.frontend_session_id is not None:
            await self._journal.publish(events.SessionBound())
        while self._machine.state is not State.CLOSED:
            item: Item | None = None
            deadline = self._machine.deadline()
            patience_ms = math.inf if deadline is None else max(0, deadline - self._host.now())
            with anyio.move_on_after(patience_ms / 1000):
                item = await self.inbox.get()
            if isinstance(item, AudioRecord):
                await self._hear(item)
            elif isinstance(item, facts.InFact):
                await self._learn(item)
            else:
                await self._tell(item)

    # -- what comes in ---------------------------------------------------------------------------------

    async def _hear(self, record: AudioRecord) -> None:
        for heard in self._ear.hear(record):
            if isinstance(heard.edge, inputs.SpeechStarted):
                await self._tell(heard.edge)
                for frame in self._ear.take_preroll():
                    self._listening.feed(frame)
            if heard.is_speech or heard.edge is not None:
                self._listening.feed(heard.frame)
            else:
                self._listening.feed_silence(heard.frame)
                self._ear.keep_for_preroll(heard.frame)
            if isinstance(heard.edge, inputs.SpeechStopped):
                await self._tell(heard.edge)

    async def _learn(self, fact: facts.InFact) -> None:
        match fact:
            case facts.PeerConnected(receives_audio=receives_audio):
                await self._journal.publish(events.SessionConnected(receives_audio=receives_audio))
                self._preparation.start(self._machine.history, "")
                if not self._has_greeted and self._agent.greeting:
                    self._has_greeted = True
                    await self._tell(inputs.SpeechRequested(text=self._agent.greeting))
            case facts.PeerLost(reason=reason):
                await self._journal.publish(events.SessionDisconnected(reason=reason))
            case facts.FrontendBound(frontend_session_id=frontend_session_id):
                self._journal.frontend_session_id = frontend_session_id
                bind_contextvars(frontend_session_id=frontend_session_id)
                await self._journal.publish(events.SessionBound())
            case facts.PlayoutProgress():
                await self._learn_playout(fact)
            case facts.TextCommand(text=text):
                await self._tell(inputs.TextReceived(text=text))
            case facts.InterruptCommand():
                await self._tell(inputs.InterruptReceived())
            case facts.EndCommand(reason=reason):
                await self._tell(inputs.SessionEnded(reason=reason))
            case facts.SessionOpened():
                log.warning("session.opened_twice")

    async def _learn_playout(self, fact: facts.PlayoutProgress) -> None:
        if self._reply is not None and self._reply.turn_id == fact.turn_id:
            self._reply.played(fact.played_ms)
        if fact.state == "drained":
            await self._tell(inputs.PlayoutDrained(turn_id=fact.turn_id, played_ms=fact.played_ms))
        elif fact.state != "flushed":  # the turn that was flushed is over
            await self._tell(inputs.PlayoutAdvanced(turn_id=fact.turn_id, played_ms=fact.played_ms))

    async def _tell(self, fact: Input | None) -> None:
        """Tell the machine a fact (None: its deadline has come) and do what it says."""
        now, stale_before = self._host.now(), self._machine.stale_inputs
        await self._journal.record(fact, now)
        done = self._machine.handle_deadline(now) if fact is None else self._machine.handle(fact, now)
        if self._machine.stale_inputs > stale_before:
            STALE_RESULTS_DROPPED.labels(kind=type(fact).__name__).inc()
        for effect in done:
            await self._perform(effect)

    # -- what goes out ---------------------------------------------------------------------------------

    async def _perform(self, effect: do.Effect) -> None:
        match effect:
            case do.Publish(event=event):
                await self._journal.publish(event)
            case do.StartTranscription(utterance_id=utterance_id):
                self._listening.start(utterance_id)
            case do.FinishTranscription(utterance_id=utterance_id):
                self._listening.finish(utterance_id)
            case do.EndTranscription(utterance_id=utterance_id):
                self._listening.end(utterance_id)
            case do.PredictEndOfTurn(utterance_id=utterance_id):
                self._listening.predict(utterance_id)
            case do.PrepareReply(history=history, utterance=utterance):
                self._preparation.start(history, utterance)
            case do.StartReply(turn_id=turn_id, history=history, utterance=utterance, speculative=speculative):
                self._preparation.stop()
                text = self._agent.reply(history, utterance)
                self._start_reply(turn_id, text, is_committed=not speculative)
            case do.StartSpeech(turn_id=turn_id, text=phrase):
                self._start_reply(turn_id, _once(phrase), is_committed=True)
            case do.CommitReply(turn_id=turn_id):
                self._running(turn_id).commit()
            case do.CancelReply(turn_id=turn_id) | do.WithdrawReply(turn_id=turn_id):
                self._running(turn_id).cancel()
            case do.HoldPlayout(turn_id=turn_id):
                await self._send(facts.HoldPlayout(turn_id=turn_id))
            case do.ResumePlayout(turn_id=turn_id):
                await self._send(facts.ResumePlayout(turn_id=turn_id))
            case do.FlushPlayout(turn_id=turn_id):
                await self._send(facts.FlushPlayout(turn_id=turn_id))
            case do.EndSession(reason=reason):
                await self._send(facts.CloseLeg(reason=reason))

    async def _send(self, fact: facts.OutFact) -> None:
        await self._out.put(self._stamp.out_fact(fact))

    def _start_reply(self, turn_id: int, text: AsyncIterator[str], *, is_committed: bool) -> None:
        self._reply = ReplyTask(
            turn_id,
            encoder=self._host.engines.open_encoder(),
            out=self._out,
            stamp=self._stamp,
            tell=self.inbox.put,
            is_committed=is_committed,
        )
        self._stages.start_soon(self._reply.run, text, self._host.phrases.synthesize)

    def _running(self, turn_id: int) -> ReplyTask:
        """The machine has at most one reply, live or speculative, and names no other."""
        assert self._reply is not None
        assert self._reply.turn_id == turn_id
        return self._reply


async def _once(text: str) -> AsyncIterator[str]:
    yield text
