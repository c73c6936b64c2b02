"""FFmpeg's WHIP muxer, as PyAV's wheel has it, sends 2 s of tone: URL, certificate, key, options as JSON."""

import json
import sys
import time

import av
import numpy as np

_RATE_HZ = 48_000
_FRAME_SAMPLES = 960
_FRAMES = 100


def main(url: str, certificate: str, key: str, options: str) -> None:
    output = av.open(
        url, "w", format="whip", options={"cert_file": certificate, "key_file": key, **json.loads(options)}
    )
    stream = output.add_stream("libopus", rate=_RATE_HZ, layout="stereo", options={"frame_duration": "20"})
    started = time.monotonic()
    for index in range(_FRAMES):
        at = np.arange(index * _FRAME_SAMPLES, (index + 1) * _FRAME_SAMPLES)
        tone = (np.sin(2 * np.pi * 440 * at / _RATE_HZ) * 8_000).astype("<i2").repeat(2).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(tone, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = _RATE_HZ, index * _FRAME_SAMPLES
        for packet in stream.encode(frame):
            output.mux(packet)
        time.sleep(max(0.0, started + index * 0.02 - time.monotonic()))
    output.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
