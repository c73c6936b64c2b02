import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.engines.tts.streaming_voice import CONTEXT_FRAMES, FIRST_WINDOW_FRAMES, windows

pytestmark = pytest.mark.unit


@given(st.integers(0, 2_000))
def test_windows_cover_every_frame_once_with_all_the_context_there_is(frames: int) -> None:
    covered = 0
    for window in windows(frames):
        assert window.start == covered < window.end
        assert window.left == max(0, window.start - CONTEXT_FRAMES)
        assert window.right == min(frames, window.end + CONTEXT_FRAMES)
        covered = window.end
    assert covered == frames


def test_the_first_window_is_short_so_that_sound_comes_early() -> None:
    assert next(windows(500)).end == FIRST_WINDOW_FRAMES
