"""The grammar of dhcpd.conf as ISC dhcpd 4.4.3-P1 accepts it, as far as host entries and an ordinary main file need it.

In: the text of the file (and of what it includes). Out: what the daemon would serve, or the first errors with file and
line as ``dhcpd -t`` prints them. Like the real one it accepts two hosts with one hardware address, an address outside
every subnet, an empty file; it refuses a missing semicolon, a truncated file, an open string, an unknown option and a
host name that exists already. Where a statement takes one value or none, the next word must be the semicolon.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

STRING, WORD, MARK, END = "string", "word", "mark", "end"

TEXT_OPTIONS = {
    "host-name", "domain-name", "root-path", "bootfile-name", "tftp-server-name", "merit-dump", "extensions-path",
    "nis-domain", "vendor-class-identifier", "user-class", "domain-search", "fqdn.fqdn", "vendor-encapsulated-options",
}  # fmt: skip
LIST_OPTIONS = {
    "routers", "domain-name-servers", "time-servers", "ntp-servers", "log-servers", "broadcast-address",
    "static-routes", "netbios-name-servers", "smtp-server", "nis-servers", "lpr-servers", "ien116-name-servers",
}  # fmt: skip
ONE_OPTIONS = {
    "subnet-mask", "interface-mtu", "swap-server", "dhcp-lease-time", "dhcp-server-identifier", "time-offset",
    "pxe-system-type", "dhcp-parameter-request-list", "dhcp-max-message-size", "ip-forwarding", "default-ip-ttl",
}  # fmt: skip
ONE_VALUE = {
    "ddns-update-style", "ddns-updates", "default-lease-time", "max-lease-time", "min-lease-time", "log-facility",
    "use-host-decl-names", "get-lease-hostnames", "update-static-leases", "one-lease-per-client", "ping-check",
    "always-broadcast",
}  # fmt: skip
PARAMETERS = {
    "range", "allow", "deny", "ignore", "server-identifier", "server-name", "lease-file-name",
    "pid-file-name", "omapi-port", "match", "local-address", "boot-unknown-clients",
    "stash-agent-options", "update-conflict-detection", "always-reply-rfc1048", "adaptive-lease-time-threshold",
}  # fmt: skip

TOKEN = re.compile(r"[ \t\r]+|\#[^\n]*|(?P<nl>\n)|(?P<string>\"(?:\\.|[^\"\\\n])*\")|(?P<open>\")"
                   r"|(?P<word>[A-Za-z0-9_][A-Za-z0-9_-]*(?:[.:][A-Za-z0-9_-]+)*)|(?P<mark>.)")  # fmt: skip


class Token:
    def __init__(self, kind: str, text: str, line: int, column: int, file: str) -> None:
        self.kind, self.text, self.line, self.column, self.file = kind, text, line, column, file


class Scope:
    """What is said in one block; a host entry is also a scope."""

    def __init__(
        self,
        kind: str,
        name: str = "",
        options: dict[str, Any] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.kind, self.name = kind, name
        self.options: dict[str, Any] = options or {}
        self.facts: dict[str, Any] = facts or {}


class Bad(Exception):
    """One refusal; the text is what dhcpd prints on stderr."""


def tokens(text: str, file: str) -> Iterator[Token]:
    line, start = 1, 0
    for found in TOKEN.finditer(text):
        column = found.start() - start
        if found["nl"]:
            line, start = line + 1, found.end()
        elif found["open"]:
            raise Bad(complain("eof in string constant", Token(STRING, '"', line, column, file), text))
        elif found["string"]:
            yield Token(STRING, re.sub(r"\\(.)", r"\1", found["string"][1:-1]), line, column, file)
        elif found["word"]:
            yield Token(WORD, found["word"], line, column, file)
        elif found["mark"]:
            yield Token(MARK, found["mark"], line, column, file)
    yield Token(END, "", max(line, 1), 0, file)


def complain(message: str, at: Token, text: str) -> str:
    lines = text.split("\n")
    source = lines[at.line - 1] if at.line <= len(lines) else ""
    shown = source[: at.column + len(at.text) + 1]
    return f"{at.file} line {at.line}: {message}\n{shown}\n{' ' * (at.column + 1)}^"


class Parser:
    """Reads one file; `include` reads another into the same scopes."""

    def __init__(self, read: Callable[[str], str], served: Served) -> None:
        self.read, self.served = read, served

    def file(self, path: str, scope: Scope) -> None:
        self.path, self.text = path, self.read(path)
        self.rest = list(tokens(self.text, path))
        while self.peek.kind != END:
            if self.peek.text == "}" and self.peek.kind == MARK:
                self.fail("expecting a declaration")
            self.statement(scope)

    @property
    def peek(self) -> Token:
        return self.rest[0]

    def next(self) -> Token:
        return self.rest.pop(0) if self.peek.kind != END else self.peek

    def fail(self, message: str, at: Token | None = None) -> NoReturn:
        raise Bad(complain(message, at or self.peek, self.text))

    def mark(self, text: str, message: str) -> None:
        if self.peek.kind == END and message != "semicolon expected.":
            self.fail("unexpected end of file")
        if self.peek.kind != MARK or self.peek.text != text:
            self.fail(message)
        self.next()

    def semicolon(self) -> None:
        self.mark(";", "semicolon expected.")

    def string(self) -> str:
        if self.peek.kind != STRING:
            self.next()
            self.fail("semicolon expected.")
        return self.next().text

    def statement(self, scope: Scope) -> None:
        head = self.next()
        if head.kind != WORD:
            self.fail("expecting a parameter or declaration", head)
        action = getattr(self, "on_" + head.text.replace("-", "_"), None)
        if action:
            action(scope, head)
        elif head.text in ONE_VALUE:
            self.next()
            self.semicolon()
        elif head.text in PARAMETERS:
            self.skip()
        else:
            self.semicolon()

    def skip(self) -> None:
        while not (self.peek.kind == MARK and self.peek.text in ";{}"):
            if self.next().kind == END:
                self.fail("semicolon expected.")
        self.semicolon()

    def block(self, scope: Scope) -> None:
        self.mark("{", "expecting left brace.")
        while not (self.peek.kind == MARK and self.peek.text == "}"):
            if self.peek.kind == END:
                self.fail("unexpected end of file")
            self.statement(scope)

    def end_block(self) -> None:
        self.next()

    def on_authoritative(self, _scope: Scope, _head: Token) -> None:
        self.semicolon()

    def on_not(self, _scope: Scope, _head: Token) -> None:
        if self.next().text != "authoritative":
            self.fail("expecting assertion")
        self.semicolon()

    def on_include(self, scope: Scope, head: Token) -> None:
        path = self.string()
        inner = Parser(self.read, self.served)
        try:
            inner.file(path, scope)
        except Bad as bad:
            raise Bad(f"{bad}\n{complain(f'{path}: bad parse.', head, self.text)}") from None
        self.semicolon()

    def on_subnet(self, _scope: Scope, _head: Token) -> None:
        network = self.next().text
        if self.next().text != "netmask":
            self.fail("Expecting netmask")
        inner = Scope("subnet", network, facts={"netmask": self.next().text})
        self.block(inner)
        self.end_block()
        self.served.subnets.append(inner)

    def on_shared_network(self, scope: Scope, _head: Token) -> None:
        self.next()
        self.nested(scope)

    def on_group(self, scope: Scope, _head: Token) -> None:
        if self.peek.kind == WORD:
            self.next()
        self.nested(scope)

    def on_pool(self, scope: Scope, _head: Token) -> None:
        self.nested(scope)

    def on_class(self, _scope: Scope, _head: Token) -> None:
        self.string()
        self.block(Scope("class"))
        self.end_block()

    def nested(self, scope: Scope) -> None:
        self.block(Scope("group", options=dict(scope.options), facts=dict(scope.facts)))
        self.end_block()

    def on_host(self, scope: Scope, _head: Token) -> None:
        if self.peek.kind not in (WORD, STRING):
            self.fail("expecting a name for host declaration.")
        name = self.next().text
        inherited = scope if scope.kind == "group" else Scope("")
        host = Scope("host", name, dict(inherited.options), dict(inherited.facts))
        self.block(host)
        if any(other.name == name for other in self.served.hosts):
            self.fail(f"host {name}: already exists")
        self.end_block()
        self.served.hosts.append(host)

    def on_hardware(self, scope: Scope, _head: Token) -> None:
        self.next()
        address = self.next()
        if not re.fullmatch(r"[0-9A-Fa-f]{1,2}(:[0-9A-Fa-f]{1,2})*", address.text):
            self.fail("expecting numeric value.", address)
        scope.facts["mac"] = ":".join(part.zfill(2) for part in address.text.lower().split(":"))
        self.semicolon()

    def on_fixed_address(self, scope: Scope, head: Token) -> None:
        if scope.kind != "host":
            self.skip()
            self.fail("fixed-address parameter not allowed here.", head)
        scope.facts["addresses"] = self.values()

    def on_next_server(self, scope: Scope, _head: Token) -> None:
        scope.facts["next-server"] = self.values()[0]

    def on_filename(self, scope: Scope, _head: Token) -> None:
        scope.facts["filename"] = self.string()
        self.semicolon()

    def on_server_name(self, _scope: Scope, _head: Token) -> None:
        self.string()
        self.semicolon()

    def values(self) -> list[str]:
        found = []
        while True:
            word = self.next()
            for part in word.text.split(".") if re.fullmatch(r"[0-9.]+", word.text) else ():
                if int(part or 0) > 255:
                    self.fail(f"{part} exceeds max (255) for precision.", word)
            found.append(word.text)
            if not (self.peek.kind == MARK and self.peek.text == ","):
                self.semicolon()
                return found
            self.next()

    def on_option(self, scope: Scope, _head: Token) -> None:
        name = self.next()
        if self.peek.text == "code":
            self.served.defined.add(name.text)
            self.skip()
        elif name.text in TEXT_OPTIONS:
            scope.options[name.text] = self.string()
            self.semicolon()
        elif name.text in LIST_OPTIONS:
            scope.options[name.text] = self.values()
        elif name.text in ONE_OPTIONS:
            scope.options[name.text] = self.next().text
            self.semicolon()
        elif name.text in self.served.defined or name.text == "space":
            self.skip()
        else:
            self.fail(f"unknown option dhcp.{name.text}", name)


class Served:
    """What the daemon would answer from: written to the state file when it starts."""

    def __init__(self) -> None:
        self.hosts: list[Scope] = []
        self.subnets: list[Scope] = []
        self.defined: set[str] = set()
        self.common = Scope("group")

    def as_json(self) -> dict[str, Any]:
        return {
            "hosts": [{"name": host.name, **host.facts, "options": host.options} for host in self.hosts],
            "subnets": [{"network": net.name, **net.facts, "options": net.options} for net in self.subnets],
            "options": self.common.options,
        }


def parse(path: str, read: Callable[[str], str]) -> Served:
    """What a configuration file says. Raises Bad with dhcpd's own words, OSError when an included file is missing."""
    served = Served()
    Parser(read, served).file(path, served.common)
    return served
