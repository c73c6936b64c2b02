"""Request bodies read with a hard limit and in bounded time, before anything looks at them."""

import anyio
from starlette.requests import ClientDisconnect, Request

from voxthread.gateway.problem import RequestError

READ_TIMEOUT_S = 5.0


async def read_text(request: Request, *, media_type: str, accept_header: str, max_bytes: int) -> str:
    """The body as text. Raises `RequestError` 415 (another media type), 413, 408 or 400 (not UTF-8)."""
    sent_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent_type != media_type:
        raise RequestError(
            415, "http.media_type", f"Send the body as Content-Type: {media_type}.", {accept_header: media_type}
        )
    too_large = RequestError(
        413, "http.too_large", f"The body exceeds {max_bytes} bytes.", {"Connection": "close"}
    )
    length = request.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > max_bytes:
        raise too_large
    body = bytearray()
    try:
        with anyio.fail_after(READ_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise too_large
        return body.decode()
    except TimeoutError:
        raise RequestError(
            408, "http.too_slow", f"The body did not come within {READ_TIMEOUT_S:g} s.", {"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise RequestError(400, "http.disconnected", "The client went away.") from None
    except UnicodeDecodeError:
        raise RequestError(400, "http.not_text", "The body is not UTF-8.") from None
