"""The one thread that Whisper decodes in, shared by all sessions."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class DecodingThread:
    """Runs decodings one after another, first come first served.

    Whoever may wait checks `is_idle` first and comes back later; so what must not wait (a final text) never
    stands behind more than the one decoding that is running. A decoding is a future rather than a task
    because the stream of transcripts reads on beside it, and must be closable between any two items.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="whisper")
        self._unfinished: list[Future[str]] = []

    @property
    def is_idle(self) -> bool:
        self._unfinished = [decoding for decoding in self._unfinished if not decoding.done()]
        return not self._unfinished

    def start(self, decode: Callable[[], str]) -> Future[str]:
        """Queue a decoding. Cancelling the future takes it off the queue, or drops its result."""
        decoding = self._executor.submit(decode)
        self._unfinished.append(decoding)
        return decoding

    def close(self) -> None:
        """Forget what is queued and wait for what is running."""
        self._executor.shutdown(cancel_futures=True)
