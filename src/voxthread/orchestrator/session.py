"""One session: the shell around its turn machine.

    log --records--> inbox --facts--> TurnMachine --effects--> listening, speaking, events, playout
                       ^                                            |
                       +--------------- results ---------------------+

One task reads the inbox, tells the machine and performs its effects in order; everything that takes time
runs beside it in the session's task group and comes back through the inbox.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio
from structlog.contextvars import bind_contextvars

from voxthread.core import effects as do
from voxthread.core import events, inputs
from voxthread.core.inputs import Input
from voxthread.core.replay import MachineStarted
from voxthread.core.speech import SpeechPolicy, SpeechSegmenter
from voxthread.core.turn_resume import resume
from voxthread.core.turn_state import REPLYING, State, TurnPolicy, TurnSnapshot
from voxthread.core.turns import TurnMachine
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import STALE_RESULTS_DROPPED
from voxthread.orchestrator.call_policy import CallPolicy
from voxthread.orchestrator.ear import Ear
from voxthread.orchestrator.ending import Ending
from voxthread.orchestrator.hearing import Hearing
from voxthread.orchestrator.inbox import Arrived, Inbox, Item
from voxthread.orchestrator.journal import Journal
from voxthread.orchestrator.listening import Listening
from voxthread.orchestrator.log_writer import append_patiently
from voxthread.orchestrator.outages import Outages
from voxthread.orchestrator.phrases import Phrases
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.preparing import Preparation
from voxthread.orchestrator.recovery import Opening, Recovered
from voxthread.orchestrator.replying import Replying
from voxthread.orchestrator.session_log import SessionLog
from voxthread.orchestrator.speaking import Filler
from voxthread.wire import facts
from voxthread.wire.audio import AudioRecord
from voxthread.wire.claims import SessionRelease, encode_claim
from voxthread.wire.log import Bus, Record, Stream
from voxthread.wire.snapshots import SessionSnapshot, encode_snapshot, encode_tombstone
from voxthread.wire.stamp import Stamp

log = get_logger(__name__)

MEDIA_LOST = "media_lost"

_SAVE_REPLYING_MS = 1_000
_SAVE_LISTENING_MS = 3_000
"""While anything comes of the caller, be it silence: a successor hears again what came after it."""
_SAVE_RESUMED_MS = 1_000
"""Sooner behind a takeover: whoever has lived on is seen to have got on, should owners die again."""


_PLAYOUT_FACTS: dict[
    type[do.Effect], type[facts.HoldPlayout] | type[facts.ResumePlayout] | type[facts.FlushPlayout]
] = {
    do.HoldPlayout: facts.HoldPlayout,
    do.ResumePlayout: facts.ResumePlayout,
    do.FlushPlayout: facts.FlushPlayout,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What all sessions of an orchestrator share."""

    bus: Bus
    engines: Engines
    phrases: Phrases
    turn: TurnPolicy
    speech: SpeechPolicy
    now: Callable[[], int]
    call: CallPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which session, where on the log, and under which epoch."""

    session_id: str
    partition: int
    epoch: int


class Session:
    """Runs until it has ended or is lost to another owner; owns every task and queue of the session."""

    def __init__(
        self, host: Host, begin: Opening | Recovered, place: Place, inbox: Inbox, outages: Outages
    ) -> None:
        engines, past = host.engines, begin if isinstance(begin, Recovered) else None
        opened = begin.opened
        self._inbox = inbox
        self._host = host
        self._place = place
        self._opened = opened
        self._past = past
        self._agent = engines.agents.get(opened.agent) or next(iter(engines.agents.values()))
        self._machine = TurnMachine(host.turn, TurnSnapshot(at_ms=host.now()))
        self._ear = Ear(engines.open_decoder(), engines.open_voice_activity(), SpeechSegmenter(host.speech))
        self._stages = anyio.create_task_group()
        self._listening = Listening(engines.stt, engines.end_of_turn, self._stages, self._inbox.put)
        self._preparation = Preparation(self._agent, self._stages)
        self._log = SessionLog(host.bus, place.partition, past.snapshot if past else None)
        self._stamp = Stamp(place.session_id, epoch=place.epoch)
        self._journal = Journal(
            self._log.events,
            session_id=place.session_id,
            frontend_session_id=past.snapshot.frontend_session_id if past else opened.frontend_session_id,
            principal=opened.principal,
            epoch=place.epoch,
            now=host.now,
            event_seq=past.snapshot.event_seq if past else 0,
            input_seq=past.snapshot.input_seq if past else 0,
        )
        self._replying = Replying(
            self._agent,
            synthesize=host.phrases.synthesize,
            engines=engines,
            filler=_filler(host.call),
            log=self._log,
            stamp=self._stamp,
            stages=self._stages,
            tell=self._inbox.put,
        )
        self._hearing = Hearing(self._ear, self._listening, self._replying.is_echoed_in)
        self._has_greeted = past.snapshot.has_greeted if past else False
        self._in_position = begin.snapshot.in_position if isinstance(begin, Recovered) else begin.position
        self._saved_at_ms = 0
        self._outages = outages
        self._hear_of_media()
        has_said_goodbye = past.snapshot.has_said_goodbye if past else False
        self._ending = Ending(host.call, opened.created_at_ms, has_said_goodbye=has_said_goodbye)
        self._audio_position: int | None = None
        """Where the open utterance's audio begins; None while there is none."""

    async def run(self) -> None:
        """Live the call, from its beginning or from where the log leaves it, until it is over and written."""
        try:
            await self._log.open()
            if self._past is None:  # before anything else of it: a successor then finds what was already told
                await append_patiently(self._host.bus, Stream.STATE, self._place.partition, self._snapshot())
            async with anyio.create_task_group() as writers:
                writers.start_soon(self._log.run)
                await self._live_and_close()
        finally:
            self._listening.end()
            self._log.discard()

    async def _live_and_close(self) -> None:
        try:
            async with self._stages:
                await self._live()
                self._stages.cancel_scope.cancel()
        except Exception:
            await self._journal.publish(events.SessionClosed(reason="failed"))
            await self._send(facts.CloseLeg(reason="failed"))
            await self._log.state.put(encode_tombstone(self._place.session_id, self._place.epoch))
            raise
        finally:
            self._log.close()

    async def _live(self) -> None:
        if self._past is None:
            await self._begin()
        else:
            await self._resume(self._past)
            self._past = None
        while self._machine.state is not State.CLOSED:
            item: Item | None = None
            if self._host.bus.closing is not None:
                self._ending.hasten(self._host.now())
            ending = self._ending
            deadlines = (self._machine.deadline(), self._media_gone_ms, ending.goodbye_ms, ending.at_ms)
            wake_ms = min(deadline for deadline in deadlines if deadline is not None)
            with anyio.move_on_after(max(0, wake_ms - self._host.now()) / 1000):
                item = await self._inbox.get()
            if isinstance(item, Arrived):
                self._in_position = item.position
                self._hear_of_media()
                if isinstance(item.content, AudioRecord):
                    await self._hear(item.content)
                else:
                    await self._learn(item.content)
            elif item is not None:
                await self._tell(item)
            else:
                await self._wake()
            each_ms = _SAVE_REPLYING_MS if self._machine.state in REPLYING else _SAVE_LISTENING_MS
            if self._host.now() - self._saved_at_ms >= each_ms:
                await self._save()
        await self._log.state.put(encode_tombstone(self._place.session_id, self._place.epoch))

    async def _wake(self) -> None:
        """A deadline has come: the call's own, or one of the turn machine."""
        now = self._host.now()
        if now >= self._media_gone_ms:
            await self._tell(inputs.SessionEnded(reason=MEDIA_LOST))
            await self._release()
        elif now >= self._ending.at_ms:
            await self._tell(inputs.SessionEnded(reason=self._ending.reason))
        elif self._ending.goodbye_ms is not None and now >= self._ending.goodbye_ms:
            if self._ending.is_urgent:
                await self._tell(inputs.InterruptReceived())
            self._ending.said(now, is_heard=self._machine.state is State.LISTENING)
            await self._tell(inputs.SpeechRequested(text=self._ending.goodbye))
        else:
            await self._tell(None)

    def _hear_of_media(self) -> None:
        self._heard_of_media_ms = self._host.now() - self._outages.total_ms

    @property
    def _media_gone_ms(self) -> int:
        """A log that is away says nothing of anybody: only silence while it is there counts."""
        return self._heard_of_media_ms + self._outages.total_ms + self._host.call.media_silence_ms

    async def _begin(self) -> None:
        await self._announce()
        await self._record_start(self._host.now(), ())
        await self._save()

    async def _announce(self) -> None:
        """Tell the first events of the session, or those that its first owner did not live to tell."""
        created = events.SessionCreated(
            agent=self._opened.agent, partition=self._place.partition, via=self._opened.via
        )
        first = [created, events.SessionBound()] if self._opened.frontend_session_id is not None else [created]
        for event in first[self._journal.event_seq :]:
            await self._journal.publish(event)

    async def _record_start(self, now: int, effects: Sequence[do.Effect]) -> None:
        await self._journal.record(MachineStarted(policy=self._host.turn), now, self._in_position, effects)

    # -- from one owner to the next --------------------------------------------------------------------

    async def _resume(self, past: Recovered) -> None:
        """Say what the last owner did not live to say, hear again what only it had heard, and go on."""
        now = self._host.now()
        await self._announce()
        for event in past.unpublished:
            await self._journal.publish(event)
        gap_ms = max(0, now - max(past.turn.at_ms, past.snapshot.at_ms))
        await self._journal.publish(events.OrchestratorTakeover(gap_ms=gap_ms))
        turn, effects = resume(past.turn, now)
        self._machine = TurnMachine(self._host.turn, turn)
        await self._record_start(now, effects)
        for effect in effects:
            if isinstance(effect, do.StartTranscription):
                await self._perform(effect)
        self._hearing.hear_again(past.audio, turn.utterance)
        self._audio_position = past.snapshot.audio_position if turn.utterance else None
        for effect in effects:
            if isinstance(effect, do.ResumeReply):
                self._replying.resume(effect, sent_ms=past.sent_ms)
            elif not isinstance(effect, do.StartTranscription):
                await self._perform(effect)
        if self._machine.live_turn_id is None:  # what the owner before had prepared went with it
            self._preparation.start(self._machine.history, turn.utterance.text if turn.utterance else "")
        await self._save()
        self._saved_at_ms -= _SAVE_LISTENING_MS - _SAVE_RESUMED_MS

    async def _save(self) -> None:
        """Write down what the next owner needs, behind everything that led to it."""
        await self._log.state.put(self._snapshot())
        self._saved_at_ms = self._host.now()

    def _snapshot(self) -> Record:
        audio_position = self._audio_position
        if audio_position is None:
            audio_position = self._ear.warm_position
        has_reply = self._machine.live_turn_id is not None
        return encode_snapshot(
            SessionSnapshot(
                session_id=self._place.session_id,
                epoch=self._place.epoch,
                opened=self._opened,
                turn=self._machine.snapshot(),
                event_seq=self._journal.event_seq,
                input_seq=self._journal.input_seq,
                events_position=self._log.events.position,
                in_position=self._in_position,
                audio_position=self._in_position + 1 if audio_position is None else audio_position,
                out_position=self._log.reply_position if has_reply else self._log.out.position,
                frontend_session_id=self._journal.bound_frontend_session_id,
                has_greeted=self._has_greeted,
                has_said_goodbye=self._ending.goodbye_ms is None,
                at_ms=self._host.now(),
            )
        )

    # -- what comes in ---------------------------------------------------------------------------------

    async def _hear(self, record: AudioRecord) -> None:
        for edge in self._hearing.hear(record, self._in_position):
            await self._tell(edge)

    async def _learn(self, fact: facts.InFact) -> None:
        match fact:
            case facts.PeerConnected(receives_audio=receives_audio):
                await self._journal.publish(events.SessionConnected(receives_audio=receives_audio))
                self._preparation.start(self._machine.history, "")
                if not self._has_greeted and self._agent.greeting:
                    self._has_greeted = True
                    await self._tell(inputs.SpeechRequested(text=self._agent.greeting))
                await self._resume_line()
                await self._save()
            case (
                facts.PeerLost(turn_id=turn_id, heard_ms=heard_ms)
                | facts.PeerSilent(turn_id=turn_id, heard_ms=heard_ms)
            ):
                reason = fact.reason if isinstance(fact, facts.PeerLost) else "silent"
                await self._journal.publish(events.SessionDisconnected(reason=reason))
                await self._lose_line(inputs.LineLost(heard_turn_id=turn_id or 0, heard_ms=heard_ms or 0))
            case facts.PeerHeard():
                await self._resume_line()
            case facts.LegResumed():
                await self._lose_line(inputs.LineLost())
            case facts.IdRefused(rule=rule):
                await self._journal.publish(events.SessionIdInvalid(rule=rule))
            case facts.FrontendBound(frontend_session_id=frontend_session_id):
                self._journal.bind(frontend_session_id)
                bind_contextvars(frontend_session_id=frontend_session_id)
                await self._journal.publish(events.SessionBound())
                await self._save()
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

    async def _lose_line(self, fact: inputs.LineLost) -> None:
        await self._tell(fact)
        self._ear.assume(is_speaking=False)
        await self._save()

    async def _resume_line(self) -> None:
        if self._machine.is_line_lost:
            await self._tell(inputs.LineResumed())

    async def _learn_playout(self, fact: facts.PlayoutProgress) -> None:
        self._replying.played(fact.turn_id, fact.played_ms, self._ear.heard_ms)
        self._replying.measured(fact.loss_fraction, fact.round_trip_ms)
        if fact.state == "drained":
            await self._tell(inputs.PlayoutDrained(turn_id=fact.turn_id, played_ms=fact.played_ms))
        elif fact.state != "flushed":  # the turn that was flushed is over
            await self._tell(inputs.PlayoutAdvanced(turn_id=fact.turn_id, played_ms=fact.played_ms))

    async def _tell(self, fact: Input | None) -> None:
        """Tell the machine a fact (None: its deadline has come) and do what it says."""
        now, stale_before, state_before = self._host.now(), self._machine.stale_inputs, self._machine.state
        done = self._machine.handle_deadline(now) if fact is None else self._machine.handle(fact, now)
        await self._journal.record(fact, now, self._in_position, done)
        if self._machine.stale_inputs > stale_before:
            STALE_RESULTS_DROPPED.labels(kind=type(fact).__name__).inc()
        for effect in done:
            await self._perform(effect)
        if self._machine.state is not state_before:
            await self._save()

    # -- what goes out ---------------------------------------------------------------------------------

    async def _perform(self, effect: do.Effect) -> None:
        match effect:
            case do.Publish(event=event):
                await self._journal.publish(event)
            case do.StartTranscription(utterance_id=utterance_id):
                self._listening.start(utterance_id)
                self._audio_position = self._ear.warm_position
            case do.FinishTranscription(utterance_id=utterance_id):
                self._listening.finish(utterance_id)
            case do.EndTranscription(utterance_id=utterance_id):
                self._listening.end(utterance_id)
                self._hearing.end_utterance()
                self._audio_position = None
            case do.PredictEndOfTurn(utterance_id=utterance_id):
                self._listening.predict(utterance_id)
            case do.PrepareReply(history=history, utterance=utterance):
                self._preparation.start(history, utterance)
            case do.StartReply():
                self._preparation.stop()
                self._replying.start(effect)
            case do.StartSpeech():
                self._replying.speak(effect)
            case do.RewindReply():
                await self._replying.rewind(effect)
            case do.CommitReply(turn_id=turn_id):
                self._replying.commit(turn_id)
            case do.CancelReply(turn_id=turn_id) | do.WithdrawReply(turn_id=turn_id):
                self._replying.cancel(turn_id)
            case do.HoldPlayout() | do.ResumePlayout() | do.FlushPlayout():
                await self._send(_PLAYOUT_FACTS[type(effect)](turn_id=effect.turn_id))
            case do.EndSession(reason=reason):
                await self._send(facts.CloseLeg(reason=reason))

    async def _release(self) -> None:
        """Give the session's names back, which nobody else is left to do."""
        place = self._place
        release = SessionRelease(
            session_id=place.session_id, reason=MEDIA_LOST, at_ms=self._host.now(), epoch=place.epoch
        )
        await append_patiently(self._host.bus, Stream.CLAIMS, 0, encode_claim(release))

    async def _send(self, fact: facts.OutFact) -> None:
        await self._log.out.put(self._stamp.out_fact(fact))


def _filler(call: CallPolicy) -> Filler | None:
    return Filler(text=call.filler, after_ms=call.filler_ms) if call.filler_ms and call.filler else None
