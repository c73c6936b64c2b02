"""The directory in which a supervisor leaves word of what runs, for whoever supervises next."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from voxthread.core.failures import VoiceError
from voxthread.observability.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleRecord:
    """A role that was started: written before it begins, removed when it has ended for good."""

    name: str
    worker_id: str
    pid: int
    identity: str
    """Boot and time of the start of the process: `pid` may be used again, this is not."""
    command: str
    """Digest of what it was told to run."""


_decoder = msgspec.json.Decoder(RoleRecord)


class SupervisorError(VoiceError):
    stage = "supervisor"


def has_record(path: Path, name: str) -> bool:
    """Whether a role of this name was left behind, or runs, in the directory of a supervisor."""
    return (path / f"{name}.json").exists()


class StateDir:
    """One small file per role, within `with`; the lock is on the directory itself and ends with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = -1

    def __enter__(self) -> Self:
        """Raises `SupervisorError`: `supervisor.already_running`, `supervisor.no_state_dir`."""
        try:
            self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise SupervisorError(
                "supervisor.no_state_dir", f"{self._path} cannot be used: {error.strerror or error}"
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise SupervisorError(
                "supervisor.already_running",
                f"another server supervises the roles in {self._path}; stop it or choose another directory",
            ) from None
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._lock)

    def records(self) -> dict[str, RoleRecord]:
        """By name of the role. What cannot be read is removed."""
        records = {}
        for file in sorted(self._path.glob("*.json")):
            try:
                record = _decoder.decode(file.read_bytes())
            except (OSError, msgspec.MsgspecError) as error:
                log.warning("role.record_unreadable", file=str(file), detail=str(error))
                file.unlink(missing_ok=True)
            else:
                records[record.name] = record
        return records

    def write(self, record: RoleRecord) -> None:
        """Whole or not at all, whoever is killed. Raises `OSError`."""
        unfinished = self._path / f"{record.name}.unfinished"
        unfinished.write_bytes(msgspec.json.encode(record))
        unfinished.replace(self._file(record.name))

    def remove(self, name: str) -> None:
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self._path / f"{name}.json"
