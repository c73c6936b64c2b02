"""How much of what callers said is there in the end. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from voxthread.media_bench.caller import UNDISTURBED
from voxthread.media_bench.hearing import Listened, listen, sounding
from voxthread.media_bench.plan import PACKET_TICKS, Call, Frame, Heard, Measured, Tracks
from voxthread.wire.audio import decode_audio


@dataclass(slots=True)
class Recovery:
    """Packets of all calls, from the one on that the line may have lost."""

    sent: int = 0
    sounding: int = 0
    """Those with a sound above the level of silence."""
    arrived: int = 0
    """Some of them when they were sent again."""
    restored: int = 0
    """From the redundancy of the packet behind."""
    guessed: int = 0
    missing: int = 0
    """The decoder was not even told of them."""
    sounds_lost: int = 0
    """Guessed or missing, of those with a sound."""

    def add(self, listened: Listened, sounds: Sequence[bool], sent: int) -> None:
        """Of one call. What is behind the last that came may be under way."""
        end = min(sent, max(listened.arrived, default=0) + 1)
        for number in range(UNDISTURBED, end):
            has_sound = sounds[number % len(sounds)]
            self.sent += 1
            self.sounding += has_sound
            if number in listened.arrived:
                self.arrived += 1
            elif number in listened.restored:
                self.restored += 1
            else:
                self.guessed += number in listened.guessed
                self.missing += number not in listened.guessed
                self.sounds_lost += has_sound


def listen_to_all(measured: Measured, heard: Heard, tracks: Tracks) -> list[Listened]:
    """To each call, until the measurement ended. Takes seconds: all audio is decoded."""
    listened = []
    for call in measured.calls:
        if call.session_id in heard.frames:
            frames = heard.frames[call.session_id]
            listened.append(_of_frames(frame for frame in frames if frame.at_us < measured.ended_us))
        else:
            arrived = heard.records.get(call.session_id, [])
            records = (decode_audio(each.value) for each in arrived if each.at_us < measured.ended_us)
            listened.append(listen(records, tracks.callers[call.track]))
    return listened


def _of_frames(frames: Iterable[Frame]) -> Listened:
    """A server that hands on decoded audio: what is not there is lost."""
    pcm = {frame.ticks // PACKET_TICKS: frame.pcm for frame in frames}
    return Listened(arrived=set(pcm), pcm=pcm)


def recovery_of(measured: Measured, listened: Sequence[Listened], tracks: Tracks) -> Recovery:
    recovery = Recovery()
    sounds: dict[int, list[bool]] = {}
    for call, each in zip(measured.calls, listened, strict=True):
        if call.track not in sounds:
            sounds[call.track] = sounding(tracks.callers[call.track])
        recovery.add(each, sounds[call.track], len(call.sent_us))
    return recovery


def recovery_json(recovery: Recovery, calls: Sequence[Call]) -> dict[str, Any]:
    lost, silence_lost = recovery.sounds_lost, recovery.guessed + recovery.missing - recovery.sounds_lost
    return {
        "unrecovered_fraction": round(lost / recovery.sounding, 5) if recovery.sounding else None,
        "packets": {
            "counted": recovery.sent,
            "with_sound": recovery.sounding,
            "arrived": recovery.arrived,
            "sent_again": sum(call.resent for call in calls),
            "restored_by_fec": recovery.restored,
            "guessed": recovery.guessed,
            "missing": recovery.missing,
            "unrecovered": {"with_sound": lost, "silent": silence_lost},
        },
    }
