"""Audio that an owner had not got to when it died: heard once by an ear that is then thrown away."""

from anyio.lowlevel import checkpoint

from voxthread.core.speech import SpeechSegmenter
from voxthread.observability.logs import get_logger
from voxthread.orchestrator.ear import Ear
from voxthread.orchestrator.recovery import Recovered
from voxthread.orchestrator.session import Host

log = get_logger(__name__)


async def hear_out(host: Host, past: Recovered) -> None:
    """As the session itself will: behind what the ear before it had heard. Whoever survives it has shown that
    the caller's audio is not what owners die of.
    """
    ear = Ear(host.engines.open_decoder(), host.engines.open_voice_activity(), SpeechSegmenter(host.speech))
    try:
        for position, record in [*past.audio, *past.unheard]:
            await checkpoint()
            for _ in ear.hear(record, position):
                pass
    except Exception:  # an engine that fails kills nobody; the session meets it again, and is supervised
        log.exception("session.hearing_failed", session_id=past.snapshot.session_id)
