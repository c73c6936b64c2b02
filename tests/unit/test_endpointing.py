"""Patience at the end of a turn, and what counts as an interruption."""

import pytest

from voxthread.core.endpointing import EndpointPolicy, means_interruption

pytestmark = pytest.mark.unit

BACKCHANNELS = frozenset({"mm-hm", "uh-huh", "right", "yeah", "i see", "oh"})


def test_patience_grows_with_doubt() -> None:
    policy = EndpointPolicy(endpoint_ms=500, complete_ms=200, incomplete_ms=1_500)
    assert [policy.patience_ms(p) for p in (0.9, None, 0.1)] == [200, 500, 1_500]


@pytest.mark.parametrize("text", ["", "  ", "...", "Mm-hm.", "Right, right.", "Oh yeah!", "I see."])
def test_backchannels_and_noise_do_not_interrupt(text: str) -> None:
    assert not means_interruption(text, BACKCHANNELS)


@pytest.mark.parametrize("text", ["Stop.", "No wait", "right, but what about parking", "5"])
def test_content_words_interrupt(text: str) -> None:
    assert means_interruption(text, BACKCHANNELS)
