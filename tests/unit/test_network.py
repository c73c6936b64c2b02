"""Which interfaces and public addresses media has, and how an operator says so."""

import pytest
from pydantic import ValidationError

from voxthread.config import Config
from voxthread.media.interfaces import host_addresses, is_selected
from voxthread.media.nat import PublicAddress, advertised, parse_public_address

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("name", "patterns", "selected"),
    [
        ("eth0", [], True),
        ("eth0", ["eth*"], True),
        ("eth0", ["wlan0"], False),
        ("docker0", ["!docker*"], False),
        ("eth0", ["!docker*"], True),
        ("eth1", ["eth*", "!eth1"], False),
    ],
)
def test_interfaces_are_selected_by_pattern(name: str, patterns: list[str], selected: bool) -> None:
    assert is_selected(name, patterns) is selected


def test_a_server_on_one_address_has_its_media_there() -> None:
    assert host_addresses("192.0.2.1") == ["192.0.2.1"]


def test_a_loopback_server_can_be_reached_by_callers_on_this_machine() -> None:
    assert host_addresses("127.0.0.1")[0] == "127.0.0.1"
    assert host_addresses("::1")[:2] == ["::1", "127.0.0.1"]
    assert "127.0.0.1" not in host_addresses("0.0.0.0")
    assert host_addresses("192.0.2.1", ["lo"])[0] == "127.0.0.1"
    assert host_addresses("0.0.0.0", ["no-such-interface"]) == []


def test_public_addresses_stand_for_private_ones_of_their_version() -> None:
    nat = [parse_public_address("203.0.113.5/10.0.0.2"), parse_public_address("203.0.113.6")]
    bound = [("10.0.0.1", 1), ("10.0.0.2", 2), ("2001:db8::1", 3)]
    assert advertised(bound, [], keeps_private=False) == bound
    public = [("203.0.113.6", 1), ("203.0.113.5", 2), ("2001:db8::1", 3)]
    assert advertised(bound, nat, keeps_private=False) == public
    assert advertised(bound, nat, keeps_private=True) == [*public, ("10.0.0.1", 1), ("10.0.0.2", 2)]


@pytest.mark.parametrize("text", ["", "example.org", "203.0.113.5/", "203.0.113.5/::1", "1.2.3.4/5.6.7.8/9"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  ipaddress words its own
        parse_public_address(text)


def test_settings_of_the_network_are_read() -> None:
    media = Config(media={"udp_ports": "40000-40099", "nat_1_1": ["203.0.113.5"]}).media  # type: ignore[arg-type]
    assert media.udp_ports == range(40_000, 40_100)
    assert media.nat_1_1 == (PublicAddress("203.0.113.5"),)


@pytest.mark.parametrize(
    "media",
    [
        {"udp_ports": "40000"},
        {"udp_ports": "40001-40000"},
        {"udp_ports": "80-90"},
        {"udp_ports": "65000-65536"},
        {"nat_1_1": ["example.org"]},
        {"probe_networks": ["10.0.0.1/8"]},
        {"ice_servers": ["https://example.org"]},
        {"ice_servers": ['stun:a"; rel="x']},
        {"ice_servers": ["turn:turn.example.org"]},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_stop_the_start(media: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Config(media=media)  # type: ignore[arg-type]
