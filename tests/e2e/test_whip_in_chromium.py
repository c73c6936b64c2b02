"""Chromium as a WHIP client of its own, without our page: trickling and not, on a good line and a bad one."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from e2e.browser import open_chromium
from integration.faked_server import scripted_engines, serve_scripted
from voxthread.core.history import Message
from voxthread.media.datagrams import Kind, kind_of
from voxthread.media.srtp_wire import SrtpWire

pytestmark = [pytest.mark.e2e, pytest.mark.anyio, pytest.mark.timeout(120)]

CALL = """async ({ trickles, direction, seconds }) => {
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
  await new Promise((next) => setTimeout(next, seconds * 1000));
  const stats = {};
  for (const each of (await peer.getStats()).values()) stats[each.type] = { ...stats[each.type], ...each };
  const sent = (await peer.getStats()).get(stats["outbound-rtp"].codecId);
  const channel = events.readyState;
  const deleted = (await fetch(posted.headers.get("Location"), { method: "DELETE" })).status;
  return { patched, deleted, stats, channel, sends: sent.sdpFmtpLine };
}"""


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
        result: dict[str, Any] = await page.evaluate(CALL, {"direction": "sendrecv", "seconds": 4, **arguments})
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
    assert stats["outbound-rtp"]["packetsSent"] > 100
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


async def test_chromium_is_told_how_much_of_it_is_lost(chromium: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sort = SrtpWire._sort
    arrived = 0

    def lose_each_tenth(wire: SrtpWire, data: bytes, *more: Any, **named: Any) -> None:
        nonlocal arrived
        if kind_of(data) is Kind.RTP:
            arrived += 1
            if arrived % 10 == 0:
                return
        sort(wire, data, *more, **named)

    monkeypatch.setattr(SrtpWire, "_sort", lose_each_tenth)
    result = await call(chromium, trickles=True, seconds=8)
    reported = result["stats"]["remote-inbound-rtp"]
    assert 0.05 <= reported["fractionLost"] <= 0.2
    assert 20 <= reported["packetsLost"] <= 80
    assert 0 <= reported["roundTripTime"] < 0.1
    assert "useinbandfec=1" in result["sends"]
