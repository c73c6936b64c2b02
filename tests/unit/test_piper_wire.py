import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.engines.tts.piper_wire import MAX_PAYLOAD_BYTES, Kind, Wired, WireDecoder

pytestmark = pytest.mark.unit

MESSAGES = st.builds(Wired, st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.binary(max_size=50))


@given(st.lists(MESSAGES, max_size=8), st.integers(1, 20))
def test_messages_survive_any_cut_of_the_stream(messages: list[Wired], step: int) -> None:
    data = b"".join(message.encode() for message in messages)
    decoder = WireDecoder()
    read = [m for start in range(0, len(data), step) for m in decoder.feed(data[start : start + step])]
    assert read == messages


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        WireDecoder().feed(data)


def test_a_payload_beyond_the_limit_is_refused() -> None:
    header = Wired(Kind.SAY, 1).encode()[:5] + (MAX_PAYLOAD_BYTES + 1).to_bytes(4, "big")
    with pytest.raises(ValueError, match="payload"):
        WireDecoder().feed(header)


def test_a_message_never_shows_its_words() -> None:
    assert "secret" not in repr(Wired(Kind.SAY, 1, b"secret"))
