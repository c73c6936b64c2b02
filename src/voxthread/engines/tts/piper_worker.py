"""The process that speaks: `python -m voxthread.engines.tts.piper_worker ENCODER DECODER CONFIG`.

The only module that imports `piper` (GPL-3.0), and nothing imports this one: the two are separate programs
that talk over pipes (see `piper_wire`). It exits when its standard input closes, which it does however
the server ends. Nothing it writes to standard error holds what it was given to say.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from piper.phoneme_ids import phonemes_to_ids
from piper.phonemize_espeak import EspeakPhonemizer

from voxthread.engines.tts.piper_wire import CREDIT_FRAMES, RATE, Kind, Wired, WireDecoder
from voxthread.engines.tts.rota import Rota
from voxthread.engines.tts.speakable import pieces, speakable
from voxthread.engines.tts.streaming_voice import StreamingVoice, to_pcm, windows

_MAX_PHONEMES = 256
"""Per encoder run; digits are written short and spoken long. The attention's cost is quadratic in it."""

_WARM_UP = "Good morning, and welcome back."
_READ_BYTES = 65_536


class _Speaker:
    """Text to windows of PCM. An empty window is a pause for others: work was done, none is audible yet."""

    def __init__(self, voice: StreamingVoice) -> None:
        self._voice = voice
        self._phonemizer = EspeakPhonemizer()

    def speak(self, text: str) -> Iterator[bytes]:
        for piece in pieces(speakable(text)):
            for sentence in self._phonemizer.phonemize(self._voice.espeak_voice, piece):
                for start in range(0, len(sentence), _MAX_PHONEMES):
                    yield from self._speak_phonemes(sentence[start : start + _MAX_PHONEMES])

    def _speak_phonemes(self, phonemes: list[str]) -> Iterator[bytes]:
        if not any(phoneme.isalpha() for phoneme in phonemes):
            return  # punctuation alone makes the voice sigh
        latent = self._voice.encode(phonemes_to_ids(phonemes, self._voice.phoneme_ids))
        yield b""
        for window in windows(latent.shape[2]):
            yield to_pcm(self._voice.decode(latent, window))


class _Worker:
    """One thread reads what is asked, the main thread makes one window after the other."""

    def __init__(self, speaker: _Speaker, answers: int) -> None:
        self._speaker = speaker
        self._answers = answers
        self._changed = threading.Condition()
        self._rota: Rota[Iterator[bytes]] = Rota()

    def read(self) -> None:
        decoder = WireDecoder()
        while data := os.read(sys.stdin.fileno(), _READ_BYTES):
            for message in decoder.feed(data):
                with self._changed:
                    self._take(message)
                    self._changed.notify()
        os._exit(0)

    def _take(self, message: Wired) -> None:
        match message.kind:
            case Kind.SAY:
                words = self._speaker.speak(message.payload.decode("utf-8", "replace"))
                self._rota.add(message.request, words, CREDIT_FRAMES)
            case Kind.MORE:
                self._rota.grant(message.request)
            case _:
                self._rota.drop(message.request)

    def work(self) -> None:
        while True:
            with self._changed:
                while (turn := self._rota.next()) is None:
                    self._changed.wait()
            request, speech = turn
            try:
                pcm = next(speech, None)
            except Exception as error:  # noqa: BLE001 - one request's foreign failure must not end the others
                self._finish(Wired(Kind.FAILED, request, type(error).__name__.encode()))
                continue
            if pcm is None:
                self._finish(Wired(Kind.DONE, request))
            elif pcm:
                with self._changed:
                    self._rota.spend(request)
                self.send(Wired(Kind.AUDIO, request, pcm))

    def _finish(self, last: Wired) -> None:
        with self._changed:
            self._rota.drop(last.request)
        self.send(last)

    def send(self, message: Wired) -> None:
        data = message.encode()
        while data:
            data = data[os.write(self._answers, data) :]


def _say_where(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    """Name the failure and its place, not its message: that may quote what was to be said."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
    sys.stderr.write(f"{kind.__name__} at {place}\n")


def _die_in_thread(failed: threading.ExceptHookArgs) -> None:
    _say_where(failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback)
    os._exit(1)


def main() -> None:
    sys.excepthook = _say_where
    threading.excepthook = _die_in_thread
    logging.disable()  # piper logs the phonemes it has no sound for
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then closes our input
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not end up between the answers
    encoder, decoder, config = map(Path, sys.argv[1:])
    voice = StreamingVoice(encoder=encoder, decoder=decoder, config=config)
    speaker = _Speaker(voice)
    for _ in speaker.speak(_WARM_UP):
        pass
    worker = _Worker(speaker, answers)
    worker.send(Wired(Kind.READY, 0, RATE.pack(voice.rate_hz)))
    threading.Thread(target=worker.read, daemon=True).start()
    worker.work()


if __name__ == "__main__":
    main()
