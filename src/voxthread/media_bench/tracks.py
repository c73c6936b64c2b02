"""What callers and agent say: a text spoken once, encoded as browsers do, and begun by each somewhere else."""

from pathlib import Path
from typing import Final

from anyio.to_thread import run_sync

from voxthread.client.speech import VoiceName, speak
from voxthread.client.utterance import encode_utterance
from voxthread.media_bench.plan import Tracks

TEXT: Final = (
    "Good morning, I am calling about the room we have booked for the second week of May. My train is late, so "
    "I will not be there before midnight, and I wanted to know whether somebody is at the desk at that hour. "
    "If not, could you tell me how we get in, and where we find the key? We are four people, and would like to "
    "have a quiet room on one of the upper floors, if that is still possible. And please send the bill to my "
    "company and not to my home address, as you have done the last time. Thank you very much."
)

CALLERS: Final = 40
"""Different tracks; more callers share them."""


async def spoken_tracks(voice: VoiceName, models_dir: Path) -> Tracks:
    """Raises `SpeechError`."""
    utterance = await run_sync(encode_utterance, await speak(TEXT, voice=voice, models_dir=models_dir))
    packets = list(utterance.packets)
    begins = [number * len(packets) // CALLERS for number in range(CALLERS)]
    return Tracks(callers=[packets[begin:] + packets[:begin] for begin in begins], reply=packets)
