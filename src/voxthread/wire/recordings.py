"""What was told the turn machine of one session, in order: off the log, or off a file of its records."""

from collections.abc import Iterable

from voxthread.core.replay import MachineStarted, Step, Told
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.inputs import InputRecord, decode_input
from voxthread.wire.stamp import Fence


class Recording:
    """The inputs of one session in their order, each once: `add` everything the log holds of them."""

    def __init__(self) -> None:
        self._fence = Fence()
        self._kept: list[tuple[int, bytes, InputRecord, Told]] = []

    def add(self, position: int, value: bytes) -> None:
        """Raises `MalformedRecordError`."""
        record, told = decode_input(value)
        if not self._fence.admits(record.epoch, record.seq):
            return
        # What an owner wrote after its successor had read the log never happened to the session.
        while self._kept and self._kept[-1][2].seq >= record.seq:
            self._kept.pop()
        self._kept.append((position, value, record, told))

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def inputs(self) -> list[tuple[InputRecord, Told]]:
        return [(record, told) for _, _, record, told in self._kept]

    @property
    def values(self) -> list[bytes]:
        """The records as they are on the log."""
        return [value for _, value, _, _ in self._kept]

    def steps(self) -> list[Step]:
        """Raises `MalformedRecordError` where what a replay needs is missing."""
        steps: list[Step] = []
        epoch: int | None = None
        for number, (position, _, record, told) in enumerate(self._kept, 1):
            if record.seq != number:
                raise MalformedRecordError(f"input {number} is missing before position {position}")
            if record.effects_digest is None or (
                record.epoch != epoch and not isinstance(told, MachineStarted)
            ):
                raise MalformedRecordError(f"the input at position {position} was recorded without its effects")
            epoch = record.epoch
            steps.append(
                Step(position=position, now=record.now, told=told, effects_digest=record.effects_digest)
            )
        return steps


def read_recording(values: Iterable[bytes]) -> Recording:
    """A recording kept off the log; positions count its records. Raises `MalformedRecordError`."""
    recording = Recording()
    for position, value in enumerate(values):
        recording.add(position, value)
    return recording
