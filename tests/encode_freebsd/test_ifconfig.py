from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from controller.encode import ifconfig
from controller.encode.ifconfig import Address

LINK = "em0: flags=8863<UP,BROADCAST,RUNNING> metric 0 mtu 1500\n"


@pytest.mark.parametrize("prefix", range(33))
def test_every_netmask_in_both_forms(prefix: int) -> None:
    mask = int(IPv4Network(f"0.0.0.0/{prefix}").netmask)
    for form in (f"192.0.2.1 netmask {mask:#010x} broadcast 192.0.2.255", f"192.0.2.1/{prefix} broadcast 192.0.2.255"):
        assert ifconfig.parse(f"{LINK}\tinet {form}\n").addresses == (Address("192.0.2.1", prefix),)


def test_loopback_and_point_to_point() -> None:
    text = (
        "lo0: flags=8049<UP,LOOPBACK,RUNNING,MULTICAST> metric 0 mtu 16384\n"
        "\tinet6 ::1 prefixlen 128\n"
        "\tinet 127.0.0.1 netmask 0xff000000\n"
        "\tinet 10.0.0.1 --> 10.0.0.2 netmask 0xffffffff\n"
        "\tgroups: lo\n"
    )
    parsed = ifconfig.parse(text)
    assert (parsed.name, parsed.ether) == ("lo0", None)
    assert [str(address) for address in parsed.addresses] == ["127.0.0.1/8", "10.0.0.1/32"]


def test_an_interface_without_addresses() -> None:
    assert ifconfig.parse(LINK).addresses == ()
