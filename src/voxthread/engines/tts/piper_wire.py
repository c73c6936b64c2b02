"""What is said over the pipes between the server and the process that holds the voice.

     0      1            5           9
     +------+------------+-----------+---------
     | kind |  request   |  length   | payload     integers big-endian
     |  u8  |    u32     |    u32    |
     +------+------------+-----------+---------

To the worker: `SAY` (text, UTF-8), then `MORE` for each frame taken, or `CANCEL`. From it: `READY` once
(payload u32, the rate in Hz, request 0), then for each request `AUDIO`* (s16le) and `DONE` or `FAILED`
(payload: the name of an exception). A request may have `CREDIT_FRAMES` frames on the way, so that one slow
listener neither fills the pipe for the others nor has an hour of speech made for it.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

CREDIT_FRAMES = 4
MAX_PAYLOAD_BYTES = 1 << 20

_HEADER = struct.Struct("!BII")
RATE = struct.Struct("!I")


class Kind(IntEnum):
    SAY = 1
    MORE = 2
    CANCEL = 3
    READY = 16
    AUDIO = 17
    DONE = 18
    FAILED = 19


@dataclass(frozen=True, slots=True)
class Wired:
    """One thing said. Its text never shows in a log: `repr` leaves the payload out."""

    kind: Kind
    request: int = 0
    payload: bytes = b""

    def __repr__(self) -> str:
        return f"Wired({self.kind.name}, {self.request}, {len(self.payload)} bytes)"

    def encode(self) -> bytes:
        return _HEADER.pack(self.kind, self.request, len(self.payload)) + self.payload


class WireDecoder:
    """Bytes as they come in, whole messages out."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Wired]:
        """Raises `ValueError` for bytes that are not of this protocol."""
        self._buffer += data
        messages: list[Wired] = []
        while len(self._buffer) >= _HEADER.size:
            kind, request, length = _HEADER.unpack_from(self._buffer)
            if length > MAX_PAYLOAD_BYTES:
                raise ValueError(f"a payload of {length} bytes")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                break
            messages.append(Wired(Kind(kind), request, bytes(self._buffer[_HEADER.size : end])))
            del self._buffer[:end]
        return messages
