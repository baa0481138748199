"""How far a node came, as its driver asks: probes of boot server and SAN, and what their answers, or none, amount to."""

from __future__ import annotations

from controller.drivers.boottime import Timeline, read_timeline, timeline_probes
from controller.model import Answer, Unseen

from .scene import manifests

HOST = "jailbox2"
SINCE, NOW = 1795703200.0, 1795703300.0
HEAD = "now 1795703300 +0000\n= journal\n< 1795703100.000000 x y: z\n"
AWAY = Unseen("cannot connect to boot-server: timed out")


def answer(body: str, status: int = 0) -> Answer:
    return Answer(status, f"{HEAD}{body}end\n".encode(), b"")


def read(boot: Answer | Unseen, san: Answer | Unseen) -> Timeline | Unseen:
    return read_timeline(manifests(()), HOST, (boot, san), NOW - SINCE)


def test_each_server_is_asked_once_about_this_host_alone() -> None:
    desired = manifests(())
    boot, san = timeline_probes(desired, HOST)
    assert (boot.host, san.host) == ("boot-server", "san")
    for probe in (boot, san):
        assert desired.hosts[HOST].spec.mac in probe.script
        assert desired.host_address(HOST) in probe.script
    assert "ganesha" not in boot.script
    assert "clientmgr.ShowClients" in san.script


def test_the_way_from_lease_to_share() -> None:
    mac, address = manifests(()).hosts[HOST].spec.mac, manifests(()).host_address(HOST)
    boot = answer(f"? dhcp\n? tftp\n> 1795703210.5 b dhcpd[1]: DHCPACK on {address} to {mac} via eth0\n")
    share = f"/export/jailops/hosts/{HOST}/etc"
    san = answer(
        f"> 1795703230.5 s rpc.mountd[1]: authenticated mount request from {address}:9 for {share} ({share})\n"
    )
    found = read(boot, san)
    assert isinstance(found, Timeline)
    assert [step.phase for step in found.steps] == ["leased", "share"]
    alone = read(AWAY, san)
    assert isinstance(alone, Timeline)
    assert [step.phase for step in alone.steps] == ["share"]


def test_no_answer_is_not_no_boot() -> None:
    nothing = answer("? nfs\n")
    for boot in (AWAY, answer("? dhcp\n", 1), Answer(0, b"half an ans", b""), nothing):
        found = read(boot, nothing)
        assert isinstance(found, Unseen)
        assert found.reason.startswith(f"cannot see how far {HOST} came in its boot: ")
    assert "timed out" in str(read(AWAY, AWAY))
    proved = read(answer("? dhcp\n"), AWAY)
    assert isinstance(proved, Timeline)
    assert proved.last_phase is None
