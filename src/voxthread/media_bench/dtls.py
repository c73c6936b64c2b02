"""A caller's DTLS handshake without sockets or tasks, and the SRTP it agrees on (RFC 5764)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import pylibsrtp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL

from voxthread.client.failures import BenchError
from voxthread.observability.clock import now_ms

_MTU_BYTES: Final = 1200
_MAX_DATAGRAM_BYTES: Final = 1500
_REPLAY_WINDOW: Final = 1024
_LABEL: Final = b"EXTRACTOR-dtls_srtp"

_PROFILES: Final = {
    b"SRTP_AEAD_AES_128_GCM": (pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12, 16),
    b"SRTP_AES128_CM_SHA1_80": (pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14, 10),
}
"""What browsers offer: libsrtp's number, bytes of the key, of the salt, and of what is added to each packet."""


@dataclass(frozen=True, slots=True)
class Srtp:
    """`tag_bytes` are added to each RTP packet."""

    inbound: pylibsrtp.Session
    outbound: pylibsrtp.Session
    tag_bytes: int


class DtlsIdentity:
    """One certificate for all callers."""

    def __init__(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "caller")])
        now = datetime.fromtimestamp(now_ms() / 1000, UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        self.fingerprint = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
        self.context = SSL.Context(SSL.DTLS_METHOD)
        # Whom it talks to it has just been told by the server it measures.
        self.context.set_verify(SSL.VERIFY_PEER, lambda *_certificate: True)
        self.context.use_certificate(certificate)
        self.context.use_privatekey(key)
        self.context.set_tlsext_use_srtp(b":".join(_PROFILES))


class DtlsCaller:
    """The client of one handshake: datagrams in, datagrams out."""

    def __init__(self, identity: DtlsIdentity) -> None:
        self.is_done = False
        self._ssl = SSL.Connection(identity.context)
        self._ssl.set_connect_state()
        self._ssl.set_ciphertext_mtu(_MTU_BYTES)

    def advance(self, datagram: bytes | None = None) -> Iterator[bytes]:
        """What to send now. Raises `BenchError` if the server refuses."""
        if datagram is not None:
            self._ssl.bio_write(datagram)
        if not self.is_done:
            try:
                self._ssl.do_handshake()
                self.is_done = True
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                raise BenchError("bench.no_handshake", f"the DTLS handshake failed: {error}") from None
        yield from self._outgoing()

    def again(self) -> Iterator[bytes]:
        """What to send once more because nothing came back in time."""
        self._ssl.DTLSv1_handle_timeout()
        yield from self._outgoing()

    def srtp(self) -> Srtp:
        profile, key_bytes, salt_bytes, tag_bytes = _PROFILES[self._ssl.get_selected_srtp_profile()]
        material = self._ssl.export_keying_material(_LABEL, 2 * (key_bytes + salt_bytes))
        salts = material[2 * key_bytes :]
        own = material[:key_bytes] + salts[:salt_bytes]
        others = material[key_bytes : 2 * key_bytes] + salts[salt_bytes:]
        inbound = pylibsrtp.Policy(
            key=others, ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND, srtp_profile=profile
        )
        outbound = pylibsrtp.Policy(key=own, ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND, srtp_profile=profile)
        for policy in (inbound, outbound):
            policy.window_size = _REPLAY_WINDOW
        return Srtp(pylibsrtp.Session(inbound), pylibsrtp.Session(outbound), tag_bytes)

    def _outgoing(self) -> Iterator[bytes]:
        while True:
            try:
                yield self._ssl.bio_read(_MAX_DATAGRAM_BYTES)
            except SSL.WantReadError:
                return
