"""What a look at a bus found, in words for who runs it."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    severity: Severity
    subject: str
    """A broker, a topic, a file."""
    found: str
    mend: str = ""
    """What to do; empty when nothing is."""


@dataclass(frozen=True, slots=True)
class BusReport:
    bus: str
    """memory, sqlite or kafka."""
    findings: tuple[Finding, ...]

    @property
    def is_usable(self) -> bool:
        return all(finding.severity is not Severity.ERROR for finding in self.findings)
