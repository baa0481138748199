"""Kea through its control socket: our reservations inside its whole configuration, tested, set, and written down.

The socket is reached on the server itself, with perl's socket module (in every Debian) or nc(1). A refused config-set
leaves the old configuration in force; if it does not, the configuration read before is set again. The control socket
is never lost: `encode.kea.merge` refuses a configuration without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, answered, checked, differing, last_words
from controller.drivers.dhcp import as_facts, describe, resources_for, wanted_entries
from controller.encode import kea
from controller.encode.hosts import HostEntry
from controller.encode.sh import sh
from controller.encode.text import GrammarError
from controller.errors import Retry, Stall
from controller.graph import Desired
from controller.model import Answer, Change, Facts, Probe, Resource, Run, Script, Seen, Steps, Unseen

_PERL = (
    'use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "$ARGV[0]: $!\\n"; '
    "print $s do { local $/; <STDIN> }; shutdown($s, 1); print while <$s>;"
)


def ask(socket: str, request: str) -> Script:
    """Send one request to the control socket and print the answer."""
    return sh(
        """test -S {socket} || {{ echo "no control socket at "{socket} >&2; exit 75; }}
if command -v perl >/dev/null 2>&1; then printf %s {request} | perl -e {program} {socket}
else printf %s {request} | nc -N -U {socket}; fi""",
        socket=socket,
        request=request,
        program=_PERL,
    )


class KeaDhcp(Base):
    kind: ClassVar[str] = "dhcp"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        return resources_for(desired, "kea")

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        return (
            Probe(resource.host, ask(_socket(resource), kea.command("config-get"))),
            Probe(resource.host, looks.cat(_file(resource))),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        answer, file = answered(answers)
        if answer.exit != 0:
            raise Retry(f"cannot ask Kea on {resource.host}: {last_words(answer)}")
        if file.exit not in (0, looks.ABSENT):
            raise Retry(f"cannot read {_file(resource)} on {resource.host}: {last_words(file)}")
        try:
            config = _arguments(answer, "config-get")
            others = [f"{one} on {resource.host}" for one in kea.unmanaged(config)]
            pools = [list(one) for one in kea.pools(config)]
        except GrammarError as error:
            raise Retry(f"cannot read Kea's configuration on {resource.host}: {error}") from error
        spoiled = ""
        ours: tuple[HostEntry, ...] = ()
        try:
            ours = kea.entries(config)
        except GrammarError as error:
            spoiled = f"not ours: {error}"
        facts = {
            "hosts": {one.name: as_facts(one) for one in ours},
            "serving": True,  # It answers on its socket: that is all that can be seen from here.
            "spoiled": spoiled,
            "written": kea.entries_of(file.out) in ([ours] if ours else [ours, None]),
        }
        return Seen(facts, detail={"unmanaged": others, "pools": pools})

    def want(self, resource: Resource, world: World) -> Facts | None:
        hosts = {one.name: as_facts(one) for one in wanted_entries(resource, world)}
        return {"hosts": hosts, "serving": True, "spoiled": "", "written": True}

    def explain(self, change: Change) -> Explanation:
        if differing(change.want or {}, change.have) == ["written"]:
            return Explanation(
                f"have Kea on {change.ref.name} write its configuration down",
                "what it serves would be lost at its next start",
            )
        summary, reason, _ = describe(change)
        spoiled = (change.have or {}).get("spoiled")
        return Explanation(summary.replace(" and restart once", ""), f"{spoiled}; {reason}" if spoiled else reason)

    def steps(self, change: Change, world: World) -> Steps:
        if differing(change.want or {}, change.have) != ["written"]:
            yield from _set(change, world)
        path, server = _file(change.resource), change.ref.name
        write = ask(_socket(change.resource), kea.command("config-write", {"filename": path}))
        answer = yield Run("have Kea write it down", write)
        _accepted(answer, server, f"did not write {path}", "the new entries are served, but only until its next start")


def _set(change: Change, world: World) -> Steps:
    """Put our reservations into what runs, or leave what runs as it is."""
    socket = _socket(change.resource)
    server = change.ref.name
    answer = yield Run("read Kea's configuration", ask(socket, kea.command("config-get")), writes=False)
    entries = wanted_entries(change.resource, world)
    try:
        before = _arguments(checked(answer, f"ask Kea on {server}"), "config-get")
        merged = kea.merge(before, entries, str(change.resource.spec.spec.dhcp.subnet))
    except ValueError as error:
        raise Stall(
            f"cannot serve these hosts from {server}: {error}", hint=f"mend Kea's configuration on {server}"
        ) from error
    answer = yield Run("test the new configuration", ask(socket, kea.command("config-test", merged)), writes=False)
    _accepted(answer, server, "refuses the new configuration", "nothing was changed")
    answer = yield Run("set the new configuration", ask(socket, kea.command("config-set", merged)))
    if not _good(answer):
        yield Run("set the old configuration again", ask(socket, kea.command("config-set", before)))
        back = yield Run("see what Kea serves now", ask(socket, kea.command("config-get")), writes=False)
        _accepted(answer, server, "did not take the new configuration", _now(back, before))


def _now(back: Answer, before: Mapping[str, Any]) -> str:
    """What is in force after a refusal, as Kea itself says."""
    try:
        after = _arguments(back, "config-get")
    except GrammarError:
        return "what it serves now cannot be seen"
    return (
        "the old one is in force" if dict(after) == dict(before) else "and what is in force now is not what was before"
    )


def _file(resource: Resource) -> str:
    return str(resource.spec.spec.dhcp.config_file)


def _socket(resource: Resource) -> str:
    return str(resource.spec.spec.dhcp.control_socket)


def _arguments(answer: Answer, verb: str) -> Mapping[str, Any]:
    reply = kea.reply(answer.out)
    if reply.result != 0:
        raise GrammarError(0, f"{verb} answered {reply.result}: {reply.text}")
    return {name: value for name, value in reply.arguments.items() if name == "Dhcp4"}


def _good(answer: Answer) -> bool:
    try:
        return answer.exit == 0 and kea.reply(answer.out).result == 0
    except GrammarError:
        return False


def _accepted(answer: Answer, server: str, what: str, now: str) -> None:
    if _good(answer):
        return
    try:
        said = kea.reply(answer.out).text
    except GrammarError:
        said = last_words(answer)
    raise Stall(f"cannot serve DHCP on {server}: Kea {what}: {said}; {now}", hint=f"look at Kea's log on {server}")
