"""What is made of the caller's audio: edges of speech for the turn machine, frames for speech-to-text."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from voxthread.core import inputs
from voxthread.core.speech import Edge
from voxthread.core.turn_state import Utterance
from voxthread.orchestrator.ear import Ear, Heard
from voxthread.orchestrator.listening import Listening
from voxthread.wire.audio import AudioRecord


class Hearing:
    """`is_echo(newest, heard_ms)` tells whether the newest of the caller is the agent's own voice."""

    def __init__(self, ear: Ear, listening: Listening, is_echo: Callable[[bytes, int], bool]) -> None:
        self._ear = ear
        self._listening = listening
        self._is_echo = is_echo

    def hear(self, record: AudioRecord, position: int) -> Iterator[Edge]:
        """Tell of each edge before going on: an utterance starts before its first frame and stops behind its
        last."""
        for each in self._ear.hear(record, position):
            heard = self._without_echo(each)
            edge = heard.edge
            if isinstance(edge, inputs.SpeechStarted):
                yield edge
                edge = None
            self._feed(heard)
            if edge is not None:
                yield edge

    def hear_again(self, audio: Iterable[tuple[int, AudioRecord]], utterance: Utterance | None) -> None:
        """What an owner before heard and told the turn machine of, by positions; `utterance` was then open."""
        for position, record in audio:
            for heard in self._ear.hear(record, position):
                self._feed(heard)
        if utterance is None or utterance.ended_ms is not None:
            self._ear.assume(is_speaking=False)
        else:
            self._ear.assume(is_speaking=True, is_paused=utterance.is_paused)
            for frame in self._ear.take_preroll():
                self._listening.feed(frame)

    def end_utterance(self) -> None:
        """What the caller goes on to say, who has not stopped to be answered, is the start of another. Speech
        that is just being noticed is left to be."""
        if self._ear.is_in_speech:
            self._ear.assume(is_speaking=False)

    def _without_echo(self, heard: Heard) -> Heard:
        """Speech that starts as an echo of the agent has not started; what comes next is judged anew."""
        if not isinstance(heard.edge, inputs.SpeechStarted):
            return heard
        if not self._is_echo(self._ear.newest, self._ear.heard_ms):
            return heard
        self._ear.assume(is_speaking=False)
        return replace(heard, edge=None, is_speech=False)

    def _feed(self, heard: Heard) -> None:
        if isinstance(heard.edge, inputs.SpeechStarted):
            for frame in self._ear.take_preroll():
                self._listening.feed(frame)
        if heard.is_paused and heard.edge is None:
            self._listening.withhold(heard.frame)
        elif heard.is_speech:
            self._listening.feed(heard.frame)
        else:
            self._listening.feed_silence(heard.frame)
            self._ear.keep_for_preroll(heard.frame)
