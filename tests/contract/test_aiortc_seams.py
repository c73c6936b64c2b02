"""The private names of aiortc and aioice that `aiortc_seams` relies on; fails when an upgrade moves one."""

import inspect

import pytest
from aioice.ice import Connection, StunProtocol, get_host_addresses
from aiortc import RTCCertificate, RTCDtlsTransport, RTCIceGatherer, RTCIceTransport, RTCPeerConnection

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
    assert connection._protocols == []
    assert dtls._rx_srtp is dtls._tx_srtp is None
    assert dtls._role == "auto"
    dtls._set_role("server")
    assert dtls._role == "server"
    assert list(inspect.signature(connection.get_component_candidates).parameters)[:2] == [
        "component",
        "addresses",
    ]
    await ice.stop()


def test_datagrams_reach_aioice_through_one_method() -> None:
    parameters = inspect.signature(StunProtocol.datagram_received).parameters
    assert list(parameters) == ["self", "data", "addr"]
    assert set(inspect.signature(get_host_addresses).parameters) == {"use_ipv4", "use_ipv6"}


@pytest.mark.anyio
async def test_senders_and_receivers_start_through_methods_that_can_be_replaced() -> None:
    connection = RTCPeerConnection()
    transceiver = connection.addTransceiver("audio")
    assert inspect.iscoroutinefunction(transceiver.sender.send)
    assert inspect.iscoroutinefunction(transceiver.receiver.receive)
    assert transceiver.sender.transport is transceiver.receiver.transport
    await connection.close()
