"""STUN and TURN servers that callers are told in `Link` headers (RFC 9725 section 4.6)."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class IceServers:
    """`turn_secret` is what the TURN servers share with us: coturn's `use-auth-secret`, by which a user name
    is a time and anything, and its password follows from both (draft-uberti-behave-turn-rest-00)."""

    urls: Sequence[str] = ()
    turn_secret: str = field(default="", repr=False)
    ttl_s: int = 7_200

    def links(self, name: str, now_s: int) -> list[str]:
        """One value of `Link` for each server, with credentials for `name` that are good from now on.

        The order of the parameters, and `credential-type`, are what MediaMTX's client reads.
        """
        user = f"{now_s + self.ttl_s}:{name}"
        digest = hmac.new(self.turn_secret.encode(), user.encode(), hashlib.sha1).digest()
        proof = (
            f'; username="{user}"; credential="{base64.b64encode(digest).decode()}"; credential-type="password"'
        )
        return [f'<{url}>; rel="ice-server"{proof if url.startswith("turn") else ""}' for url in self.urls]
