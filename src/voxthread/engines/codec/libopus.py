"""The four calls of libopus that a voice agent needs, bound with ctypes.

The library comes inside the `opuslib-next-bundled` wheel; its own Python binding is not used, because it
makes a list of Python integers of every packet (26 us against 14 us for 20 ms) and cannot ask for packet
loss concealment (`opus_decode` with a null packet). Function names, request numbers and semantics:
opus-codec.org/docs/opus_api-1.5.
"""

import ctypes
import ctypes.util
import weakref
from functools import cache

from voxthread.core.failures import MediaError

MAX_PACKET_MS = 120
_MAX_PACKET_BYTES = 1275 * 6
"""RFC 6716 section 3.4: frames of at most 1275 bytes, six of 20 ms in a packet."""

_APPLICATION_VOIP = 2048
_SET_BITRATE = 4002
_SET_COMPLEXITY = 4010
_SET_INBAND_FEC = 4012
_SET_PACKET_LOSS_PERC = 4014


class OpusError(Exception):
    """libopus refused its input, with its (negative) error code."""


class NativeDecoder:
    """An `OpusDecoder` of libopus, mono."""

    def __init__(self, rate_hz: int) -> None:
        library = _load_libopus()
        status = ctypes.c_int()
        create = library["opus_decoder_create"]
        create.restype = ctypes.c_void_p
        self._state = create(rate_hz, 1, ctypes.byref(status))
        _check(status.value)
        destroy = library["opus_decoder_destroy"]
        destroy.argtypes = (ctypes.c_void_p,)
        destroy.restype = None
        weakref.finalize(self, destroy, self._state)
        self._decode = library["opus_decode"]
        self._decode.argtypes = (
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int32,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_int,
        )
        self._samples = (ctypes.c_int16 * (rate_hz * MAX_PACKET_MS // 1000))()

    def decode(self, packet: bytes | None, samples: int, *, fec: bool = False) -> bytes:
        """s16le of `packet`, at most `samples` long; of None, exactly `samples` extrapolated.

        With `fec`, exactly `samples` of the audio *before* `packet`, from its redundancy. Where `samples`
        is exact it is a multiple of 2.5 ms and at most `MAX_PACKET_MS`. Raises `OpusError`.
        """
        length = 0 if packet is None else len(packet)
        decoded = self._decode(self._state, packet, length, self._samples, samples, int(fec))
        _check(decoded)
        return ctypes.string_at(self._samples, decoded * 2)


class NativeEncoder:
    """An `OpusEncoder` of libopus, mono, tuned for voice, in-band FEC on."""

    def __init__(self, rate_hz: int, *, bitrate_bps: int, complexity: int, expected_loss_percent: int) -> None:
        library = _load_libopus()
        status = ctypes.c_int()
        create = library["opus_encoder_create"]
        create.restype = ctypes.c_void_p
        self._state = create(rate_hz, 1, _APPLICATION_VOIP, ctypes.byref(status))
        _check(status.value)
        destroy = library["opus_encoder_destroy"]
        destroy.argtypes = (ctypes.c_void_p,)
        destroy.restype = None
        weakref.finalize(self, destroy, self._state)
        control = library["opus_encoder_ctl"]
        control.argtypes = (ctypes.c_void_p, ctypes.c_int)
        for request, value in (
            (_SET_BITRATE, bitrate_bps),
            (_SET_COMPLEXITY, complexity),
            (_SET_INBAND_FEC, 1),
            (_SET_PACKET_LOSS_PERC, expected_loss_percent),
        ):
            _check(control(self._state, request, ctypes.c_int32(value)))
        self._encode = library["opus_encode"]
        self._encode.argtypes = (
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_int32,
        )
        self._packet = ctypes.create_string_buffer(_MAX_PACKET_BYTES)

    def encode(self, pcm: bytes) -> bytes:
        """The packet of one frame of s16le of a duration Opus knows (2.5 to 60 ms). Raises `OpusError`."""
        length = self._encode(self._state, pcm, len(pcm) // 2, self._packet, _MAX_PACKET_BYTES)
        _check(length)
        return self._packet.raw[:length]


def _check(result: int) -> None:
    if result < 0:
        raise OpusError(result)


@cache
def _load_libopus() -> ctypes.CDLL:
    """The bundled library, or the system's where the wheel has none. Raises `MediaError`."""
    try:
        from opuslib_next.api import libopus
    except (ImportError, OSError, RuntimeError):  # its OpusLibraryNotFoundError is a RuntimeError
        name = ctypes.util.find_library("opus")
        if name is None:
            raise MediaError(
                "opus.library_missing", "install the opuslib-next-bundled wheel or the system's libopus"
            ) from None
        return ctypes.CDLL(name)
    return libopus  # type: ignore[no-any-return]  # the package is untyped
