"""Structured logs: one JSON object a line, with the ids of the session a line belongs to.

A session's task binds `session_id`, `frontend_session_id` and `turn_id` once, with
`structlog.contextvars.bind_contextvars`; every line written below it carries them. Lines hold no caller's
words and no secrets: a field so named is redacted here, whoever logs it.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

REDACTED = "[redacted]"

PRIVATE_FIELDS = frozenset(
    {
        "answer",
        "authorization",
        "candidate",
        "cookie",
        "credential",
        "offer",
        "password",
        "pwd",
        "sdp",
        "secret",
        "text",
        "token",
        "transcript",
        "ufrag",
        "utterance",
    }
)
"""Last words of the names of fields never shown: `heard_text` is private, `text_chars` is not."""

_PRIVATE_NAMES = frozenset({"api_key"})
_LEADING = ("at", "level", "logger", "event")
_MAX_CHARS = 4_000


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger of the module `name`; messages are dotted facts: `log.info("peer.connected", ...)`."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def configure_logging(level: str, stream: TextIO | None = None, *, for_good: bool = False) -> None:
    """Send this process's logs to `stream` (standard error) as JSON lines.

    `level` (debug, info, warning, error) is that of Voxthread's own modules. Libraries are heard from
    warning on only: below it they log URLs, session descriptions and ICE credentials.

    Configured `for_good`, loggers remember it from their first line on, which makes each line cheaper.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.format_exc_info,
        make_safe,
    ]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    handler.addFilter(_is_heard)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(threshold, logging.WARNING))
    logging.getLogger("voxthread").setLevel(threshold)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.NOTSET)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=for_good,
    )


def _is_heard(record: logging.LogRecord) -> bool:
    """A library that gave its logger a level of its own is heard from warning on all the same."""
    return record.levelno >= logging.WARNING or record.name.partition(".")[0] == "voxthread"


def make_safe(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    """structlog processor: redact private fields, escape control characters, put the time first."""
    safe: EventDict = {name: _safe(name, event_dict[name]) for name in _LEADING if name in event_dict}
    for name, value in event_dict.items():
        if name not in safe:
            # structlog's own fields (`_record`) are objects that later processors need as they are
            safe[name] = value if name.startswith("_") else _safe(name, value)
    return safe


def _safe(name: str, value: object) -> object:
    lowered = name.lower()
    if lowered in _PRIVATE_NAMES or lowered.replace("-", "_").rpartition("_")[2] in PRIVATE_FIELDS:
        return REDACTED
    match value:
        case str():
            return _printable(value[:_MAX_CHARS], keep="\n" if name == "exception" else "")
        case bool() | int() | float() | None:
            return value
        case bytes():
            return f"[{len(value)} bytes]"
        case Mapping():
            return {str(key): _safe(str(key), item) for key, item in value.items()}
        case Sequence():
            return [_safe("", item) for item in value]
        case _:
            return _printable(str(value)[:_MAX_CHARS])


def _printable(text: str, keep: str = "") -> str:
    """Escape what could forge a line or drive a terminal: C0, C1, separators, direction marks."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text
    )
