"""Bad audio for an orchestrator, in audio time: nothing crashes, and nothing is answered but words."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise, repeat
from pathlib import Path

import anyio
import numpy as np
import pytest

from spoken import Samples, SkipLoudly, bundled_models, need_espeak, say
from voxthread.app.policies import speech_policy, turn_policy
from voxthread.bus.memory import MemoryBus
from voxthread.config import TurnConfig
from voxthread.core import events
from voxthread.core.audio import PACKET_MS, RTP_CLOCK_HZ, SPEECH_RATE_HZ, PcmFrame
from voxthread.core.events import Event
from voxthread.engines.codec.opus import OpusDecoder, OpusEncoder
from voxthread.engines.pcm import FloatSamples
from voxthread.engines.stt.whisper import WhisperSpeechToText
from voxthread.media.playout import PlayoutQueue
from voxthread.orchestrator.ports import EndOfTurn, Engines, VoiceActivity
from voxthread.orchestrator.ports import OpusDecoder as Decoder
from voxthread.orchestrator.runner import Orchestrator
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.testing.listening import EnergyVoiceActivity, ScriptedEndOfTurn
from voxthread.turn_bench import sounds
from voxthread.turn_bench.agent import FixedAgent, RecordedVoice
from voxthread.turn_bench.charged import ChargedDecodings, ChargedEndOfTurn
from voxthread.turn_bench.performance import Models
from voxthread.turn_bench.virtual_time import IN_AUDIO_TIME, START_MS, now_ms
from voxthread.wire import facts
from voxthread.wire.audio import decode_audio, is_audio
from voxthread.wire.events import decode_event, is_public
from voxthread.wire.facts import decode_out_fact
from voxthread.wire.log import Stream
from voxthread.wire.stamp import Stamp

pytestmark = pytest.mark.integration

ANSWER = "Certainly."
HUM_MS = 400
VOICE, SILENCE = b"voice", b"silence"
_PACKETS = {
    mark: np.full(sounds.samples_of(PACKET_MS), value, "<i2").tobytes()
    for mark, value in ((VOICE, 8_000), (SILENCE, 0))
}

EPOCH = 1


class MarkedDecoder:
    """Takes no time: a packet is 20 ms of a voice or of silence, as it says. The agent's own is silence too."""

    def decode(self, packet: bytes) -> bytes:
        return _PACKETS.get(packet, _PACKETS[SILENCE])

    def conceal(self, duration_ms: int, next_packet: bytes | None) -> bytes:
        return bytes(2 * sounds.samples_of(duration_ms))


@dataclass(slots=True)
class WordCounter:
    """A Whisper that hears a word a second, and how much audio it is given at most."""

    longest_samples: int = 0

    def transcribe(self, samples: FloatSamples) -> str:
        self.longest_samples = max(self.longest_samples, len(samples))
        return " ".join(repeat("word", len(samples) // SPEECH_RATE_HZ)) + "."


@dataclass(slots=True)
class Told:
    """What the caller heard, and what was told of the call. Instants are milliseconds since it began."""

    events: list[tuple[int, Event]] = field(default_factory=list)
    audio_records: int = 0

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for _, event in self.events if isinstance(event, kind)]

    @property
    def texts(self) -> list[str]:
        return [
            event.text for _, event in self.events if isinstance(event, events.UserTranscript) and event.final
        ]


Packets = Sequence[bytes]

_NOT_OF_PLAYOUT = facts.CloseLeg | facts.RewindPlayout


def hold_call(engines: Engines, sound: Iterable[Packets]) -> Told:
    """One call in audio time; each piece of sound is sent when the time of its packets is over."""
    return anyio.run(_hold_call, engines, sound, backend_options=dict(IN_AUDIO_TIME))


async def _hold_call(engines: Engines, sound: Iterable[Packets]) -> Told:
    bus, turn, told = MemoryBus(partitions=1), TurnConfig(), Told()
    orchestrator = Orchestrator(
        bus,
        engines,
        invalid_ids=InvalidIds(now_ms=now_ms),
        turn=turn_policy(turn),
        speech=speech_policy(turn),
        now=now_ms,
    )
    stamp = Stamp(f"session_{START_MS * 1000}_{1:08x}", epoch=0)

    async def tell(fact: facts.InFact) -> None:
        await bus.append(Stream.IN, 0, stamp.in_fact(fact))

    async def speak() -> None:
        sent_packets = 0
        for packets in sound:
            timestamp = sent_packets * PACKET_MS * RTP_CLOCK_HZ // 1000
            sent_packets += len(packets)
            await anyio.sleep(max(0, START_MS + sent_packets * PACKET_MS - now_ms()) / 1000)
            await bus.append(Stream.IN, 0, stamp.audio(tuple(packets), timestamp=timestamp))
        await tell(facts.EndCommand(reason="hung_up"))

    playout = PlayoutQueue()

    async def listen() -> None:
        async for stored in bus.read(Stream.OUT, 0, 0):
            if is_audio(stored.record.value):
                told.audio_records += 1
                playout.add(decode_audio(stored.record.value))
            elif not isinstance(fact := decode_out_fact(stored.record.value).fact, _NOT_OF_PLAYOUT):
                playout.command(fact)

    async def play() -> None:
        """In steps of 100 ms, as nobody here minds."""
        while True:
            await anyio.sleep(0.1)
            for _ in range(100 // PACKET_MS):
                playout.next_packet()
            for report in playout.take_reports():
                await tell(report)

    async with anyio.create_task_group() as tasks:
        await tasks.start(orchestrator.run)
        orchestrator.take(0, EPOCH)
        await tell(facts.SessionOpened(agent="agent", principal="test", via="whip", created_at_ms=START_MS))
        await tell(facts.PeerConnected(receives_audio=True))
        tasks.start_soon(speak)
        tasks.start_soon(listen)
        tasks.start_soon(play)
        async for stored in bus.read(Stream.EVENTS, 0, 0):
            if is_public(stored.record):
                event = decode_event(stored.record.value).event
                told.events.append((now_ms() - START_MS, event))
                if isinstance(event, events.SessionClosed):
                    break
        tasks.cancel_scope.cancel()
    return told


def engines_with(
    *,
    stt: WhisperSpeechToText,
    end_of_turn: EndOfTurn,
    open_voice_activity: Callable[[], VoiceActivity],
    open_decoder: Callable[[], Decoder],
) -> Engines:
    hum = np.sin(np.arange(sounds.samples_of(HUM_MS)) / 10).astype(np.float32) / 4
    return Engines(
        stt=stt,
        tts=RecordedVoice({ANSWER: hum}),
        end_of_turn=end_of_turn,
        open_voice_activity=open_voice_activity,
        open_decoder=open_decoder,
        open_encoder=OpusEncoder,
        agents={"agent": FixedAgent(line=ANSWER)},
    )


@pytest.fixture(scope="module")
def models(skip_loudly: SkipLoudly) -> Models:
    need_espeak(skip_loudly)
    return Models.load(1, bundled_models(skip_loudly))


@pytest.fixture
def engines(models: Models) -> Engines:
    """Those of a server, but for the voice."""
    return engines_with(
        stt=WhisperSpeechToText(models.whisper, interim_ms=800, decodings=ChargedDecodings()),
        end_of_turn=ChargedEndOfTurn(models.end_of_turn),
        open_voice_activity=models.voice.open,
        open_decoder=OpusDecoder,
    )


def fake_engines(whisper: WordCounter) -> Engines:
    """Quick enough for a long call."""
    return engines_with(
        stt=WhisperSpeechToText(whisper, interim_ms=0, decodings=ChargedDecodings()),
        end_of_turn=ScriptedEndOfTurn(0.99),
        open_voice_activity=EnergyVoiceActivity,
        open_decoder=MarkedDecoder,
    )


def sent(*pieces: FloatSamples) -> Iterator[Packets]:
    """Half a second of quiet, the pieces, and three seconds in which an answer may come."""
    encoder = OpusEncoder(rate_hz=SPEECH_RATE_HZ)
    samples = np.concatenate((sounds.silence(500), *pieces, sounds.silence(3_000)))
    step = sounds.samples_of(3 * PACKET_MS)
    for start in range(0, len(samples), step):
        pcm = sounds.to_pcm(samples[start : start + step])
        if packets := encoder.encode(PcmFrame(pcm=pcm, rate_hz=SPEECH_RATE_HZ)):
            yield packets


# -- what is not speech -------------------------------------------------------------------------------


def chance() -> np.random.Generator:
    return np.random.default_rng(5)


def at(level_db: float, samples: FloatSamples) -> FloatSamples:
    return (samples * np.float32(10 ** (level_db / 20) / np.sqrt(np.mean(samples**2)))).astype(np.float32)


def music(seconds: float) -> FloatSamples:
    """Chords of three plucked strings, twice a second."""
    each = np.arange(SPEECH_RATE_HZ // 2) / SPEECH_RATE_HZ
    chords = [(262, 330, 392), (220, 262, 330), (175, 220, 262), (196, 247, 294)]
    bars = [
        sum(np.sin(2 * np.pi * overtone * hz * each) / overtone**2 for hz in chord for overtone in range(1, 6))
        * np.exp(-4 * each)
        for chord in chords
    ]
    return np.resize(np.concatenate(bars), int(seconds * SPEECH_RATE_HZ)).astype(np.float32)


def cough() -> FloatSamples:
    """Two bursts of coloured noise that die away within 300 ms."""
    burst = sounds.pink(0.3, chance()) * np.exp(-12 * np.arange(SPEECH_RATE_HZ * 3 // 10) / SPEECH_RATE_HZ)
    return np.concatenate((burst, sounds.silence(150), burst)).astype(np.float32)


NOT_SPEECH: Mapping[str, Callable[[], FloatSamples]] = {
    "white noise": lambda: at(-35, sounds.white(6, chance())),
    "loud pink noise": lambda: at(-15, sounds.pink(6, chance())),
    "music": lambda: at(-20, music(8)),
    "a cough": lambda: at(-18, cough()),
    "mains hum": lambda: at(-20, np.sin(np.arange(6 * SPEECH_RATE_HZ) * 2 * np.pi * 50 / SPEECH_RATE_HZ)),
    "clicks": lambda: np.resize(np.pad(np.ones(16, np.float32), (0, 4_000)), 6 * SPEECH_RATE_HZ),
}


@pytest.mark.parametrize("what", NOT_SPEECH)
def test_a_caller_who_says_nothing_is_not_answered(what: str, engines: Engines) -> None:
    told = hold_call(engines, sent(NOT_SPEECH[what]()))
    assert told.audio_records == 0
    assert told.texts == []
    assert not told.of(events.AgentReplyDelta)
    assert not told.of(events.ErrorOccurred)
    assert told.of(events.SessionClosed) == [events.SessionClosed(reason="hung_up")]


# -- speech that is bad -------------------------------------------------------------------------------

QUESTION = "Can I bring my dog with me?"


def clipped(speech: Samples) -> Samples:
    return np.clip(speech * 8, -1, 1)


def shifted(speech: Samples) -> Samples:
    return np.clip(speech * 0.5 + 0.4, -1, 1)


@pytest.mark.parametrize("spoil", [clipped, shifted])
def test_a_question_clipped_or_shifted_is_understood_and_answered_once(
    spoil: Callable[[Samples], Samples], engines: Engines
) -> None:
    told = hold_call(engines, sent(spoil(say(QUESTION, "en-us"))))
    assert "can i bring my" in " ".join(told.texts).lower()
    assert len(told.of(events.AgentSpeechStarted)) == 1
    assert not told.of(events.ErrorOccurred)


def test_a_question_in_another_language_is_answered_at_most_once(engines: Engines) -> None:
    told = hold_call(engines, sent(say("Darf ich meinen Hund mitbringen?", "de")))
    assert len(told.of(events.AgentSpeechStarted)) <= 1
    assert not told.of(events.ErrorOccurred)


# -- calls without an end -----------------------------------------------------------------------------


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def packets(mark: bytes, seconds: float) -> Iterator[Packets]:
    """In pieces of 100 ms, or of a second where that is all the same."""
    piece_ms = 1_000 if seconds > 600 else 100
    return repeat((mark,) * (piece_ms // PACKET_MS), round(seconds * 1_000) // piece_ms)


def answers_at_ms(told: Told) -> list[int]:
    return [at_ms for at_ms, event in told.events if isinstance(event, events.AgentSpeechStarted)]


def test_an_hour_of_silence_says_nothing_and_keeps_nothing() -> None:
    before = resident_bytes()
    told = hold_call(fake_engines(WordCounter()), packets(SILENCE, 3_600))
    assert [type(event) for _, event in told.events] == [
        events.SessionCreated,
        events.SessionConnected,
        events.SessionClosed,
    ]
    assert told.audio_records == 0
    assert resident_bytes() - before < 48 * 1024**2


def test_a_caller_who_never_stops_is_answered_each_minute_and_heard_in_bounded_pieces() -> None:
    """The agent makes itself heard, gives way as to any other caller, and hears the next minute."""
    whisper = WordCounter()
    told = hold_call(fake_engines(whisper), packets(VOICE, 200))
    starts_ms = [0, *answers_at_ms(told)]
    assert all(60_000 < later - earlier < 65_000 for earlier, later in pairwise(starts_ms))
    assert len(told.of(events.AgentInterrupted)) == len(answers_at_ms(told)) == 3
    assert min(len(text.split()) for text in told.texts) > 55
    assert not told.of(events.ErrorOccurred)
    assert told.of(events.SessionClosed) == [events.SessionClosed(reason="hung_up")]
    assert whisper.longest_samples < 30 * SPEECH_RATE_HZ


def test_ten_minutes_with_pauses_for_breath_are_one_question() -> None:
    whisper = WordCounter()
    breaths = chain.from_iterable(chain(packets(VOICE, 9.7), packets(SILENCE, 0.3)) for _ in range(60))
    told = hold_call(fake_engines(whisper), chain(breaths, packets(SILENCE, 5)))
    assert len(answers_at_ms(told)) == 1
    assert answers_at_ms(told)[0] > 600_000
    assert len(told.texts) == 1
    assert not told.of(events.ErrorOccurred)
    assert whisper.longest_samples < 30 * SPEECH_RATE_HZ
