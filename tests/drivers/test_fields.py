"""What a push changes in the manifests of hosts and jails, and what `jailops plan` says that it takes."""

from __future__ import annotations

import pytest

from controller.drivers import changed_fields
from controller.drivers.effects import FIELDS

from .scene import manifests

HOST, JAILS = "hosts/jailbox2.yaml", "jails/jailbox2.yaml"
WEB = "Jail/jailbox2/web"

ROWS = [
    ([], []),
    ([f"{HOST}: gateway: 198.51.100.1 => gateway: 198.51.100.254"], [
        ("Host/jailbox2", "gateway", "198.51.100.1", "198.51.100.254", "reboot"),
    ]),
    ([rf"{HOST}:     syslogd_flags: -ss => \n    kld_list: filemon"], [
        ("Host/jailbox2", "rcConf.kld_list", "", "filemon", "reboot"),
        ("Host/jailbox2", "rcConf.syslogd_flags", "-ss", "", "live, restart of syslogd"),
    ]),
    ([f"{HOST}: policy: manual => policy: never"], [
        ("Host/jailbox2", "reboot", '{"policy": "manual", "deadline": 600}', '{"policy": "never", "deadline": 600}', "nothing"),
    ]),
    ([f"{JAILS}: hostname: www.example.org => hostname: other.example.org"], [
        (WEB, "hostname", "www.example.org", "other.example.org", "restart of the jail"),
    ]),
    ([f"{JAILS}: addresses: [198.51.100.71] => addresses: [198.51.100.77]"], [
        (WEB, "addresses", '["198.51.100.71"]', '["198.51.100.77"]', "restart of the jail"),
    ]),
    (["jails/disklessfreebsdbox.yaml: host: disklessfreebsdbox => host: jailbox2"], [
        (
            "Jail/jailbox2/example",
            "host",
            "disklessfreebsdbox",
            "jailbox2",
            "stopped on the old host and kept there, created on the new one",
        ),
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("edits", "found"), ROWS)
def test_what_a_push_changes(edits: list[str], found: list[tuple[str, ...]]) -> None:
    said = changed_fields(manifests([]), manifests(edits))
    assert [
        (one.name, each.input, each.before, each.after, each.effect.says) for one in said for each in one.fields
    ] == found


def test_every_field_that_a_manifest_can_say_is_compared() -> None:
    """A spec is compared by the names of the table, so none may be missing there."""
    before = manifests([])
    for kind, one in (("Host", before.hosts["jailbox2"]), ("Jail", before.jails["jailbox2", "web"])):
        fields = {field.alias or name for name, field in type(one.spec).model_fields.items()}
        assert {name.partition(".")[0] for name in FIELDS[kind]} == fields


def test_an_object_that_came_or_went_is_no_change_of_fields() -> None:
    assert changed_fields(manifests([]), manifests([f"{JAILS}: name: web => name: other"])) == ()
