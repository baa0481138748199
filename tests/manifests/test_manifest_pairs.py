"""Row M2 by machine: every two places that can claim the same thing are made to, and both must be named.

Places are found by what stands there, in documents of each kind that say all they can. Which may agree is said in `shared`; a new
field is a pair that fails until somebody has decided about it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any, Final, NamedTuple

import pytest

from controller.manifests.check import check
from controller.manifests.load import Blob, load

KEY: Final = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINUIZLcwQMX1HCGgVWvNQ5GliLpKpWJlVSDPfRBZXtCE"
NET: Final = "198.51.100"
ENDS: Final = {"BuildVM": 20, "San": 30, "BootServer": 40, "Host": 60, "Jail": 70}


def spec(kind: str, one: int) -> dict[str, Any]:
    """All that can be claimed, and nothing of it as another number has it. 1 and 2 are of one sort, 3 and 4 of another."""
    ssh = {"hostKey": KEY, "address": f"{NET}.{ENDS.get(kind, 0) + one}"}
    password = {"user": "admin", "password": {"file": "bmc"}}
    qemu = {
        "disk": f"/vm/{one}",
        "tap": f"tap{one}",
        "vnc": one,
        "mac": f"52:54:00:00:00:0{one}",
        "bridge": "br0",
        "memory": "1GiB",
    }
    runs = {"kind": "qemu", "qemu": qemu} if one < 3 else {"kind": "libvirt", "libvirt": {"domain": f"vm{one}"}}
    ipmi = {"ipmi": {"address": f"{NET}.9{one}", **password}}
    redfish = {"redfish": {"url": f"https://{NET}.9{one}", "system": "1", "fingerprint": "ab" * 32, **password}}
    disk = {"size": "1GiB", "label": f"disk{one}", "chap": {"user": f"user{one}", "secret": {"file": "chap"}}}
    specs: dict[str, dict[str, Any]] = {
        "BuildVM": {"ssh": ssh, "share": "/mnt", "vm": {"hypervisor": {"ssh": {**ssh, "address": f"{NET}.11"}}, **runs}},
        "San": {
            "ssh": ssh,
            "nfs": {"backend": "ganesha", "address": f"{NET}.3{4 + one}", "root": "/export/x"},
            "iscsi": {"backend": "tgt", "portal": f"{NET}.4{4 + one}:3260", "volumes": "/vol/x",
                      "iqnPrefix": f"iqn.2026-11.org.x{one}"},
        },
        "BootServer": {"ssh": ssh, "dhcp": {"backend": "isc", "subnet": f"{NET}.0/24"}, "tftp": {"address": f"{NET}.5{one}"}},
        "Image": {
            "buildVM": "buildvm1", "san": "san1", "release": "13.2-RELEASE",
            "source": {"git": {"url": "https://git.freebsd.org/src.git", "commit": "5" * 40}},
        },
        "Host": {
            "mac": f"02:00:00:00:00:0{one}", "address": f"{ssh['address']}/24", "gateway": f"{NET}.254", "interface": "em0",
            "hostname": f"host{one}.example.org", "initiator": f"iqn.1994-09.org.freebsd:host{one}", "image": "image1",
            "bootServer": "bootserver1", "san": "san1", "ssh": {"hostKey": KEY}, "hostKeySecret": {"file": "key"},
            "jailDisk": disk, "jails": {"manager": "ezjail"}, "power": ipmi if one < 3 else redfish,
        },
        "Jail": {"host": "host1", "hostname": f"jail{one}.example.org", "addresses": [ssh["address"]]},
    }  # fmt: skip
    return specs[kind]


class Place(NamedTuple):
    """Where a document claims something. `what` is the same for places that can claim the same."""

    file: str
    path: tuple[str | int, ...]
    value: str
    what: str

    @property
    def told(self) -> str:
        return f"{self.file[:-1]}.{'.'.join(str(step) for step in self.path if isinstance(step, str))}"


def document(kind: str, one: int) -> dict[str, Any]:
    name = f"{kind.lower()}.{one}" if kind == "Jail" else f"{kind.lower()}{one}"
    return {"apiVersion": "jailops/v1", "kind": kind, "metadata": {"name": name}, "spec": spec(kind, one)}


DOCUMENTS: Final[Mapping[str, dict[str, Any]]] = {
    f"{kind}{one}": document(kind, one)
    for kind in ("BuildVM", "San", "BootServer", "Image", "Host", "Jail")
    for one in (1, 2, 3, 4)
}
FORMS: Final = {
    "address": rf"(?:https://)?{NET}\.\d+(?:/24)?(?::3260)?",
    "mac": r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}",
    "iqn": r"iqn\..*",
}
NAMES: Final = ("hostname", "label", "disk", "tap", "vnc", "domain")


def places() -> Iterator[Place]:
    for file, document in DOCUMENTS.items():
        for path, value in leaves(document):
            forms = [what for what, form in FORMS.items() if re.fullmatch(form, value)]
            if forms and path[-1] not in ("gateway", "subnet"):
                yield Place(file, path, value, forms[0])
            elif path[-1] in NAMES or path[-2:] == ("chap", "user"):
                yield Place(file, path, value, str(path[-1]))
            elif path[-1] == "name":
                yield Place(file, path, value, f"name of a {document['kind']}")


def leaves(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, (list, tuple)) else None
    if items is None:
        yield path, str(tree)
    else:
        for key, value in items:
            yield from leaves(value, (*path, key))


SERVERS: Final = frozenset(
    {"BuildVM.spec.vm.hypervisor.ssh.address", "San.spec.nfs.address", "San.spec.iscsi.portal", "BootServer.spec.tftp.address",
     "BuildVM.spec.ssh.address", "San.spec.ssh.address", "BootServer.spec.ssh.address"}
)  # fmt: skip
BMCS: Final = frozenset({"Host.spec.power.ipmi.address", "Host.spec.power.redfish.url"})


def shared(one: Place, two: Place) -> bool:
    """Whether two places may say the same."""
    both = {one.told, two.told}
    if both <= SERVERS:
        # A machine may have several roles, each of them once.
        return both not in ({f"{kind}.spec.ssh.address"} for kind in ("BuildVM", "San", "BootServer"))
    if both & BMCS and both <= SERVERS | BMCS:
        # A BMC may have two protocols, and a machine may switch others; two hosts with one switch are refused.
        return len(both) == 2
    # The prefix is not a name of its own: every target's name goes on with the host's.
    return "San.spec.iscsi.iqnPrefix" in both


def pairs() -> list[tuple[Place, Place]]:
    """One of each sort."""
    found: dict[tuple[str, str], tuple[Place, Place]] = {}
    for one, two in combinations(places(), 2):
        if one.what == two.what and one.file != two.file:
            found.setdefault((one.told, two.told), (one, two))
    return list(found.values())


def claimed(one: Place, two: Place, value: str) -> list[str]:
    """What is said when the second place says `value`, as far as both files are named."""
    files = {}
    for file, document in DOCUMENTS.items():
        changed = json.loads(json.dumps(document))
        if file == two.file:
            holder = changed
            for step in two.path[:-1]:
                holder = holder[step]
            holder[two.path[-1]] = value
        files[file] = json.dumps(changed).encode()
    loaded = load(Blob(f"{file}.yaml", file, data) for file, data in files.items())
    told = [str(problem) for problem in (*loaded.problems, *check(loaded.objects, drafts=loaded.drafts))]
    return [line for line in told if f"{one.file}.yaml:1:" in line and f"{two.file}.yaml:1:" in line]


def put(one: Place, two: Place) -> str:
    """What the first place says, in the form of the second."""
    if one.what != "address":
        return one.value
    host = re.search(rf"{re.escape(NET)}\.\d+", one.value)
    assert host
    return re.sub(rf"{re.escape(NET)}\.\d+", host[0], two.value)


def test_M2_the_documents_are_valid_together() -> None:
    loaded = load(Blob(f"{file}.yaml", file, json.dumps(one).encode()) for file, one in DOCUMENTS.items())
    assert [str(one) for one in (*loaded.problems, *check(loaded.objects))] == []


@pytest.mark.parametrize("pair", pairs(), ids=lambda pair: f"{pair[0].told}-{pair[1].told}")
def test_M2_both_places_of_a_claim_are_named(pair: tuple[Place, Place]) -> None:
    one, two = pair
    assert bool(claimed(one, two, put(one, two))) != shared(one, two)


TWINS: Final[Mapping[str, Callable[[str], str]]] = {
    "hostname": str.upper,
    "name of a Jail": lambda name: name.replace(".", "_"),
}


@pytest.mark.parametrize("what", TWINS)
def test_M2_what_is_the_same_to_the_machine_is_the_same(what: str) -> None:
    found = [(one, two, TWINS[what](one.value)) for one, two in pairs() if one.what == what]
    assert found
    assert [bool(claimed(*each)) for each in found] == [True] * len(found)


def test_M2_there_are_as_many_pairs_as_places_allow() -> None:
    """So that a change of the documents or of how places are found does not quietly test less."""
    assert len(pairs()) >= 94
