"""NFS exports of the two kernels: Linux exports(5) with exportfs(8), and FreeBSD exports(5) with showmount(8).

Exports go in, a whole file comes out, sorted, and back. There is no way to write an export without clients, for that
would be the world: a lone space in such a file gives everybody read and write (seen with nfs-utils 2.6.2).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias, cast

from controller.encode import text as check
from controller.encode.text import GrammarError, header_lines

Access: TypeAlias = Literal["ro", "rw"]

_LINUX = "no_root_squash,no_subtree_check,sync"
"""Squashed root cannot read what boot needs; subtree checks break renamed files. No fsid: the kernel derives a stable
one from the file system's UUID, and an explicit number would have to be unique over exports that are not ours."""

_CLIENT = re.compile(rf"([0-9.]+)\((ro|rw),{_LINUX}\)")
_SERVED = re.compile(r"(?P<path>/\S*)\s+(?P<client>[^\s(]*)\((?P<options>[^\s()]+)\)")
_OPTION = re.compile(r"[a-z_]+(?:=[^\s,]+)?")
_SHOWMOUNT = re.compile(r"Exports? list (?:for|on) \S+:")
_WORLD = frozenset({"*", "", "<world>", "0.0.0.0/0", "0.0.0.0/0.0.0.0", "::/0", "(everyone)", "Everyone"})


@dataclass(frozen=True, slots=True, order=True)
class Client:
    """One machine, by its IPv4 literal, and what it may do. Its root stays root."""

    address: str
    access: Access


@dataclass(frozen=True, slots=True, order=True)
class Export:
    """One directory and the machines that may mount it; never without a client."""

    path: str
    clients: tuple[Client, ...]


@dataclass(frozen=True, slots=True, order=True)
class Served:
    """What a kernel says it exports to one client, ours or not. `client` is whatever the server prints."""

    path: str
    client: str
    access: Access
    root_squash: bool
    options: frozenset[str] = frozenset()

    @property
    def world(self) -> bool:
        """Whether anybody at all is let in: an alarm, whoever wrote it."""
        return self.client in _WORLD


def verified(exports: Iterable[Export]) -> tuple[Export, ...]:
    """The exports sorted, with their clients sorted. Raises ValueError for what no server may be told."""
    found = tuple(sorted(Export(check.path(each.path, "export"), _clients(each)) for each in exports))
    for one, other in pairwise(found):
        if one.path == other.path:
            raise ValueError(f"export {one.path!r} is declared twice")
    return found


def render_linux(exports: Iterable[Export], header: str) -> str:
    """A file for /etc/exports.d. Raises ValueError for an export without clients or with a path that needs quoting."""
    lines = (f"{each.path} {' '.join(map(linux_client, each.clients))}" for each in verified(exports))
    return "\n".join([*header_lines(header), *lines, ""])


def linux_client(client: Client) -> str:
    """``ADDRESS(options)``, the form of the file; `linux_options` is the part that ``exportfs -o`` wants."""
    return f"{client.address}({linux_options(client)})"


def linux_options(client: Client) -> str:
    return f"{client.access},{_LINUX}"


def parse_linux(text: str) -> tuple[Export, ...]:
    """Read our own file back. Raises GrammarError on anything that `render_linux` does not write."""
    found: list[tuple[int, Export]] = []
    for line, words in _lines(text):
        clients = tuple(_linux_client(word, line) for word in words[1:])
        found.append((line, Export(words[0], clients)))
    return _accepted(found)


def parse_etab(text: str) -> tuple[Served, ...]:
    """What the kernel's mountd serves now: /var/lib/nfs/etab, or ``exportfs -s`` (not ``-v``, which pads and wraps).

    Empty text is no export: only believe it beside exit status 0.
    """
    return tuple(sorted(_served(line, number) for number, line in enumerate(text.splitlines(), 1) if line.strip()))


def render_freebsd(exports: Iterable[Export], header: str) -> str:
    """A file for mountd(8) of FreeBSD, one line per group of clients that may mount the same directories.

    A client may stand on one line only for each file system (exports(5)), and all directories here are taken to lie on
    one: its directories share a line, and a client with both kinds of access is a ValueError.
    """
    directories: dict[Client, list[str]] = defaultdict(list)
    for export in verified(exports):
        for client in export.clients:
            directories[client].append(export.path)
    _refuse_two_kinds(directories)
    groups: dict[tuple[tuple[str, ...], Access], list[str]] = defaultdict(list)
    for client, paths in sorted(directories.items()):
        groups[tuple(paths), client.access].append(client.address)
    lines = (_freebsd_line(paths, access, clients) for (paths, access), clients in sorted(groups.items()))
    return "\n".join([*header_lines(header), *lines, ""])


def parse_freebsd(text: str) -> tuple[Export, ...]:
    """Read our own file back. Raises GrammarError on anything that `render_freebsd` does not write."""
    clients: dict[str, list[Client]] = defaultdict(list)
    first: dict[str, int] = {}
    for line, words in _lines(text):
        paths = [word for word in words if word.startswith("/")]
        access: Access = "ro" if "-ro" in words else "rw"
        hosts = words[len(paths) + (2 if access == "ro" else 1) :]
        if words != _freebsd_line(tuple(paths), access, hosts).split():
            raise GrammarError(line, "not a line of directories, our options and client addresses")
        for path in paths:
            first.setdefault(path, line)
            clients[path] += [Client(host, access) for host in hosts]
    return _accepted([(first[path], Export(path, tuple(listed))) for path, listed in clients.items()])


def parse_showmount(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """``showmount -e`` of any server: directories with the clients it prints, which for FreeBSD are networks too.

    The one question in which every server names exports that are open to the world: "(everyone)", "Everyone" or "*".
    """
    lines = text.splitlines()
    if not lines or not _SHOWMOUNT.fullmatch(lines[0]):
        raise GrammarError(1, "showmount's heading is missing")
    found: list[tuple[str, tuple[str, ...]]] = []
    for number, line in enumerate(lines[1:], 2):
        words = line.split()
        if len(words) < 2 or not words[0].startswith("/"):
            raise GrammarError(number, f"not a directory with its clients: {line!r}")
        found.append((words[0], tuple(word for word in ",".join(words[1:]).split(",") if word)))
    return tuple(sorted(found))


def is_world(client: str) -> bool:
    """Whether a client, as a server prints it, stands for everybody."""
    return client in _WORLD


def _clients(export: Export) -> tuple[Client, ...]:
    if not export.clients:
        raise ValueError(f"export {export.path!r} names no client, which would be everybody")
    for client in export.clients:
        check.ipv4(client.address, f"a client of {export.path!r}")
        if client.access not in ("ro", "rw"):
            raise ValueError(f"client {client.address} of {export.path!r} is neither ro nor rw")
    found = tuple(sorted(export.clients))
    for one, other in pairwise(found):
        if one.address == other.address:
            raise ValueError(f"export {export.path!r} names client {one.address} twice")
    return found


def _accepted(found: list[tuple[int, Export]]) -> tuple[Export, ...]:
    """What was read must be what we could have written."""
    for line, export in found:
        try:
            verified([export])
        except ValueError as error:
            raise GrammarError(line, str(error)) from None
    try:
        return verified(export for _, export in found)
    except ValueError as error:
        raise GrammarError(max(line for line, _ in found), str(error)) from None


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            yield number, words


def _linux_client(word: str, line: int) -> Client:
    found = _CLIENT.fullmatch(word)
    if found is None:
        raise GrammarError(line, f"not a client with our options: {word!r}")
    return Client(found[1], cast(Access, found[2]))


def _served(line: str, number: int) -> Served:
    found = _SERVED.fullmatch(line.strip())
    if found is None:
        raise GrammarError(number, f"not an export: {line!r}")
    options = found["options"].split(",")
    if not all(map(_OPTION.fullmatch, options)):
        raise GrammarError(number, f"unknown option in {line!r}")
    # exportfs repeats the access in its "sec=" group: the last one holds.
    access = [option for option in options if option in ("ro", "rw")]
    squash = [option for option in options if option in ("root_squash", "no_root_squash")]
    if not access or not squash:
        raise GrammarError(number, f"an export that does not say its access and squash: {line!r}")
    squashed = squash[-1] == "root_squash" or "all_squash" in options
    return Served(_unescaped(found["path"]), found["client"], cast(Access, access[-1]), squashed, frozenset(options))


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path)


def _refuse_two_kinds(directories: Iterable[Client]) -> None:
    kinds: dict[str, str] = {}
    for client in directories:
        if kinds.setdefault(client.address, client.access) != client.access:
            raise ValueError(f"client {client.address} would need both ro and rw, which exports(5) has no line for")


def _freebsd_line(paths: tuple[str, ...], access: str, clients: Iterable[str]) -> str:
    options = ["-ro", "-maproot=root"] if access == "ro" else ["-maproot=root"]
    return " ".join([*paths, *options, *clients])
