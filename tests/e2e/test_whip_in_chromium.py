"""Chromium as a WHIP client of its own, without our page: trickling and not."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from playwright.async_api import expect

from e2e.browser import open_chromium
from integration.faked_server import scripted_engines, serve_scripted
from voxthread.core.history import Message

pytestmark = [pytest.mark.e2e, pytest.mark.anyio, pytest.mark.timeout(120)]

CALL = """async ({ trickles, direction }) => {
  const peer = new RTCPeerConnection();
  const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
  peer.addTransceiver(microphone.getAudioTracks()[0], { direction, streams: [microphone] });
  const events = peer.createDataChannel("events");
  const player = document.createElement("audio");
  player.autoplay = true;
  peer.ontrack = ({ streams }) => { player.srcObject = streams[0]; };
  const found = [];
  const gathered = new Promise((done) => {
    peer.onicecandidate = ({ candidate }) => candidate ? found.push(candidate.candidate) : done();
  });
  await peer.setLocalDescription(await peer.createOffer());
  if (!trickles) await gathered;
  const posted = await fetch("/whip", {
    method: "POST", headers: { "Content-Type": "application/sdp" }, body: peer.localDescription.sdp,
  });
  const answer = await posted.text();
  if (posted.status !== 201) throw new Error(answer);
  await peer.setRemoteDescription({ type: "answer", sdp: answer });
  let patched = null;
  if (trickles) {
    await gathered;
    const lines = peer.localDescription.sdp.match(/a=ice-(ufrag|pwd):.*/g).slice(0, 2);
    const body = [...lines, "m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", ...found.map((each) => `a=${each}`),
      "a=end-of-candidates", ""].join("\\r\\n");
    patched = (await fetch(posted.headers.get("Location"), {
      method: "PATCH", body,
      headers: { "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": posted.headers.get("ETag") },
    })).status;
  }
  while (peer.connectionState !== "connected") await new Promise((next) => setTimeout(next, 10));
  let stats = {};
  while (stats["remote-inbound-rtp"]?.roundTripTime === undefined || stats["outbound-rtp"].packetsSent < 150) {
    await new Promise((next) => setTimeout(next, 100));
    stats = {};
    for (const each of (await peer.getStats()).values()) stats[each.type] = { ...stats[each.type], ...each };
  }
  const sent = (await peer.getStats()).get(stats["outbound-rtp"].codecId);
  const channel = events.readyState;
  const deleted = (await fetch(posted.headers.get("Location"), { method: "DELETE" })).status;
  return { patched, deleted, stats, channel, sends: sent.sdpFmtpLine };
}"""


KEEP_PEERS = """
window.peers = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...settings) { super(...settings); window.peers.push(this); }
};
"""
NO_SERVER = "127.0.0.1:9"


class TalkativeAgent:
    greeting = "Good day. " * 60

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        yield "Yes."


async def call(chromium: str, *, strict: bool = False, **arguments: Any) -> dict[str, Any]:
    engines = scripted_engines(agents={"talkative": TalkativeAgent()})
    async with (
        serve_scripted(engines, media={"strict_rfc9725": strict}) as served,
        open_chromium(chromium) as browser,
    ):
        page = await browser.new_page()
        await page.goto(f"{served.url}/healthz")
        result: dict[str, Any] = await page.evaluate(CALL, {"direction": "sendrecv", **arguments})
        return result


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("trickles", [False, True], ids=["at-once", "trickling"])
async def test_a_call_completes_with_error_correction_and_a_true_picture_of_the_line(
    chromium: str, trickles: bool, strict: bool
) -> None:
    result = await call(chromium, trickles=trickles, strict=strict)
    assert result["patched"] == (204 if trickles else None)
    assert result["deleted"] == 200
    assert result["channel"] == "open"
    assert "useinbandfec=1" in result["sends"]
    stats = result["stats"]
    reported = stats["remote-inbound-rtp"]
    assert 0 <= reported["roundTripTime"] < 0.1
    assert (reported["packetsLost"], reported["fractionLost"]) == (0, 0)
    assert 0 < reported["jitter"] < 0.05
    assert 0 <= stats["candidate-pair"]["currentRoundTripTime"] < 0.1
    if not strict:
        # The fake microphone beeps into the greeting, which gives way.
        assert stats["inbound-rtp"]["packetsReceived"] > 20
        assert stats["inbound-rtp"]["packetsLost"] == 0
        assert stats["inbound-rtp"]["totalAudioEnergy"] > 0


async def test_the_page_uses_the_ice_servers_that_the_server_names(chromium: str) -> None:
    engines = scripted_engines(agents={"talkative": TalkativeAgent()})
    media = {"ice_servers": [f"turn:{NO_SERVER}?transport=udp", f"stun:{NO_SERVER}"], "turn_secret": "shared"}
    async with serve_scripted(engines, media=media) as served, open_chromium(chromium) as browser:
        page = await browser.new_page()
        await page.add_init_script(KEEP_PEERS)
        await page.goto(served.url)
        await page.get_by_role("button", name="Start talking").click()
        await expect(page.locator("#link")).to_have_text("Connected")
        turn, stun = await page.evaluate("window.peers[0].getConfiguration().iceServers")
        await page.get_by_role("button", name="Hang up").click()
    assert turn["urls"] == [f"turn:{NO_SERVER}?transport=udp"]
    assert turn["username"].split(":")[0].isdecimal()
    assert len(turn["credential"]) == 28
    assert stun["urls"] == [f"stun:{NO_SERVER}"]
