"""A call for a person to read while it goes on, on standard error."""

from rich.console import Console
from rich.markup import escape

from voxthread.client.call import Reply
from voxthread.client.line import Reconnect
from voxthread.core import events
from voxthread.wire.events import Envelope


class CallPrinter:
    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)

    def connected(self, session_id: str, frontend_session_id: str) -> None:
        alias = "" if frontend_session_id == session_id else f" (frontend {frontend_session_id})"
        self._console.print(f"[dim]connected: {escape(session_id + alias)}[/dim]")

    def event(self, envelope: Envelope) -> None:
        match envelope.event:
            case events.UserTranscript(text=text, final=True):
                self._line("caller", "cyan", text)
            case events.AgentSpeechStopped(heard_text=text):
                self._line("agent", "green", text)
            case events.AgentInterrupted(heard_text=text):
                self._line("agent", "yellow", f"{text} ... (interrupted)")
            case events.ErrorOccurred(code=code, message=message):
                self._line("error", "red", f"{code}: {message}")
            case events.SessionClosed(reason=reason):
                self._console.print(f"[dim]call ended: {escape(reason)}[/dim]")

    def line(self, reconnect: Reconnect) -> None:
        if reconnect.gap_ms is None:
            self._line(
                "line", "yellow", f"lost ({reconnect.reason}), reconnecting; what is said now is not heard"
            )
        else:
            self._line("line", "yellow", f"back after {reconnect.gap_ms} ms, the call goes on")

    def measured(self, reply: Reply) -> None:
        if reply.v2v_ms is None:
            self._line("", "dim", "the answer was silent")
            return
        stages = ", ".join(f"{name} {ms}" for name, ms in reply.turn.stages_ms.items())
        warning = "; the agent spoke before the caller had finished" if reply.cut_in else ""
        self._line("", "dim", f"answered after {reply.v2v_ms:.0f} ms ({stages}){warning}")

    def _line(self, who: str, style: str, text: str) -> None:
        self._console.print(f"[{style}]{who:>7}[/{style}] {escape(text)}")
