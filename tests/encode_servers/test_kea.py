"""Kea: our reservations inside somebody else's configuration, pure and against a real kea-dhcp4 2.2.0."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from controller.encode import hosts, kea
from controller.encode.hosts import HostEntry
from controller.encode.text import GrammarError

from .real_rig import Said, run
from .values import NODE1, NODE2, SUBNET, case, entry_lists

BEFORE: dict[str, Any] = json.loads(case("kea/get-before.json"))["arguments"]
AFTER: dict[str, Any] = json.loads(case("kea/get-after.json"))["arguments"]


def test_real_answer_read_back() -> None:
    """Kea 2.2.0 added its defaults to what we had sent."""
    assert kea.entries(AFTER) == (NODE1, NODE2)
    assert kea.entries(BEFORE) == ()
    assert kea.unmanaged(AFTER) == kea.unmanaged(BEFORE) == ("reservation 198.51.100.99 02:00:00:00:00:99 (hand)",)
    assert kea.pools(AFTER) == (("198.51.100.200", "198.51.100.220"), ("198.51.100.232", "198.51.100.235"))


def test_everything_else_is_kept() -> None:
    merged = kea.merge(AFTER, [], SUBNET)
    assert merged == BEFORE


@settings(max_examples=50)
@given(entry_lists)
def test_round_trip(listed: list[HostEntry]) -> None:
    strangers = [entry for entry in listed if entry.address != "198.51.100.99" and entry.mac != "02:00:00:00:00:99"]
    assert kea.entries(kea.merge(AFTER, strangers, SUBNET)) == tuple(sorted(strangers, key=hosts.order))


def test_input_is_never_changed() -> None:
    copy = json.loads(json.dumps(AFTER))
    kea.merge(AFTER, [NODE1], SUBNET)
    assert copy == AFTER


def without(*keys: str) -> dict[str, Any]:
    return {"Dhcp4": {key: value for key, value in BEFORE["Dhcp4"].items() if key not in keys}}


REFUSED: list[tuple[str, dict[str, Any], HostEntry, str, str]] = [
    (
        "no control socket",
        without("control-socket"),
        NODE1,
        SUBNET,
        "the configuration has no control socket: to set it would lock the controller out",
    ),
    ("no such subnet", BEFORE, NODE1, "203.0.113.0/24", "the configuration has 0 subnets 203.0.113.0/24, not one"),
    (
        "somebody else's address",
        BEFORE,
        replace(NODE1, address="198.51.100.99"),
        SUBNET,
        "host 'node1': reservation 198.51.100.99 02:00:00:00:00:99 (hand) has the same ip-address",
    ),
    (
        "somebody else's card",
        BEFORE,
        replace(NODE1, mac="02:00:00:00:00:99"),
        SUBNET,
        "host 'node1': reservation 198.51.100.99 02:00:00:00:00:99 (hand) has the same hw-address",
    ),
    (
        "bad entry",
        BEFORE,
        replace(NODE1, domain="a b"),
        SUBNET,
        "host 'node1': domain is not a host or domain name: 'a b'",
    ),
]


@pytest.mark.parametrize(
    ("config", "entry", "subnet", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_merge_refuses(config: dict[str, Any], entry: HostEntry, subnet: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole message is compared
        kea.merge(config, [entry], subnet)
    assert str(caught.value) == message


def test_subnet_of_a_shared_network_is_found() -> None:
    subnets = BEFORE["Dhcp4"]["subnet4"]
    config = {"Dhcp4": {**without("subnet4")["Dhcp4"], "shared-networks": [{"name": "n", "subnet4": subnets}]}}
    assert kea.entries(kea.merge(config, [NODE1], SUBNET)) == (NODE1,)


def test_answers_of_both_transports() -> None:
    assert (
        kea.reply('{ "result": 0, "text": "ok" }') == kea.reply('[{"result": 0, "text": "ok"}]') == kea.Reply(0, "ok")
    )


def test_a_reply_never_prints_the_configuration() -> None:
    assert "hunter2" not in repr(kea.reply('{"result": 0, "arguments": {"password": "hunter2"}}'))


def test_bad_pool_is_an_error() -> None:
    config = {"Dhcp4": {"subnet4": [{"subnet": SUBNET, "pools": [{"pool": "everything"}]}]}}
    with pytest.raises(GrammarError, match="a pool is neither a range nor a network: 'everything'"):
        kea.pools(config)


# ── the real kea-dhcp4 ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Said]:
    return run("kea.sh", {"kea.conf": case("kea/kea-dhcp4.conf")}, tmp_path_factory.mktemp("kea"))


@pytest.mark.lab
def test_real_kea_takes_and_gives_back_our_reservations(said: dict[str, Said]) -> None:
    assert (said["child"].exit, said["child"].text) == (0, "")
    assert kea.reply(said["test"].text).result == 0
    assert kea.reply(said["set"].text) == kea.Reply(0, "Configuration successful.")
    assert kea.entries(kea.reply(said["get-after"].text).arguments) == (NODE1, NODE2)
    assert kea.entries(kea.reply(said["get-one"].text).arguments) == (NODE2,)
    assert kea.unmanaged(kea.reply(said["get-one"].text).arguments) == kea.unmanaged(BEFORE)


@pytest.mark.lab
def test_real_kea_keeps_serving_after_a_refusal(said: dict[str, Said]) -> None:
    for name in ("test-same-address", "set-same-address", "set-other-subnet"):
        assert kea.reply(said[name].text).result == 1
    assert kea.entries(kea.reply(said["get-after-refusal"].text).arguments) == (NODE1, NODE2)
    assert kea.reply(said["status"].text).result == 0
    assert kea.reply(said["unknown"].text).result == 2


@pytest.mark.lab
def test_real_kea_writes_what_it_can_start_from(said: dict[str, Said]) -> None:
    assert kea.reply(said["write"].text).result == 0
    assert said["syntax-written"].exit == 0
    assert kea.entries(json.loads(said["written"].text)) == (NODE1, NODE2)


@pytest.mark.lab
def test_the_cases_are_what_this_kea_says(said: dict[str, Said]) -> None:
    assert json.loads(said["get-before"].text)["arguments"] == BEFORE
    assert json.loads(said["get-after"].text)["arguments"] == AFTER
