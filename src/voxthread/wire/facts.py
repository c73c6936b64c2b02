"""Everything on `voxthread.in` and `voxthread.out` that is not audio: JSON facts in a stamped envelope.

    {"v": 1, "session_id": "...", "epoch": 0, "seq": 7, "fact": {"kind": "playout.hold", "turn_id": 3}}

Unknown fields are ignored, an unknown kind or version is `MalformedRecordError`.
"""

from typing import Literal, TypeVar

import msgspec

from voxthread.wire.audio import MalformedRecordError

FACT_VERSION = 1


class _Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    pass


# -- written by the media process on voxthread.in ------------------------------------------------------


class SessionOpened(_Fact, tag="session.opened", frozen=True):
    """First record of every session: a door has minted it."""

    agent: str
    principal: str
    via: Literal["whip", "ws"]
    created_at_ms: int
    frontend_session_id: str | None = None


class FrontendBound(_Fact, tag="frontend.bound", frozen=True):
    frontend_session_id: str


class IdRefused(_Fact, tag="id.refused", frozen=True):
    """Somebody who holds the session's token proposed an id for it that breaks `rule`."""

    rule: str


class PeerConnected(_Fact, tag="peer.connected", frozen=True):
    """`receives_audio` is false for a send-only peer; its playout is clocked all the same."""

    receives_audio: bool


class PeerLost(_Fact, tag="peer.lost", frozen=True):
    """`heard_ms` of `turn_id` had been sent when the peer was last known to be there: what was sent after that
    may have gone nowhere. Both None while nothing was played."""

    reason: str
    turn_id: int | None = None
    heard_ms: int | None = None


class PeerSilent(_Fact, tag="peer.silent", frozen=True):
    """Nothing at all has come of the peer for 5 s; of `turn_id` it had been sent `heard_ms` when something last
    did. 10 s later playout pauses, after 30 s in all the peer is lost."""

    turn_id: int | None = None
    heard_ms: int | None = None


class PeerHeard(_Fact, tag="peer.heard", frozen=True):
    """Packets come of the peer again. Also said, of a session of which there is nothing else to say, now and
    then while its peer is there."""


class LegResumed(_Fact, tag="leg.resumed", frozen=True):
    """First record of a media process that has taken the session over from one that is gone, under a higher
    epoch. Audio timestamps begin anew, and nothing of what was queued for playout is left."""

    media_id: str


PlayoutState = Literal["playing", "giving_way", "held", "drained", "flushed"]


class PlayoutProgress(_Fact, tag="playout.progress", frozen=True):
    """How much of a turn's audio has left for the caller, reported at its start, each 200 ms while it
    plays, and when it is held, drained (all of it played after `reply.ended`) or flushed. `giving_way` is held
    by the media process itself, because the caller seems to begin to speak: for 400 ms, unless the session's
    owner holds or resumes it sooner.

    `queued_ms` is what waits behind; loss and round trip come from RTCP, None where unknown.
    """

    turn_id: int
    played_ms: int
    queued_ms: int
    state: PlayoutState
    loss_fraction: float | None = None
    round_trip_ms: int | None = None


class TextCommand(_Fact, tag="command.text", frozen=True):
    text: str


class InterruptCommand(_Fact, tag="command.interrupt", frozen=True):
    pass


class EndCommand(_Fact, tag="command.end", frozen=True):
    """The session is over: the caller hung up, asked for it, or is gone for good."""

    reason: str


InFact = (
    SessionOpened
    | FrontendBound
    | IdRefused
    | PeerConnected
    | PeerLost
    | PeerSilent
    | PeerHeard
    | LegResumed
    | PlayoutProgress
    | TextCommand
    | InterruptCommand
    | EndCommand
)


# -- written by the session's owner on voxthread.out ---------------------------------------------------


class ReplyEnded(_Fact, tag="reply.ended", frozen=True):
    """No more audio of this turn will come; `total_ms` is all of it."""

    turn_id: int
    total_ms: int


class HoldPlayout(_Fact, tag="playout.hold", frozen=True):
    """Stop at the next packet boundary and keep the queue."""

    turn_id: int


class ResumePlayout(_Fact, tag="playout.resume", frozen=True):
    """Go on at the held sample."""

    turn_id: int


class RewindPlayout(_Fact, tag="playout.rewind", frozen=True):
    """Play this turn from `to_ms` on: what is queued of it is dropped, its audio from there follows."""

    turn_id: int
    to_ms: int


class FlushPlayout(_Fact, tag="playout.flush", frozen=True):
    """Drop everything queued of this turn and of older ones; audio of them that comes later is stale."""

    turn_id: int


class CloseLeg(_Fact, tag="leg.close", frozen=True):
    """The session has ended: close the peer."""

    reason: str


OutFact = ReplyEnded | HoldPlayout | ResumePlayout | RewindPlayout | FlushPlayout | CloseLeg


class InRecord(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    epoch: int
    seq: int
    fact: InFact
    v: int = FACT_VERSION


class OutRecord(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str
    epoch: int
    seq: int
    fact: OutFact
    v: int = FACT_VERSION


_encoder = msgspec.json.Encoder()
_in_decoder = msgspec.json.Decoder(InRecord)
_out_decoder = msgspec.json.Decoder(OutRecord)


def encode_fact(record: InRecord | OutRecord) -> bytes:
    return _encoder.encode(record)


def decode_in_fact(value: bytes) -> InRecord:
    """Raises `MalformedRecordError`."""
    try:
        record = _in_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedRecordError(str(error)) from None
    return _checked(record)


def decode_out_fact(value: bytes) -> OutRecord:
    """Raises `MalformedRecordError`."""
    try:
        record = _out_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedRecordError(str(error)) from None
    return _checked(record)


R = TypeVar("R", InRecord, OutRecord)


def _checked(record: R) -> R:
    if record.v != FACT_VERSION:
        raise MalformedRecordError(f"fact version {record.v}, this reads {FACT_VERSION}")
    return record
