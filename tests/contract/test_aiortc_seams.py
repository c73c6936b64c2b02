"""The private names of aiortc and aioice that `aiortc_seams` relies on; fails when an upgrade moves one."""

import inspect
from pathlib import Path

import anyio
import pytest
from aioice.ice import ICE_COMPLETED, CandidatePair, Connection, StunProtocol
from aiortc import (
    RTCCertificate,
    RTCDtlsTransport,
    RTCIceGatherer,
    RTCIceTransport,
    RTCPeerConnection,
    RTCSctpTransport,
)

from voxthread.media import aiortc_seams
from voxthread.media.ports import bind_sockets

pytestmark = pytest.mark.contract


@pytest.mark.anyio
async def test_ice_and_dtls_have_the_names_the_seams_touch() -> None:
    gatherer = RTCIceGatherer(iceServers=[])
    ice = RTCIceTransport(gatherer)
    dtls = RTCDtlsTransport(ice, [RTCCertificate.generateCertificate()])
    connection = ice._connection
    assert isinstance(connection, Connection)
    assert gatherer._connection is connection
    assert connection._local_candidates == []
    assert connection._local_candidates_start is connection._local_candidates_end is False
    assert connection._nominated == {}
    assert connection._closing is False
    assert connection._protocols == []
    assert dtls._rx_srtp is dtls._tx_srtp is dtls._ssl is None
    assert dtls._role == "auto"
    dtls._set_role("server")
    assert dtls._role == "server"
    sctp = RTCSctpTransport(dtls)
    assert inspect.iscoroutinefunction(sctp._handle_data)
    assert sctp._advertised_rwnd == 1024 * 1024
    await ice.stop()


@pytest.mark.anyio
async def test_the_connecting_of_ice_is_made_of_the_parts_that_the_seams_put_together() -> None:
    gatherer = RTCIceGatherer(iceServers=[])
    connection = gatherer._connection
    assert connection._check_list == connection._remote_candidates == [*connection._early_checks] == []
    assert connection._early_checks_done is connection._check_list_done is False
    assert connection._query_consent_task is None
    assert connection._check_list_state.empty()
    for method in ("_pair_remote_candidate", "sort_check_list", "_unfreeze_initial", "_check_periodic"):
        assert callable(getattr(connection, method))
    assert inspect.iscoroutinefunction(connection.connect)
    assert inspect.iscoroutinefunction(connection.query_consent)
    assert list(inspect.signature(connection.respond_error).parameters) == [
        "request",
        "addr",
        "protocol",
        "error_code",
    ]
    source = inspect.getsource(Connection.connect)
    for part in ("_early_checks_done = True", "_check_list_state.get()", "create_task(self.query_consent())"):
        assert part in source, "aioice connects in another way now: compare `aiortc_seams._hurry` with it"
    assert ICE_COMPLETED == 1
    await connection.close()


async def bound_ice() -> tuple[RTCIceGatherer, RTCIceTransport]:
    gatherer = RTCIceGatherer(iceServers=[])
    await aiortc_seams.gather_at(gatherer, bind_sockets(["127.0.0.1"], None))
    return gatherer, RTCIceTransport(gatherer)


@pytest.mark.anyio
async def test_what_asks_for_consent_ends_with_the_connection() -> None:
    ends = [await bound_ice(), await bound_ice()]
    ends[0][0]._connection.ice_controlling = True
    async with anyio.create_task_group() as tasks:
        for (gatherer, _), (_, ice) in (ends, ends[::-1]):
            for candidate in gatherer.getLocalCandidates():
                await ice.addRemoteCandidate(candidate)
            tasks.start_soon(ice.start, gatherer.getLocalParameters())
    for _, ice in ends:
        assert ice.state == "completed"
        consent = ice._connection._query_consent_task
        assert not consent.done()
        await ice.stop()
        assert consent.cancelled()


def test_a_certificate_makes_its_own_tls_context() -> None:
    certificate = RTCCertificate.generateCertificate()
    assert list(inspect.signature(certificate._create_ssl_context).parameters) == ["srtp_profiles"]


def test_datagrams_reach_aioice_through_one_method() -> None:
    parameters = inspect.signature(StunProtocol.datagram_received).parameters
    assert list(parameters) == ["self", "data", "addr"]


def test_a_nominated_pair_tells_where_media_goes() -> None:
    assert isinstance(inspect.getattr_static(CandidatePair, "remote_addr"), property)
    assert {"protocol", "remote_candidate"} <= set(inspect.signature(CandidatePair).parameters)
    assert "transport" in StunProtocol.__annotations__


def test_packets_may_be_protected_again_to_be_sent_again() -> None:
    source = inspect.getsource(RTCDtlsTransport._setup_srtp)
    for part in ("allow_repeat_tx = True", "self._rx_srtp = Session(", "self._tx_srtp = Session("):
        assert part in source, "aiortc sets SRTP up in another way now: check what `SentPackets` relies on"


def test_only_the_seams_touch_private_names() -> None:
    """Elsewhere ruff forbids them (SLF001), and nobody may tell it otherwise."""
    package = Path(aiortc_seams.__file__).parent.parent
    excused = [path for path in package.rglob("*.py") if "noqa: SLF001" in path.read_text()]
    assert excused == [Path(aiortc_seams.__file__)]


@pytest.mark.anyio
async def test_senders_and_receivers_start_through_methods_that_can_be_replaced() -> None:
    connection = RTCPeerConnection()
    transceiver = connection.addTransceiver("audio")
    assert inspect.iscoroutinefunction(transceiver.sender.send)
    assert inspect.iscoroutinefunction(transceiver.receiver.receive)
    assert transceiver.sender.transport is transceiver.receiver.transport
    await connection.close()
