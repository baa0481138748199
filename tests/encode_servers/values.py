"""Values that the server encoders share in these tests: ordinary ones, and strategies for any that are legal."""

from __future__ import annotations

import string
from dataclasses import replace
from pathlib import Path

from hypothesis import strategies as st

from controller.encode.exports import Access, Client, Export
from controller.encode.hosts import HostEntry

CASES = Path(__file__).parent.parent / "cases"
SUBNET = "198.51.100.0/24"

NODE1 = HostEntry(
    name="node1",
    mac="12:34:56:78:90:ab",
    address="198.51.100.50",
    next_server="198.51.100.2",
    filename="base/0123456789ab/boot/pxeboot",
    root_path="198.51.100.10:/export/jailops/images/base/0123456789ab",
    host_name="node1",
    domain="example.org",
    nameservers=("198.51.100.1", "198.51.100.2"),
    mask="255.255.255.0",
    routers=("198.51.100.1",),
)
NODE2 = replace(
    NODE1,
    name="node2",
    mac="12:34:56:78:90:ac",
    address="198.51.100.51",
    host_name="node2",
    domain=None,
    nameservers=(),
    routers=(),
)

INJECTIONS = (
    '"; on commit { execute("/bin/id"); } #',
    '}\non commit { execute("/bin/id"); }\nhost x {',
    'a"b',
    "a\\",
    "a\\042b",
    "a;b",
    "a b",
    "$(id)",
    "`id`",
    "-rf",
    "../../etc",
    "a\nb",
    "a\rb",
    "a\0b",
    "fe80::1%$(id)",
    "a#b",
    "a,b",
    "a}b",
    "é",
    "",
)
"""What must be refused wherever a value is wanted."""

octets = st.integers(0, 255)
addresses = st.tuples(octets, octets, octets, octets).map(lambda four: ".".join(map(str, four)))
macs = st.tuples(st.sampled_from(["02", "12", "fe"]), *[octets.map("{:02x}".format)] * 5).map(":".join)
names = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,5})?", fullmatch=True)
components = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=8)
paths = st.lists(components, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))
anything = st.one_of(st.sampled_from(INJECTIONS), st.text(max_size=30))

entries = st.builds(
    HostEntry,
    name=names,
    mac=macs,
    address=addresses,
    next_server=addresses,
    filename=paths.map(lambda path: path[1:]),
    root_path=st.tuples(addresses, paths).map(":".join),
    host_name=names,
    domain=st.none() | names,
    nameservers=st.lists(addresses, max_size=3).map(tuple),
    mask=st.integers(1, 32).map(
        lambda bits: ".".join(str(0xFFFFFFFF << 32 - bits >> at & 255) for at in (24, 16, 8, 0))
    ),
    routers=st.lists(addresses, max_size=2).map(tuple),
)
entry_lists = st.lists(entries, max_size=4, unique_by=lambda entry: entry.name)

accesses: st.SearchStrategy[Access] = st.sampled_from(["ro", "rw"])
clients = st.lists(st.builds(Client, addresses, accesses), min_size=1, max_size=4, unique_by=lambda each: each.address)
exports = st.lists(
    st.builds(Export, paths, clients.map(lambda found: tuple(sorted(found)))),
    max_size=4,
    unique_by=lambda export: export.path,
)


def case(name: str) -> str:
    return (CASES / name).read_text()
