"""Calls one after the other, each struck once, beside the same calls undisturbed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import anyio

from voxthread.chaos.blows import Blows, Brokers, Mended
from voxthread.chaos.caller import Question, Witness, ask
from voxthread.chaos.outcome import Blow, Heard, Run
from voxthread.chaos.plan import How, Moment, Phase, Span, Target, moments
from voxthread.chaos.server import ChaosServer
from voxthread.chaos.table import Row
from voxthread.chaos.zombies import late_records
from voxthread.client.call import Call
from voxthread.client.mouth import Spoken
from voxthread.client.speech import CALL_RATE_HZ
from voxthread.core.failures import VoiceError
from voxthread.observability.clock import now_us

_FLIGHT_US = 100_000
"""For what was on its way when the one who sent it was struck."""

_TOO_LATE = "chaos.too_late: the reply was over before the blow"
_TRIES = 3
"""For a call whose reply was over before the blow; each is foretold from the one before."""


@dataclass(slots=True)
class _Strike:
    """One blow at one call, carried out beside it."""

    row: Row
    moment: Moment
    undisturbed: Heard
    foretold: Heard
    """The call from which the moment is told; the reply of a model may be shorter than it was undisturbed."""
    blow: Blow | None = None
    mended: Mended = field(default_factory=Mended)
    problem: str | None = None


class Lab:
    """One server, its brokers if it has any, and what its callers ask."""

    def __init__(
        self,
        server: ChaosServer,
        questions: Sequence[Question],
        brokers: Brokers | None,
        on_undisturbed: Callable[[Question, Heard], None],
    ) -> None:
        self._server = server
        self._questions = questions
        self._blows = Blows(server, brokers)
        self._on_undisturbed = on_undisturbed
        self._undisturbed: dict[str, Heard] = {}

    async def undisturbed(self, question: Question) -> Heard:
        """The same call when nothing is struck; asked once. Raises `CallError`."""
        if question.text not in self._undisturbed:
            self._undisturbed[question.text] = await ask(self._server.url, question, Witness())
            self._on_undisturbed(question, self._undisturbed[question.text])
        return self._undisturbed[question.text]

    async def run(self, row: Row, calls: int, seed: int, on_run: Callable[[Run], None]) -> list[Run]:
        """So many calls, struck as the row says. Raises `ChaosError` if the server does not come back,
        `CallError` if already an undisturbed call fails."""
        runs = []
        for number, moment in enumerate(islice(moments(seed, row.phases), calls)):
            question = self._questions[number // len(row.phases) % len(self._questions)]
            foretold = await self.undisturbed(question)
            for _ in range(_TRIES):
                run = await self._struck(row, question, moment, foretold)
                await self._server.whole()
                if run.problem != _TOO_LATE:
                    break
                foretold = run.heard or foretold
            on_run(run)
            runs.append(run)
        return runs

    async def _struck(self, row: Row, question: Question, moment: Moment, foretold: Heard) -> Run:
        undisturbed = await self.undisturbed(question)
        strike, witness, heard = _Strike(row, moment, undisturbed, foretold), Witness(), None
        async with anyio.create_task_group() as tasks:

            def on_asking(call: Call, spoken: Spoken) -> None:
                tasks.start_soon(self._strike, strike, call, spoken)

            try:
                heard = await ask(self._server.url, question, witness, on_asking)
            except VoiceError as error:
                strike.problem = f"{error.code}: {error.detail}"
            if strike.blow is None and strike.problem is None:
                strike.problem = _TOO_LATE
            if strike.blow is None:
                tasks.cancel_scope.cancel()
        if strike.blow is not None and row.target is Target.SERVE:
            strike.mended = await self._blows.mend(row.target, row.how)
        return await self._told(strike, question, witness, heard)

    async def _strike(self, strike: _Strike, call: Call, spoken: Spoken) -> None:
        row = strike.row
        at_us = await _instant_of(strike.moment, call, spoken, strike.foretold)
        await anyio.sleep(max(0, at_us - now_us()) / 1_000_000)
        try:
            strike.blow = await self._blows.strike(row.target, row.how, call.session_id)
            if row.target is not Target.SERVE:
                strike.mended = await self._blows.mend(row.target, row.how)
        except VoiceError as error:
            strike.problem = f"{error.code}: {error.detail}"

    async def _told(self, strike: _Strike, question: Question, witness: Witness, heard: Heard | None) -> Run:
        blow, back_ms, answered_ms, outage_ms = strike.blow, None, None, None
        call, spoken = witness.call, witness.spoken
        if blow is not None and call is not None and spoken is not None:
            sounds, asked_us = call.ears.sounds, spoken.last_sound_us or 0
            blow = blow.in_phase(_phase_of(blow.at_us, asked_us, sounds.first_after(asked_us), sounds.last_us))
            if strike.row.target is Target.MEDIA:
                again_us = sounds.first_after(blow.at_us + _FLIGHT_US)
                back_ms = None if again_us is None else (again_us - blow.at_us) / 1000
            if (back_us := strike.mended.back_at_us) is not None:
                outage_ms = (back_us - blow.at_us) / 1000
                answer_us = sounds.first_after(max(asked_us, blow.at_us))
                answered_ms = None if answer_us is None else max(0, answer_us - back_us) / 1000
        late = 0
        if strike.row.how is How.STOP and witness.session_id is not None:
            late = await late_records(self._server, witness.session_id)
        return Run(
            agent=question.agent,
            question=question.text,
            moment=strike.moment,
            blow=blow,
            undisturbed=strike.undisturbed,
            heard=heard,
            session_id=witness.session_id,
            problem=strike.problem,
            outage_ms=outage_ms,
            back_ms=back_ms,
            answered_after_back_ms=answered_ms,
            zombie_records=late,
            adopted=strike.mended.adopted,
        )


async def _instant_of(moment: Moment, call: Call, spoken: Spoken, foretold: Heard) -> int:
    """When to strike, by the utterance and by a call that asked the same."""
    sound = spoken.utterance.sound
    assert sound is not None, "a question is not silent"
    began_us = now_us()
    first_us, last_us = (began_us + sample * 1_000_000 // CALL_RATE_HZ for sample in (sound.first, sound.last))
    match moment.phase:
        case Phase.LISTENING:
            span = Span(first_us=first_us, last_us=last_us)
        case Phase.THINKING:
            v2v_us = round((foretold.v2v_ms or 0) * 1000)
            span = Span(first_us=last_us, last_us=last_us + v2v_us)
        case Phase.SPEAKING:
            heard_us = await call.ears.sound_after(last_us)
            span = Span(first_us=heard_us, last_us=heard_us + round(foretold.reply_ms * 1000))
    return span.at(moment.fraction)


def _phase_of(at_us: int, asked_us: int, heard_us: int | None, last_us: int | None) -> Phase | None:
    """None once the reply was over."""
    if at_us < asked_us:
        return Phase.LISTENING
    if heard_us is None or at_us < heard_us:
        return Phase.THINKING
    return Phase.SPEAKING if last_us is not None and at_us <= last_us else None
