"""A session on its way from an owner that died to the next: judged, written down, then gone on with."""

from dataclasses import replace
from typing import Final

import anyio
from anyio.abc import TaskGroup

from voxthread.core.attempts import (
    Attempt,
    Judgement,
    Verdict,
    acquit,
    count_answers,
    is_stuck,
    judge,
    work_of,
)
from voxthread.observability.logs import get_logger
from voxthread.orchestrator.log_writer import append_patiently
from voxthread.orchestrator.poison import carry_out_skip, plan_skip, quarantine
from voxthread.orchestrator.probation import Probation
from voxthread.orchestrator.recovery import Recovered
from voxthread.orchestrator.session import Host, Place
from voxthread.orchestrator.unheard import hear_out
from voxthread.wire.log import Stream
from voxthread.wire.snapshots import encode_attempt

log = get_logger(__name__)

TRIAL_S: Final = 1.0
"""Whoever has lived on so long with work that owners died at is not to blame: longer than any model takes to
begin with it, and what others who are under suspicion wait for their turn."""


class Takeover:
    """`prepare` it, then `admit` it and run the session; `forgive` at its end."""

    def __init__(
        self, host: Host, probation: Probation, place: Place, past: Recovered, *, is_orphan: bool
    ) -> None:
        self._host = host
        self._probation = probation
        self.place = place
        self.past = past
        self._is_orphan = is_orphan
        self._attempt = past.attempt
        self._is_suspect = self._is_trial = self._is_hearing = False
        self.audio_position = 0
        """Where on `voxthread.in` the audio begins that the session hears; what is older was given up."""

    async def prepare(self) -> bool:
        """False: the session is over. Changes `past` where work is given up. Raises `BusError`."""
        judgement = await self._judge()
        if judgement.verdict is not Verdict.GO_ON:
            log.warning(
                "session.suspected",
                session_id=self.place.session_id,
                verdict=judgement.verdict.value,
                deaths=judgement.attempt.deaths if judgement.attempt else 0,
            )
        match judgement.verdict:
            case Verdict.GO_ON:
                await self._go_on(judgement.attempt)
            case Verdict.SKIP | Verdict.SKIP_AUDIO:
                await self._skip(judgement.attempt, is_audio=judgement.verdict is Verdict.SKIP_AUDIO)
            case Verdict.TRY_ALONE:
                self._attempt, self._is_trial = judgement.attempt, True
            case Verdict.HEAR_ALONE:
                self._attempt, self._is_hearing = judgement.attempt, True
            case Verdict.QUARANTINE:
                await quarantine(self._host, self.place, self.past)
        return judgement.verdict is not Verdict.QUARANTINE

    async def _judge(self) -> Judgement:
        before = self.past.attempt
        if not self._is_orphan:
            return Judgement(Verdict.GO_ON, replace(before, is_alone=False) if before else None)
        command = self.past.command
        work = work_of(
            self.past.turn,
            phrases=self._phrases,
            command_position=command.position if command else None,
            unheard_from=self.past.unheard[0][0] if self.past.unheard else None,
        )
        is_suspect = work is not None and not work.is_audio and is_stuck(work, before)
        is_only_suspect = is_suspect and await self._probation.is_only_suspect(self.place.session_id)
        return judge(work, before, is_only_suspect=is_only_suspect)

    async def _go_on(self, attempt: Attempt | None) -> None:
        if attempt != self._attempt:
            await self._write(attempt)
        if attempt is not None and not attempt.is_skipped:
            self._is_suspect = True
            await self._probation.join(self.place.session_id)

    @property
    def _phrases(self) -> tuple[str, ...]:
        turn, call = self._host.turn, self._host.call
        return turn.apology, turn.line_notice, turn.idle_prompt, call.goodbye, call.filler

    async def _skip(self, attempt: Attempt | None, *, is_audio: bool) -> None:
        assert attempt is not None
        skip = plan_skip(self.past, self._host.turn, self._host.now())
        # What was heard of a reply that is given up is no answer.
        self._attempt = replace(attempt, answers=count_answers(skip.turn, self._phrases))
        self._is_suspect = True
        await self._probation.join(self.place.session_id, self._note)
        self.audio_position = await carry_out_skip(self._host, self.place, self.past, skip, is_audio=is_audio)

    async def admit(self, tasks: TaskGroup, ended: anyio.Event) -> None:
        """Returns when the session may run. `ended` is set when it does not any more."""
        if self._is_hearing:
            await self._hear_alone()
        elif self._is_trial:
            admitted = anyio.Event()
            tasks.start_soon(self._try, admitted, ended)
            await admitted.wait()
        elif self._is_suspect:
            tasks.start_soon(self._settle, ended)

    async def _hear_alone(self) -> None:
        await anyio.sleep(TRIAL_S)  # what else kills owners fast has killed this one by then, and blames nobody
        async with self._probation.trial(self.place.session_id, self._note):
            await hear_out(self._host, self.past)
            await self._write(acquit(self._attempt))

    async def _settle(self, ended: anyio.Event) -> None:
        with anyio.move_on_after(TRIAL_S):
            await ended.wait()
        self._probation.settle(self.place.session_id)

    async def _try(self, admitted: anyio.Event, ended: anyio.Event) -> None:
        async with self._probation.trial(self.place.session_id, self._note):
            admitted.set()
            with anyio.move_on_after(TRIAL_S):
                await ended.wait()
        await self.forgive()

    async def forgive(self) -> None:
        """Nothing is held against the session any more."""
        if self._attempt is not None:
            await self._write(None)

    async def _note(self, is_alone: bool) -> None:
        if self._attempt is not None:
            await self._write(replace(self._attempt, is_alone=is_alone))

    async def _write(self, attempt: Attempt | None) -> None:
        self._attempt = attempt
        record = encode_attempt(self.place.session_id, attempt)
        await append_patiently(self._host.bus, Stream.STATE, self.place.partition, record)
