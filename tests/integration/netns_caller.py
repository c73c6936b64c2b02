"""A caller with the ICE servers that OPTIONS names: calls, hears the agent and says in JSON how it went."""

import json
import re
import sys
from collections.abc import Sequence

import anyio
import httpx
from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection

from integration.whip_call import Caller
from voxthread.media.aiortc_seams import dtls_of, nominated_pair

_LINK = re.compile(r'<([^>]+)>; rel="ice-server"(?:; username="([^"]+)"; credential="([^"]+)")?')
_HEARD_PACKETS = 10


def ice_servers(links: Sequence[str]) -> list[RTCIceServer]:
    found = [match.groups() for link in links if (match := _LINK.match(link))]
    return [RTCIceServer(url, username, credential) for url, username, credential in found]


async def main(url: str, bearer: str) -> None:
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {bearer}"}, timeout=20) as http:
        servers = ice_servers((await http.options(f"{url}/whip")).headers.get_list("Link"))
        caller = Caller(RTCPeerConnection(RTCConfiguration(iceServers=servers)))
        offer = await caller.offer()
        answer = await http.post(f"{url}/whip", content=offer, headers={"Content-Type": "application/sdp"})
        answer.raise_for_status()
        await caller.connect(answer.text)
        await caller.until(lambda: len(caller.voice) >= _HEARD_PACKETS)
        pair = nominated_pair(dtls_of(caller.connection))
        assert pair is not None
        deleted = await http.delete(answer.headers["Location"])
        await caller.close()
    path = {"through": pair.local_candidate.type, "to": pair.remote_addr[0]}
    sys.stdout.write(json.dumps({"heard": len(caller.voice), "deleted": deleted.status_code, **path}))


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
