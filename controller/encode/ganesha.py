"""nfs-ganesha: EXPORT blocks (ganesha-export-config(8)) and what its D-Bus export manager prints.

Exports go in and the text of one file of EXPORT blocks comes out, with an Export_Id each; blocks and D-Bus answers are
read back. The ids matter to running nodes: NFS handles hold them, so an id that changes is a stale root file system.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from controller.encode.exports import Access, Client, Export, verified
from controller.encode.text import GrammarError, Reader, header_lines, lex

_LAST_ID = 65535
_READ, _WRITE, _SQUASH = 0xA0, 0x140, 0x7
"""Bits of a client's options in DisplayExport: data and metadata each; any squash. Measured with 4.3."""

_SETTINGS = (
    ("Protocols", ("3",)),
    ("Transports", ("UDP", "TCP")),
    ("SecType", ("sys",)),
    ("Access_Type", ("NONE",)),
    ("Squash", ("No_Root_Squash",)),
)
"""The same for every export. loader(8) speaks NFSv3 over UDP, the kernel over TCP; who is no CLIENT gets nothing."""


@dataclass(frozen=True, slots=True, order=True)
class Identified:
    """An export under its Export_Id."""

    id: int
    export: Export


@dataclass(frozen=True, slots=True)
class Shown:
    """One export as the running server has it. `others` are clients that we never write: networks, names, ``*``.

    The server never shows what machines outside its client list may do: an export without any client prints the same
    whether nobody or everybody has access (4.3). ``showmount -e`` tells them apart.
    """

    id: int
    path: str
    pseudo: str
    clients: tuple[Client, ...]
    others: tuple[str, ...] = ()


def ids(paths: Iterable[str], first_id: int, keep: Mapping[str, int] | None = None) -> dict[str, int]:
    """An Export_Id from `first_id` to 65535 for every path, the same on every machine and at every time.

    `keep` is what is in force already (from `parse` or `parse_show_exports`): a path never changes its id while it
    stands there, and no new path gets an id that does. Raises ValueError when there are more paths than ids.
    """
    if not 1 <= first_id <= _LAST_ID:
        raise ValueError(f"first Export_Id is not within 1 to {_LAST_ID}: {first_id}")
    held = dict(keep or {})
    span, found, taken = _LAST_ID - first_id + 1, dict[str, int](), set(held.values())
    for path in sorted(set(paths)):
        number = held.get(path)
        if number is None:
            start = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8]) % span
            tried = (first_id + (start + step) % span for step in range(span))
            number = next((each for each in tried if each not in taken), 0)
            if not number:
                raise ValueError(f"no Export_Id is left for {path!r}")
            taken.add(number)
        found[path] = number
    return found


def render(exports: Iterable[Export], first_id: int, keep: Mapping[str, int] | None = None, header: str = "") -> str:
    """One file of EXPORT blocks, sorted by path. Raises ValueError for an export without clients."""
    checked = verified(exports)
    numbers = ids((each.path for each in checked), first_id, keep)
    blocks = (_block(Identified(numbers[each.path], each)) for each in checked)
    return "\n".join([*header_lines(header), *blocks, ""])


def parse(text: str) -> tuple[Identified, ...]:
    """Read our own file back. Raises GrammarError on anything that `render` does not write."""
    reader = lex(text, "{}=;,")
    found: list[Identified] = []
    while not reader.done:
        found.append(_export(reader))
    doubled = {each.id for each in found if [other.id for other in found].count(each.id) > 1}
    if doubled:
        raise GrammarError(0, f"Export_Id {min(doubled)} stands twice")
    return tuple(found)


def expression(number: int) -> str:
    """Which block of a file AddExport and UpdateExport shall read."""
    return f"EXPORT(Export_Id={number})"


def parse_show_exports(text: str) -> dict[str, int]:
    """Path to Export_Id of all that the running server exports, from ``dbus-send --print-reply … ShowExports``.

    The server's own pseudo root (id 0) is left out. Raises GrammarError for anything but such an answer.
    """
    found: dict[str, int] = {}
    for each in _listed(text, "ShowExports")[1]:
        match each:
            case (int(number), str(path), *_):
                if number:
                    found[path] = number
            case _:
                raise GrammarError(0, "an export in ShowExports has no id and path")
    return found


@dataclass(frozen=True, slots=True)
class ClientUse:
    """What one client did since the server was started, and when it was heard last, in seconds by the server's clock."""

    nfs: bool
    """Whether it used NFS version 3; asking the mount daemon alone, in vain or not, does not count."""
    at: float


def parse_show_clients(text: str) -> dict[str, ClientUse]:
    """Every client by its IPv4 address, from ``dbus-send --print-reply … clientmgr.ShowClients``. Raises GrammarError."""
    found: dict[str, ClientUse] = {}
    for each in _listed(text, "ShowClients")[1]:
        match each:
            case (str(address), tuple(protocols), (int(seconds), int(nanoseconds))):
                nfs = any(one == ("NFSv3", True) for one in protocols)
                found[address.removeprefix("::ffff:")] = ClientUse(nfs, seconds + nanoseconds / 1e9)
            case _:
                raise GrammarError(0, "a client in ShowClients has an unknown shape")
    return found


def parse_last_use(text: str) -> tuple[float, dict[str, float]]:
    """When the server began to count, and when each exported path was used last (0: never since then), from ShowExports.
    Raises GrammarError."""
    started, exports = _listed(text, "ShowExports")
    found: dict[str, float] = {}
    for each in exports:
        match each:
            case (int(), str(path), tuple(), (int(seconds), int(nanoseconds))):
                found[path] = seconds + nanoseconds / 1e9
            case _:
                raise GrammarError(0, "an export in ShowExports has an unknown shape")
    return started, found


def _listed(text: str, what: str) -> tuple[float, list[Any]]:
    """The time at the head of an answer, and its list."""
    match _answer(text):
        case [(int(seconds), int(nanoseconds)), list(values)]:
            return seconds + nanoseconds / 1e9, values
        case _:
            raise GrammarError(1, f"not an answer of {what}")


def parse_display_export(text: str) -> Shown:
    """One export in full, from ``dbus-send --print-reply … DisplayExport uint16:ID``. Raises GrammarError."""
    match _answer(text):
        case [int(number), str(path), str(pseudo), str(), list(listed)]:
            clients = [_client(each) for each in listed]
        case _:
            raise GrammarError(1, "not an answer of DisplayExport")
    ours = tuple(sorted(client for client in clients if isinstance(client, Client)))
    others = tuple(client for client in clients if isinstance(client, str))
    return Shown(number, path, pseudo, ours, others)


def _block(each: Identified) -> str:
    path = each.export.path
    lines = [
        "EXPORT {",
        f"    Export_Id = {each.id};",
        f'    Path = "{path}";',
        f'    Pseudo = "{path}";',
        *(f"    {key} = {', '.join(values)};" for key, values in _SETTINGS),
        "    FSAL { Name = VFS; }",
    ]
    for access in ("ro", "rw"):
        addresses = [client.address for client in each.export.clients if client.access == access]
        if addresses:
            lines.append(f"    CLIENT {{ Clients = {', '.join(addresses)}; Access_Type = {access.upper()};")
            lines.append("        Squash = No_Root_Squash; }")
    return "\n".join([*lines, "}"])


def _export(reader: Reader) -> Identified:
    line = reader.ahead.line
    reader.expect("EXPORT", "{", "Export_Id", "=")
    number = reader.word()
    reader.expect(";", "Path", "=")
    path = reader.string()
    reader.expect(";", "Pseudo", "=")
    if reader.string() != path:
        raise GrammarError(line, f"export {path!r} has another pseudo path")
    reader.expect(";")
    for key, values in _SETTINGS:
        reader.expect(key, "=", values[0], *(word for value in values[1:] for word in (",", value)), ";")
    reader.expect("FSAL", "{", "Name", "=", "VFS", ";", "}")
    clients = _clients(reader)
    if not number.isdecimal() or not 1 <= int(number) <= _LAST_ID:
        raise GrammarError(line, f"Export_Id is not within 1 to {_LAST_ID}: {number!r}")
    try:
        return Identified(int(number), verified([Export(path, clients)])[0])
    except ValueError as error:
        raise GrammarError(line, str(error)) from None


def _clients(reader: Reader) -> tuple[Client, ...]:
    found: list[Client] = []
    while reader.accept("CLIENT"):
        reader.expect("{", "Clients", "=")
        addresses = [reader.word()]
        while reader.accept(","):
            addresses.append(reader.word())
        reader.expect(";", "Access_Type", "=")
        line, access = reader.ahead.line, reader.word().lower()
        if access not in ("ro", "rw"):
            raise GrammarError(line, f"access is neither RO nor RW: {access!r}")
        reader.expect(";", "Squash", "=", "No_Root_Squash", ";", "}")
        found += [Client(address, cast(Access, access)) for address in addresses]
    reader.expect("}")
    return tuple(found)


def _client(shown: object) -> Client | str:
    match shown:
        case (str(name), int(), int(), int(), int(), int(), int(), int(), int(options), int()):
            pass
        case _:
            raise GrammarError(0, "a client in DisplayExport has an unknown shape")
    address, _, bits = name.partition("/")
    granted = options & (_READ | _WRITE)
    if bits == "32" and not options & _SQUASH and granted in (_READ, _READ | _WRITE):
        return Client(address, "rw" if granted & _WRITE else "ro")
    return f"{name} ({'squashed, ' if options & _SQUASH else ''}access bits {granted:#x})"


_SCALAR = re.compile(
    r'(?P<int>u?int(?:16|32|64)|byte) (?P<number>-?\d+)|(?P<str>string) "(?P<text>.*)"|boolean (?P<bool>true|false)'
)


def _answer(text: str) -> list[Any]:
    """The values that ``dbus-send --print-reply`` printed: arrays as lists, structs as tuples."""
    lines = text.splitlines()
    if not lines or not lines[0].startswith("method return "):
        raise GrammarError(1, "not a D-Bus answer")
    stack: list[list[Any]] = [[]]
    closers: list[str] = []
    for number, line in enumerate(lines[1:], 2):
        word = line.strip()
        if word in ("struct {", "array ["):
            stack.append([])
            closers.append("}" if word[-1] == "{" else "]")
        elif closers and word == closers[-1]:
            values = stack.pop()
            stack[-1].append(values if closers.pop() == "]" else tuple(values))
        else:
            stack[-1].append(_scalar(word, number))
    if closers:
        raise GrammarError(len(lines), "the answer ends in the middle of a value")
    return stack[0]


def _scalar(word: str, line: int) -> int | str | bool:
    found = _SCALAR.fullmatch(word)
    if found is None:
        raise GrammarError(line, f"not a D-Bus value: {word!r}")
    if found["int"]:
        return int(found["number"])
    return found["text"] if found["str"] else found["bool"] == "true"
