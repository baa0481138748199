"""FreeBSD's kernel iSCSI target: the whole of ctl.conf(5), and the XML that ctladm(8) prints about what runs.

Targets go in and the file comes out, and back; XML answers come out as values. The exit status of ``service ctld
reload`` says nothing (it is 0 for a broken file, seen on 13.2): only these answers tell what runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from xml.etree import ElementTree

from controller.encode import text as check
from controller.encode.sh import holes
from controller.encode.text import GrammarError, Reader, header_lines, lex

_PORTAL_GROUP = "jailops"
_HOLE = "\0"


@dataclass(frozen=True, slots=True)
class Target:
    """One target with one disk (LUN 0) for one machine. ctld wants name *and* address to match, and CHAP if given.

    `size` is in bytes. A smaller one than before shrinks the disk without a word (seen on 13.2): refuse it first.
    """

    iqn: str
    path: str
    size: int
    serial: str
    device_id: str
    initiator: str
    address: str
    chap_user: str | None = None
    chap_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Lun:
    """One LUN that CTL runs: `size` in bytes; `target` and `number` are empty for one that ctld did not make."""

    id: int
    backend: str
    size: int
    block_size: int
    serial: str
    device_id: str
    path: str
    target: str
    number: int | None


@dataclass(frozen=True, slots=True)
class Port:
    """One port of CTL. An iSCSI target is offered only if a port of frontend "iscsi" carries its name and is online."""

    id: int
    frontend: str
    online: bool
    name: str
    target: str


@dataclass(frozen=True, slots=True)
class Session:
    """One logged-in initiator. `address` is where it comes from."""

    id: int
    initiator: str
    address: str
    target: str


def check_secret(secret: str) -> str:
    """A CHAP secret that may stand between quotes here. The error never shows it."""
    if not re.fullmatch(r"[\x20-\x21\x23-\x5b\x5d-\x7e]{12,255}", secret):
        raise ValueError('a CHAP secret for ctld must be 12 to 255 printable characters without " and \\')
    return secret


def render(targets: Iterable[Target], portal: str, header: str) -> str:
    """The whole ctl.conf, mode 0600 wherever it goes. `portal` is ``ADDRESS:PORT``.

    Raises ValueError for a value that cannot be written, and for a target, path, serial or device-id given twice.
    """
    listed = sorted(map(_check, targets), key=lambda target: target.iqn)
    for what, values in (
        ("target", [target.iqn for target in listed]),
        ("path", [target.path for target in listed]),
        ("serial", [target.serial for target in listed]),
        ("device-id", [target.device_id for target in listed]),
    ):
        doubled = {value for value in values if values.count(value) > 1}
        if doubled:
            raise ValueError(f"{what} {min(doubled)!r} is given to two targets")
    group = [
        f"portal-group {_PORTAL_GROUP} {{",
        "    discovery-auth-group no-access",
        f"    listen {_portal(portal)}",
        "}",
    ]
    return "\n".join([*header_lines(header), *group, *map(_blocks, listed), ""])


def rules_of(text: str, iqn: str) -> str:
    """One target's own lines of a file that `render` wrote, without its size: what is more than a larger disk."""
    blocks = re.findall(rf'(?ms)^(?:auth-group|target) "{re.escape(iqn)}" \{{$.*?^\}}\n', text)
    return "".join(line for line in "".join(blocks).splitlines(keepends=True) if not line.startswith("        size "))


def parse(text: str) -> tuple[str, tuple[Target, ...]]:
    """The portal and targets of our own file. Raises GrammarError on anything that `render` does not write."""
    reader = lex(text, "{}", secret=True)
    reader.expect("portal-group", _PORTAL_GROUP, "{", "discovery-auth-group", "no-access", "listen")
    portal = reader.word()
    reader.expect("}")
    targets: list[Target] = []
    while not reader.done:
        targets.append(_target(reader))
    return portal, tuple(targets)


def parse_devlist_xml(text: str) -> tuple[Lun, ...]:
    """``ctladm devlist -x``. Raises GrammarError for anything but a whole answer."""
    return tuple(_lun(element) for element in _elements(text, "ctllunlist", "lun"))


def parse_portlist_xml(text: str) -> tuple[Port, ...]:
    """``ctladm portlist -x``."""
    return tuple(_port(element) for element in _elements(text, "ctlportlist", "targ_port"))


def parse_islist_xml(text: str) -> tuple[Session, ...]:
    """``ctladm islist -x``. It prints nothing and exits 0 when the kernel has no iSCSI frontend (seen on 13.2): that is
    a GrammarError and not "nobody is logged in"."""
    return tuple(_session(element) for element in _elements(text, "ctlislist", "connection"))


def _check(target: Target) -> Target:
    check.iqn(target.iqn, "target")
    check.iqn(target.initiator, "initiator")
    check.path(target.path, "LUN path")
    check.ipv4(target.address, "initiator's address")
    for what, value, longest in (("serial", target.serial, 16), ("device-id", target.device_id, 64)):
        if len(check.word(value, what)) > longest:
            raise ValueError(f"{what} is longer than {longest} characters: {value!r}")
    if target.size <= 0 or target.size % 512:
        raise ValueError(f"size of {target.iqn} is not a positive multiple of 512 bytes: {target.size}")
    if (target.chap_user is None) != (target.chap_secret is None):
        raise ValueError(f"target {target.iqn} has a CHAP user without a secret, or a secret without a user")
    if target.chap_user is not None and target.chap_secret is not None:
        check.word(target.chap_user, "CHAP user")
        if not any(target.chap_secret == f"{_HOLE}{name}{_HOLE}" for name in holes(target.chap_secret)):
            check_secret(target.chap_secret)
    return target


def _portal(portal: str) -> str:
    address, colon, port = portal.partition(":")
    if not colon or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ValueError(f"portal is not IPv4:port: {portal!r}")
    return f"{check.ipv4(address, 'portal')}:{int(port)}"


def _blocks(target: Target) -> str:
    chap = "auth-type none" if target.chap_user is None else f'chap "{target.chap_user}" "{target.chap_secret}"'
    return "\n".join(
        [
            f'auth-group "{target.iqn}" {{',
            f"    {chap}",
            f'    initiator-name "{target.initiator}"',
            f"    initiator-portal {target.address}/32",
            "}",
            f'target "{target.iqn}" {{',
            f'    auth-group "{target.iqn}"',
            f"    portal-group {_PORTAL_GROUP}",
            "    lun 0 {",
            f'        path "{target.path}"',
            "        blocksize 512",
            f"        size {target.size}",
            f'        serial "{target.serial}"',
            f'        device-id "{target.device_id}"',
            "    }",
            "}",
        ]
    )


def _target(reader: Reader) -> Target:
    line = reader.expect("auth-group").line
    iqn = reader.string()
    reader.expect("{")
    user, secret = _authentication(reader)
    reader.expect("initiator-name")
    initiator = reader.string()
    reader.expect("initiator-portal")
    address = reader.word()
    reader.expect("}", "target")
    again = reader.string()
    reader.expect("{", "auth-group")
    group = reader.string()
    reader.expect("portal-group", _PORTAL_GROUP, "lun", "0", "{", "path")
    path = reader.string()
    reader.expect("blocksize", "512", "size")
    size = reader.word()
    reader.expect("serial")
    serial = reader.string()
    reader.expect("device-id")
    device_id = reader.string()
    reader.expect("}", "}")
    if {again, group} != {iqn} or not address.endswith("/32") or not re.fullmatch(r"[0-9]+", size):
        raise GrammarError(line, f"target {iqn!r} is not as we write it")
    found = Target(iqn, path, int(size), serial, device_id, initiator, address.removesuffix("/32"), user, secret)
    try:
        return _check(found)
    except ValueError as error:
        raise GrammarError(line, str(error)) from None


def _authentication(reader: Reader) -> tuple[str | None, str | None]:
    if reader.accept("auth-type"):
        reader.expect("none")
        return None, None
    reader.expect("chap")
    return reader.string(), reader.string()


def _elements(text: str, root: str, child: str) -> list[ElementTree.Element]:
    """The answer's list. CTL writes no document type, so one is refused before any parser could expand its entities."""
    if "<!" in text:
        raise GrammarError(0, "ctladm's answer has a declaration, which CTL never writes")
    try:
        tree = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise GrammarError(error.position[0] if text.strip() else 0, "ctladm's answer is not whole XML") from None
    if tree.tag != root or any(element.tag != child for element in tree):
        raise GrammarError(0, f"ctladm's answer is not a {root} of {child}")
    return list(tree)


def _field(element: ElementTree.Element, *names: str) -> str:
    for name in names:
        found = element.find(name)
        if found is not None:
            return (found.text or "").strip()
    raise GrammarError(0, f"{element.tag} {element.get('id')} has no {names[0]}")


def _optional(element: ElementTree.Element, name: str) -> str:
    return (element.findtext(name) or "").strip()


def _number(value: str | None) -> int:
    if value is None or not re.fullmatch(r"[0-9]+", value):
        raise GrammarError(0, f"not a number in ctladm's answer: {value!r}")
    return int(value)


def _lun(element: ElementTree.Element) -> Lun:
    block_size = _number(_field(element, "blocksize"))
    # ctld names its LUNs "target,lun,number".
    target, _, number = _optional(element, "ctld_name").rpartition(",lun,")
    return Lun(
        id=_number(element.get("id")),
        backend=_field(element, "backend_type"),
        size=_number(_field(element, "size")) * block_size,
        block_size=block_size,
        serial=_field(element, "serial_number"),
        device_id=_field(element, "device_id"),
        path=_optional(element, "file"),
        target=target,
        number=_number(number) if target else None,
    )


def _port(element: ElementTree.Element) -> Port:
    online = _field(element, "online")
    if online not in ("YES", "NO"):
        raise GrammarError(0, f"port {element.get('id')} is neither online nor offline: {online!r}")
    return Port(
        id=_number(element.get("id")),
        frontend=_field(element, "frontend_type"),
        online=online == "YES",
        name=_field(element, "port_name"),
        target=_optional(element, "target"),
    )


def _session(element: ElementTree.Element) -> Session:
    return Session(
        id=_number(element.get("id")),
        initiator=_field(element, "initiator"),
        address=_field(element, "initiator_addr"),
        target=_field(element, "target"),
    )
