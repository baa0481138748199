"""What valid manifests become: typed values, defaults, positions."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

import pytest

from controller.encode.names import safename
from controller.manifests.load import Blob, Loaded, Manifest, load, parse_blob, pick, wanted
from controller.manifests.models import BootServerSpec, HostSpec, ImageSpec, JailSpec, SanSpec, SiteSpec
from controller.manifests.references import circles
from controller.model import Origin
from tests.manifests.support import EXAMPLES, load_folder

OBJECTS = load_folder(EXAMPLES).objects


def host(name: str) -> Manifest[HostSpec]:
    return next(one for one in pick(OBJECTS, HostSpec) if one.name == name)


def test_scalars_are_typed() -> None:
    spec = host("disklessfreebsdbox").spec
    assert (spec.mac, spec.address) == ("12:34:56:78:90:ab", IPv4Interface("198.51.100.50/24"))
    assert spec.jail_disk.size == 3 * 2**30
    assert spec.jail_disk.chap is not None
    assert spec.jail_disk.chap.secret.file == "disklessfreebsdbox/chap"


def test_defaults_that_follow_from_other_fields() -> None:
    spec = host("jailbox2").spec
    assert spec.hostname == "jailbox2"
    assert spec.initiator == "iqn.1994-09.org.freebsd:jailbox2"
    assert spec.jails.directory == "/iscsi/jails"
    boot, san = pick(OBJECTS, BootServerSpec)[0].spec, pick(OBJECTS, SanSpec)[0].spec
    assert (str(boot.tftp.address), boot.dhcp.config_file) == ("198.51.100.2", "/etc/dhcp/dhcpd.conf")
    assert san.nfs.config_file == "/etc/ganesha/jailops.conf"
    assert str(san.iscsi.portal) == "198.51.100.10:3260"


def test_defaults_of_the_image() -> None:
    spec = pick(OBJECTS, ImageSpec)[0].spec
    assert (spec.keep, spec.memory.etc, spec.users[0].home) == (3, 32 * 2**20, "/home/admin")
    assert spec.rc_conf == {"sshd_enable": "YES", "sendmail_enable": "NONE"}
    assert spec.kernel.config is not None
    assert spec.kernel.config.startswith("include     GENERIC\nident       MYKERNEL\n")


def test_a_jail_may_be_named_like_no_dns_name_and_numbers_become_text() -> None:
    text = """
apiVersion: jailops/v1
kind: Jail
metadata: {name: a_b}
spec:
  host: node
  addresses: [198.51.100.61]
  parameters: {allow.raw_sockets: true, children.max: 3}
"""
    jail = pick(load([Blob("j.yaml", "1", text.encode())]).objects, JailSpec)[0]
    assert (jail.spec.hostname, jail.spec.addresses) == ("a_b", (IPv4Address("198.51.100.61"),))
    assert jail.spec.parameters == {"allow.raw_sockets": "1", "children.max": "3"}


def test_specs_become_json() -> None:
    dumped = host("disklessfreebsdbox").spec.model_dump(mode="json")
    assert (dumped["address"], dumped["jailDisk"]["size"]) == ("198.51.100.50/24", 3 * 2**30)


def test_specs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        pick(OBJECTS, SiteSpec)[0].spec.interval = 1


def test_every_field_knows_where_it_stands() -> None:
    jail = next(one for one in pick(OBJECTS, JailSpec) if one.name == "web")
    lines = (EXAMPLES / "jails" / "jailbox2.yaml").read_text().splitlines()
    origin = jail.at("spec", "mounts", 0, "source")
    assert origin.path == "jails/jailbox2.yaml"
    assert lines[origin.line - 1][origin.column - 1 :].startswith("/iscsi/data/www")
    assert lines[jail.origin.line - 1] == "apiVersion: jailops/v1"
    assert jail.at("spec", "flavour") == jail.at("spec")
    assert (jail.says("spec", "after"), jail.says("spec", "flavour")) == (True, False)


def test_a_blob_is_parsed_alone_so_that_it_can_be_remembered() -> None:
    blob = Blob("a.yaml", "1", b"kind: [")
    assert parse_blob(blob) == parse_blob(blob)
    asked: list[str] = []

    def remembered(one: Blob) -> Loaded:
        asked.append(one.id)
        return Loaded((), ())

    assert load([blob], remembered).problems == ()
    assert asked == ["1"]


def test_too_much_altogether_is_one_problem() -> None:
    blobs = [Blob(f"{index}.yaml", "x", b"#" * 250_000) for index in range(80)]
    problems = load(blobs).problems
    assert [problem.origin for problem in problems] == [Origin("67.yaml")]


@pytest.mark.parametrize(
    ("path", "read"),
    [
        ("a.yaml", True),
        ("hosts/b.yml", True),
        ("a.yaml.orig", False),
        ("README.md", False),
        (".github/ci.yaml", False),
        ("x/.hidden.yaml", False),
    ],
)
def test_which_files_are_manifests(path: str, read: bool) -> None:
    assert wanted(path) is read


@pytest.mark.parametrize(
    ("name", "safe"), [("build.example.org", "build_example_org"), ("a-b", "a_b"), ("web", "web"), ("ä", "_")]
)
def test_safename(name: str, safe: str) -> None:
    assert safename(name) == safe


def test_a_very_long_circle_is_found_without_recursion() -> None:
    names = [str(index) for index in range(20_000)]
    after = {name: [names[(index + 1) % len(names)]] for index, name in enumerate(names)}
    assert [len(circle) for circle in circles(after)] == [20_001]
