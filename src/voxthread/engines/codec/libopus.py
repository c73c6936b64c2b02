"""The four calls of libopus that a voice agent needs, bound with ctypes.

The library comes inside the `opuslib-next-bundled` wheel, which has it for Linux, macOS and Windows and hands
it out as `opuslib_next.api.libopus`; a system's own does as well. The wheel's Python binding is not used,
because it makes a list of Python integers of every packet (26 us against 14 us for 20 ms) and cannot ask for
packet loss concealment (`opus_decode` with a null packet). Function names, request numbers and semantics:
opus-codec.org/docs/opus_api-1.5.
"""

import contextlib
import ctypes
import ctypes.util
import weakref
from functools import cache

from voxthread.core.failures import MediaError

MAX_PACKET_MS = 120
_MAX_PACKET_BYTES = 1275 * 6
"""RFC 6716 section 3.4: frames of at most 1275 bytes, six of 20 ms in a packet."""

_APPLICATION_VOIP = 2048
_SYSTEM_NAMES = (
    "libopus.so.0",
    "libopus.0.dylib",
    "/opt/homebrew/lib/libopus.0.dylib",
    "/usr/local/lib/libopus.0.dylib",
)
"""Where `find_library` does not look: it wants ldconfig or a compiler on Linux, and not Homebrew on macOS."""

_SET_BITRATE = 4002
_SET_COMPLEXITY = 4010
_SET_INBAND_FEC = 4012
_SET_PACKET_LOSS_PERC = 4014


class OpusError(Exception):
    """libopus refused its input, with its (negative) error code."""


class NativeDecoder:
    """An `OpusDecoder` of libopus, mono."""

    def __init__(self, rate_hz: int) -> None:
        library = load_libopus()
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
        library = load_libopus()
        status = ctypes.c_int()
        create = library["opus_encoder_create"]
        create.restype = ctypes.c_void_p
        self._state = create(rate_hz, 1, _APPLICATION_VOIP, ctypes.byref(status))
        _check(status.value)
        destroy = library["opus_encoder_destroy"]
        destroy.argtypes = (ctypes.c_void_p,)
        destroy.restype = None
        weakref.finalize(self, destroy, self._state)
        self._control = library["opus_encoder_ctl"]
        self._control.argtypes = (ctypes.c_void_p, ctypes.c_int)
        self._set(_SET_COMPLEXITY, complexity)
        self._set(_SET_INBAND_FEC, 1)
        self.tune(bitrate_bps=bitrate_bps, expected_loss_percent=expected_loss_percent)
        self._encode = library["opus_encode"]
        self._encode.argtypes = (
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_int32,
        )
        self._packet = ctypes.create_string_buffer(_MAX_PACKET_BYTES)

    def tune(self, *, bitrate_bps: int, expected_loss_percent: int) -> None:
        """From the next packet on. Raises `OpusError` for what libopus does not know."""
        self._set(_SET_BITRATE, bitrate_bps)
        self._set(_SET_PACKET_LOSS_PERC, expected_loss_percent)

    def encode(self, pcm: bytes) -> bytes:
        """The packet of one frame of s16le of a duration Opus knows (2.5 to 60 ms). Raises `OpusError`."""
        length = self._encode(self._state, pcm, len(pcm) // 2, self._packet, _MAX_PACKET_BYTES)
        _check(length)
        return self._packet.raw[:length]

    def _set(self, request: int, value: int) -> None:
        _check(self._control(self._state, request, ctypes.c_int32(value)))


def _check(result: int) -> None:
    if result < 0:
        raise OpusError(result)


@cache
def load_libopus() -> ctypes.CDLL:
    """The library of the wheel, or the system's where there is none of it. Raises `MediaError`."""
    try:
        from opuslib_next.api import libopus
    except (ImportError, OSError, RuntimeError):  # its OpusLibraryNotFoundError is a RuntimeError
        return _load_of_system()
    return libopus  # type: ignore[no-any-return]  # the package is untyped


def _load_of_system() -> ctypes.CDLL:
    found = ctypes.util.find_library("opus")
    for name in (found, *_SYSTEM_NAMES):
        if name is not None:
            with contextlib.suppress(OSError):
                return ctypes.CDLL(name)
    raise MediaError(
        "opus.library_missing",
        "libopus was not found: install the opuslib-next-bundled wheel, or the library itself (Debian: "
        "libopus0, Fedora: opus, Alpine: opus, macOS: brew install opus)",
    )
