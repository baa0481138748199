"""ISC dhcpd: the include file that holds our host declarations (dhcpd.conf(5)), and what ``dhcpd -t`` says.

Host entries go in and the whole file comes out, sorted, or the other way round. No value ever needs an escape: what
would need one is refused, because this grammar has ``execute()`` and an injection would be a command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise

from controller.encode import hosts
from controller.encode.hosts import Foreign, HostEntry, Pool
from controller.encode.text import GrammarError, Reader, header_lines, ipv4, lex

_ERROR = re.compile(r"^(?P<file>\S.*?) line (?P<line>\d+): (?P<text>.*)$")
_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|#[^\n]*')


def render(entries: Iterable[HostEntry], header: str) -> str:
    """The include file. Raises ValueError for an entry that cannot be written, or for the same name twice."""
    listed = sorted(map(hosts.check, entries), key=hosts.order)
    for one, other in pairwise(listed):
        if one.name == other.name:
            raise ValueError(f"host {one.name!r} is declared twice")
    return "\n".join([*header_lines(header), *(_block(entry) for entry in listed), ""])


def parse(text: str) -> tuple[HostEntry, ...]:
    """Read such a file back, comments and white space aside. Raises GrammarError on anything that we do not write."""
    reader = lex(text, "{};,")
    entries: list[HostEntry] = []
    while not reader.done:
        entries.append(_host(reader))
    return tuple(entries)


def parse_errors(stderr: str) -> tuple[tuple[str, int, str], ...]:
    """The ``(file, line, text)`` of every complaint of ``dhcpd -t`` (run it without ``-q``, which prints none).

    Returns nothing when dhcpd failed for another reason, such as a file it cannot open: show its last lines then.
    """
    found = (_ERROR.match(line) for line in stderr.splitlines())
    return tuple((match["file"], int(match["line"]), match["text"]) for match in found if match)


def foreign(main: str) -> tuple[Foreign, ...]:
    """The hosts that a main dhcpd.conf itself declares; not those of the files it includes."""
    blocks = re.findall(r"\bhost\s+([^\s{]+)\s*\{([^{}]*)\}", _without_comments(main))
    return tuple(Foreign(name.strip('"'), _mac(body), _fixed(body)) for name, body in blocks)


def _mac(body: str) -> str:
    """Octets as people write them, with or without leading zeros."""
    found = re.search(r"\bhardware\s+ethernet\s+([0-9A-Fa-f:]+)\s*;", body)
    return ":".join(octet.lower().zfill(2) for octet in found[1].split(":")) if found else ""


def _fixed(body: str) -> tuple[str, ...]:
    found = re.search(r"\bfixed-address\s+([^;]+);", body)
    return tuple(one.strip() for one in found[1].split(",")) if found else ()


def pools(main: str) -> tuple[Pool, ...]:
    """The dynamic ranges that a main dhcpd.conf itself declares; not those of the files it includes."""
    ranges = re.findall(r"\brange\s+(?:dynamic-bootp\s+)?([\d.]+)(?:\s+([\d.]+))?\s*;", _without_comments(main))
    return tuple((first, last or first) for first, last in ranges)


def _without_comments(text: str) -> str:
    return _COMMENT.sub(lambda found: found.group(1) or " ", text)


def _block(entry: HostEntry) -> str:
    optional = [
        f'option domain-name "{entry.domain}";' if entry.domain is not None else "",
        f"option domain-name-servers {', '.join(entry.nameservers)};" if entry.nameservers else "",
        f"option subnet-mask {entry.mask};",
        f"option routers {', '.join(entry.routers)};" if entry.routers else "",
    ]
    statements = [
        f"hardware ethernet {entry.mac};",
        f"fixed-address {entry.address};",
        f"next-server {entry.next_server};",
        f'filename "{entry.filename}";',
        f'option root-path "{entry.root_path}";',
        f'option host-name "{entry.host_name}";',
        *filter(None, optional),
    ]
    return "\n".join([f"host {entry.name} {{", *(f"  {line}" for line in statements), "}"])


Value = str | tuple[str, ...]


def _host(reader: Reader) -> HostEntry:
    line = reader.expect("host").line
    name = reader.word()
    reader.expect("{")
    fields: dict[str, Value] = {}
    while not reader.accept("}"):
        _statement(reader, fields)
    missing = [key for key in _REQUIRED if key not in fields]
    if missing:
        raise GrammarError(line, f"host {name!r} says nothing about {', '.join(missing)}")
    entry = HostEntry(name=name, **{"domain": None, "nameservers": (), "routers": (), **fields})  # type: ignore[arg-type]
    for message in hosts.problems(entry):
        raise GrammarError(line, message)
    return entry


def _statement(reader: Reader, fields: dict[str, Value]) -> None:
    line = reader.ahead.line
    key = reader.word()
    if key in ("hardware", "option"):
        key = f"{key} {reader.word()}"
    if key not in _STATEMENTS:
        raise GrammarError(line, f"unknown statement {key!r}")
    name, read = _STATEMENTS[key]
    if name in fields:
        raise GrammarError(line, f"{key!r} is said twice")
    fields[name] = read(reader)
    reader.expect(";")


def _addresses(reader: Reader) -> tuple[str, ...]:
    found = [_address(reader)]
    while reader.accept(","):
        found.append(_address(reader))
    return tuple(found)


def _address(reader: Reader) -> str:
    line = reader.ahead.line
    try:
        return ipv4(reader.word(), "value")
    except GrammarError:
        raise
    except ValueError as error:
        raise GrammarError(line, str(error)) from None


_REQUIRED = ("mac", "address", "next_server", "filename", "root_path", "host_name", "mask")

_STATEMENTS: Mapping[str, tuple[str, Callable[[Reader], Value]]] = {
    "hardware ethernet": ("mac", Reader.word),
    "fixed-address": ("address", _address),
    "next-server": ("next_server", _address),
    "filename": ("filename", Reader.string),
    "option root-path": ("root_path", Reader.string),
    "option host-name": ("host_name", Reader.string),
    "option domain-name": ("domain", Reader.string),
    "option domain-name-servers": ("nameservers", _addresses),
    "option subnet-mask": ("mask", _address),
    "option routers": ("routers", _addresses),
}
