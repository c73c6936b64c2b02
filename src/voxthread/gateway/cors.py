"""Which web pages may call us from other origins (Fetch standard, section 3.2)."""

from collections.abc import Sequence

_MAX_AGE_S = 7_200


class Cors:
    """`origins` are exact, or "*" for all. Credentials are never allowed: we use tokens, not cookies."""

    def __init__(
        self,
        origins: Sequence[str],
        *,
        methods: Sequence[str],
        request_headers: Sequence[str],
        exposed_headers: Sequence[str],
    ) -> None:
        self._any_origin = "*" in origins
        self._origins = frozenset(origins)
        self._exposed = ", ".join(exposed_headers)
        self._preflight = {
            "Access-Control-Allow-Methods": ", ".join(methods),
            "Access-Control-Allow-Headers": ", ".join(request_headers),
            "Access-Control-Max-Age": str(_MAX_AGE_S),
        }

    def headers(self, origin: str | None, *, is_options: bool) -> dict[str, str]:
        """What to add to a response, whatever its status."""
        if self._any_origin:
            allowed = {"Access-Control-Allow-Origin": "*"}
        elif origin is not None and origin in self._origins:
            allowed = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}
        else:
            return {"Vary": "Origin"}
        exposed = {"Access-Control-Expose-Headers": self._exposed}
        return allowed | exposed | (self._preflight if is_options else {})
