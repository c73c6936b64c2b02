"""Somebody who sends rubbish to a port of the server: `python -m voxthread.media_bench.rubbish PLAN`.

From the moment it is ready until its input ends. Command: `sent`, how much it was.
"""

import json
import secrets
import select
import socket
import sys
from contextlib import suppress
from typing import Any, Final

import msgspec

from voxthread.media_bench.placement import take_place
from voxthread.media_bench.plan import RubbishPlan, instant_us
from voxthread.media_bench.workers import tell

_HEADS: Final = (
    b"",
    b"\x00\x01\x00\x08\x21\x12\xa4\x42",  # STUN
    b"\x16\xfe\xfd\x00\x00",  # DTLS
    b"\x80\xc8\x00\x06",  # RTCP
    b"\x80\x6f",  # RTP
    b"\x40\x00\x00\x04",  # TURN
)
"""How datagrams begin that look like something (RFC 7983)."""

_TAIL_BYTES: Final = 80
_DIFFERENT: Final = 600
_SENDERS: Final = 8
_WAIT_S: Final = 0.001


class Stranger:
    """Sends by an absolute schedule, from several ports."""

    def __init__(self, plan: RubbishPlan) -> None:
        self.sent = 0
        self._per_s = plan.per_s
        self._sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(_SENDERS)]
        for each in self._sockets:
            each.setblocking(False)
            each.connect((plan.host, plan.port))
        self._rubbish = [
            _HEADS[number % len(_HEADS)] + secrets.token_bytes(_TAIL_BYTES) for number in range(_DIFFERENT)
        ]
        self._began_us = instant_us()

    def send_due(self) -> None:
        due = (instant_us() - self._began_us) * self._per_s // 1_000_000
        for number in range(self.sent, due):
            with suppress(BlockingIOError, ConnectionRefusedError):  # the port closes when its call ends
                self._sockets[number % _SENDERS].send(self._rubbish[number % _DIFFERENT])
        self.sent = due


def run(plan: RubbishPlan) -> None:
    place = take_place(plan.core, is_realtime=False)
    stranger = Stranger(plan)
    tell({"place": place})
    while True:
        stranger.send_due()
        if select.select([sys.stdin], (), (), _WAIT_S)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            tell(obey(stranger, **json.loads(line)))


def obey(stranger: Stranger, *, command: str) -> dict[str, Any]:
    assert command == "sent"
    return {"sent": stranger.sent}


if __name__ == "__main__":
    run(msgspec.json.decode(sys.argv[1], type=RubbishPlan))
