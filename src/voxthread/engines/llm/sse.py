"""Server-sent events, of which chat completions use one field: the data of a line."""

MAX_LINE_BYTES = 1 << 20

_DATA = b"data:"


class DataLines:
    """Bytes as they come in, the data of whole lines out.

    Lines end with LF or CRLF only: a JSON text may hold the other separators Unicode has, and a decoder that
    splits at those breaks it.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Raises `ValueError` for a line beyond `MAX_LINE_BYTES`."""
        self._buffer += data
        *lines, rest = self._buffer.split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise ValueError(f"an event of more than {MAX_LINE_BYTES} bytes")
        self._buffer = rest
        return [bytes(line[len(_DATA) :].strip()) for line in lines if line.startswith(_DATA)]
