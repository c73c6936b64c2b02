"""What Chromium says of a call over a line that loses a tenth of its packets: FEC, loss, round trip, NACK."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
import soundfile

from e2e.browser import FAKE_MICROPHONE, GRANTS_MICROPHONE, open_chromium, speaks
from scripted_server import NumberAgent, engines, running_server
from voxthread.engines.codec.libopus import load_libopus
from voxthread.media.datagrams import Kind, kind_of
from voxthread.media.leg import Leg
from voxthread.media.rtp import RtpPacket
from voxthread.media.srtp_wire import SrtpWire

pytestmark = [pytest.mark.e2e, pytest.mark.anyio, pytest.mark.timeout(120)]

LOSS = 0.1
CALL_S = 12
RATE_HZ = 48_000

CALL = """async () => {
  const peer = window.peer = new RTCPeerConnection();
  const media = await navigator.mediaDevices.getUserMedia({ audio: true });
  peer.addTransceiver(media.getAudioTracks()[0], { streams: [media] });
  await peer.setLocalDescription();
  const answer = await fetch("/whip", {
    method: "POST", headers: { "Content-Type": "application/sdp" }, body: peer.localDescription.sdp,
  });
  await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
}"""

STATS = """async () => {
  const all = [...(await window.peer.getStats()).values()];
  const one = (type) => all.find((each) => each.type === type);
  const outbound = one("outbound-rtp");
  const codec = all.find(({ id }) => id === outbound.codecId);
  return { outbound, codec, told: one("remote-inbound-rtp"), heard: one("remote-outbound-rtp") };
}"""


class LossyLine:
    """Loses RTP that comes of callers, and notes what is left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.packets: list[RtpPacket] = []
        self.lost = 0
        self._chance = random.Random(6)
        sort, hear = SrtpWire._sort, Leg._hear

        def lossy(wire: SrtpWire, data: bytes, address: Any, pass_on: Callable[[bytes, Any], None]) -> None:
            if kind_of(data) is Kind.RTP and self._chance.random() < LOSS:
                self.lost += 1
            else:
                sort(wire, data, address, pass_on)

        def noting(leg: Leg, packet: RtpPacket, arrival_us: int) -> None:
            self.packets.append(packet)
            hear(leg, packet, arrival_us)

        monkeypatch.setattr(SrtpWire, "_sort", lossy)
        monkeypatch.setattr(Leg, "_hear", noting)


@pytest.fixture
def microphone(tmp_path: Path) -> Path:
    """A buzz like a voice: redundancy is spent on voices only."""
    time_s = np.arange(RATE_HZ * (CALL_S + 20)) / RATE_HZ
    phase = 2 * np.pi * (120 * time_s + 8 * np.sin(2 * np.pi * time_s))
    buzz = sum(np.sin(k * phase) / k for k in range(1, 12)) * (0.6 + 0.4 * np.sin(8 * np.pi * time_s))
    soundfile.write(tmp_path / "voice.wav", 0.2 * buzz, RATE_HZ, subtype="PCM_16")
    return tmp_path / "voice.wav"


async def test_chromium_hears_of_its_losses_prepares_for_them_and_sends_again_what_was_lost(
    chromium: str, microphone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = LossyLine(monkeypatch)
    async with (
        running_server(engines(NumberAgent())) as running,
        open_chromium(chromium, [GRANTS_MICROPHONE, FAKE_MICROPHONE, speaks(microphone)]) as browser,
    ):
        page = await browser.new_page()
        await page.goto(running.url)
        await page.evaluate(CALL)
        await anyio.sleep(CALL_S)  # Chromium reports each five seconds, and believes a loss that lasts
        stats = await page.evaluate(STATS)
    told, outbound = stats["told"], stats["outbound"]
    assert "useinbandfec=1" in stats["codec"]["sdpFmtpLine"]
    assert 0 < told["packetsLost"] <= 1.2 * line.lost
    assert 0 <= told["fractionLost"] < 0.5
    assert 0 < told["roundTripTime"] < 0.2
    assert 0 <= told["jitter"] < 0.1
    assert outbound["nackCount"] > 0
    assert 0 < outbound["retransmittedPacketsSent"] <= 2.5 * line.lost
    assert stats["heard"]["reportsSent"] >= CALL_S / 2
    newest = [packet.payload for packet in line.packets[-200:]]
    has_redundancy = load_libopus()["opus_packet_has_lbrr"]
    assert sum(has_redundancy(payload, len(payload)) for payload in newest) > len(newest) / 2
    assert all(packet.level is not None and packet.level < 60 for packet in line.packets[-50:])
