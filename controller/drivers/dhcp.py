"""ISC dhcpd: one include file of ours, written whole, tested as a candidate, served or put back.

dhcpd(8) knows no reload, and ``dhcpd -t`` is only a syntax check (it accepts two hosts with one MAC address), so the
semantic check is ours (`encode.hosts.lint`), and after the one restart of a pass the daemon must be seen serving, else
the old file returns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, answered, last_words
from controller.drivers.generations import entry_before, entry_now, image_of
from controller.encode import dhcpd
from controller.encode.hosts import Foreign, HostEntry, lint
from controller.encode.sh import put_file, raw, sh
from controller.encode.text import GrammarError
from controller.errors import Retry, Stall, Wait
from controller.graph import Desired, rootfs
from controller.manifests import BootServerSpec
from controller.model import Answer, Change, Facts, Probe, Ref, Resource, Run, Script, Seen, Steps, Unseen

_SERVING = """service {service} status >/dev/null 2>&1 || exit 1
{{ ss -Hlun 2>/dev/null || sockstat -4 -l -P udp 2>/dev/null; }} | grep -q ':67 '"""


_INCLUDED = """sed -e 's/#.*//' -e 's/include[[:space:]]*"/include "/' {main} | grep -q -F {line}"""
"""Whether dhcpd will read our file at its next start; a commented-out line is none."""

_NOT_INCLUDED, _REFUSED = 3, 5

_MAIN = """test -f {main} || exit 3
sed -e 's/#.*//' {main} | grep -v secret
{included} || exit 3
said=$(dhcpd -4 -t -cf {main} 2>&1)
case $? in
0) ;;
1) printf '%s\\n' "$said" >&2; exit 5;;
*) printf '%s\\n' "$said" >&2; exit 75;;
esac"""
"""The operator's own file without its keys; status 3: it does not include ours, or is not there; 5: dhcpd would not start
with it. What runs goes on as it was, so nothing else would show that."""


@dataclass(frozen=True)
class Server:
    name: str
    spec: BootServerSpec

    @property
    def backend(self) -> str:
        return self.spec.dhcp.backend


def entry(desired: Desired, host: str, image: str, generation: str) -> HostEntry:
    """What a boot server says to one host that should boot one generation of an image."""
    spec = desired.hosts[host].spec
    server = desired.boot_servers[spec.boot_server].spec
    san = desired.sans[spec.san].spec
    return HostEntry(
        name=desired.kept_as(host),
        mac=spec.mac,
        address=desired.host_address(host),
        next_server=str(server.tftp.address),
        filename=f"{image}/{generation}/boot/pxeboot",
        root_path=f"{san.nfs.address}:{rootfs(desired, image, generation)}",
        host_name=spec.hostname or host,
        domain=spec.domain,
        nameservers=tuple(str(one) for one in spec.nameservers),
        mask=str(spec.address.netmask),
        routers=(str(spec.gateway),),
    )


def as_facts(one: HostEntry) -> dict[str, object]:
    """An entry in the words of dhcpd.conf(5), for comparing and for people."""
    return {
        "mac": one.mac,
        "fixed-address": one.address,
        "next-server": one.next_server,
        "filename": one.filename,
        "root-path": one.root_path,
        "host-name": one.host_name,
        "domain-name": one.domain,
        "domain-name-servers": list(one.nameservers),
        "subnet-mask": one.mask,
        "routers": list(one.routers),
    }


def wanted_entries(resource: Resource, world: World) -> list[HostEntry]:
    """One entry per host that has something to boot. Raises Stall when they contradict each other, and Wait rather than
    losing the entry of a host that had one."""
    hosts = (host.name for host in world.desired.hosts_of_boot_server(resource.ref.name))
    entries = [one for one in (_wanted(resource, host, world) for host in hosts) if one is not None]
    seen = world.seen(resource.ref)
    detail: Mapping[str, Any] = seen.detail if seen else {}
    others = [Foreign(name, mac, tuple(addresses)) for name, mac, addresses in detail.get("foreign", ())]
    pools = [(first, last) for first, last in detail.get("pools", ())]
    problems = lint(entries, str(resource.spec.spec.dhcp.subnet), pools, others)
    if problems:
        raise Stall(f"cannot serve these hosts from {resource.ref.name}: " + "; ".join(problems))
    return entries


def _wanted(resource: Resource, host: str, world: World) -> HostEntry | None:
    """A host without an entry gets its first one only when its own share is there: a node whose share cannot be mounted
    hangs at boot (rc.initdiskless). One that has an entry keeps booting what it names until there is something else."""
    server, generation, kept_as = resource.ref.name, world.generations.get(host), world.desired.kept_as(host)
    old = entry_now(world.observed, server, kept_as) or entry_before(world.applied, server, kept_as)
    image = image_of(world.desired, world.observed, host, generation or "")
    if old is None:
        ready = Ref("hostshare", host) in world.ready and Ref("lun", host) in world.ready
        return entry(world.desired, host, image, generation) if generation is not None and ready else None
    if generation is not None:
        return entry(world.desired, host, image, generation)
    if not old.get("root-path") or not old.get("filename"):
        raise Wait(f"it is not known what {host} booted, and no generation of {image} is seen", on=f"image/{image}")
    return replace(entry(world.desired, host, image, ""), root_path=old["root-path"], filename=old["filename"])


def resources_for(desired: Desired, backend: str) -> Iterator[Resource]:
    """The boot servers of one backend as resources; their boot files and exports come first."""
    for name, server in sorted(desired.boot_servers.items()):
        if server.spec.dhcp.backend == backend:
            sans = {host.spec.san for host in desired.hosts_of_boot_server(name)}
            needs = [Ref("bootfiles", name), *(Ref("exports", san) for san in sorted(sans))]
            yield Resource(Ref("dhcp", name), name, Server(name, server.spec), tuple(needs), server.origin)


def describe(change: Change) -> Explanation:
    """Which hosts come, go or change, and how."""
    want: Mapping[str, Mapping[str, object]] = (change.want or {}).get("hosts", {})
    have: Mapping[str, Mapping[str, object]] = (change.have or {}).get("hosts", {})
    parts = [f"add {host}" for host in sorted(want.keys() - have.keys())]
    parts += [f"remove {host}" for host in sorted(have.keys() - want.keys())]
    for host in sorted(want.keys() & have.keys()):
        changed = [name for name, value in want[host].items() if have[host].get(name) != value]
        parts += [f"{host}: {name} {have[host].get(name)} -> {want[host][name]}" for name in changed]
    if not parts and not (change.have or {}).get("serving"):
        return Explanation(f"start DHCP on {change.ref.name}", "the daemon does not serve", "restart")
    reason = "; ".join(parts) or "the file on the boot server is not the one we wrote"
    return Explanation(f"write DHCP entries on {change.ref.name} and restart once", reason, "restart")


class IscDhcp(Base):
    kind: ClassVar[str] = "dhcp"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        return resources_for(desired, "isc")

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        dhcp = resource.spec.spec.dhcp
        return (
            Probe(resource.host, looks.cat(dhcp.include_file)),
            Probe(resource.host, sh(_SERVING, service=dhcp.service)),
            Probe(resource.host, main_file(dhcp.config_file, dhcp.include_file)),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        file, serving, others = answered(answers)
        if others.exit not in (0, _NOT_INCLUDED, _REFUSED):
            raise Retry(f"cannot read {resource.spec.spec.dhcp.config_file}: {last_words(others)}")
        foreign = dhcpd.foreign(others.out)
        detail = {
            "unmanaged": [f"DHCP host {one.name} on {resource.host}" for one in foreign],
            "included": others.exit != _NOT_INCLUDED,
            "refused": _complaint(others, resource.spec) if others.exit == _REFUSED else "",
            "foreign": [[one.name, one.mac, list(one.addresses)] for one in foreign],
            "pools": [list(one) for one in dhcpd.pools(others.out)],
        }
        if file.exit == looks.ABSENT:
            return Seen({"hosts": {}, "file": "absent", "serving": serving.exit == 0}, detail=detail)
        if file.exit != 0:
            raise Retry(f"cannot read {resource.spec.spec.dhcp.include_file}: {last_words(file)}")
        try:
            hosts = {one.name: as_facts(one) for one in dhcpd.parse(file.out)}
        except GrammarError as error:
            return Seen({"hosts": {}, "file": f"not ours: {error}", "serving": serving.exit == 0}, detail=detail)
        return Seen({"hosts": hosts, "file": file.out, "serving": serving.exit == 0}, detail=detail)

    def want(self, resource: Resource, world: World) -> Facts | None:
        seen = world.seen(resource.ref)
        if seen and not seen.detail["included"]:
            raise _not_included(resource.spec)
        entries = wanted_entries(resource, world)
        text = render(resource, entries)
        have = (seen.facts or {}) if seen else {}
        # Another file of ours may be what is refused; the one that is wanted is tested before it is put in place.
        if seen and seen.detail["refused"] and have.get("file") == text:
            raise _refused(seen.detail["refused"], resource.spec, serving=bool(have.get("serving")))
        return {"hosts": {one.name: as_facts(one) for one in entries}, "file": text, "serving": True}

    def explain(self, change: Change) -> Explanation:
        return describe(change)

    def steps(self, change: Change, world: World) -> Steps:
        dhcp = change.resource.spec.spec.dhcp
        text = render(change.resource, wanted_entries(change.resource, world))
        act, label = restart(dhcp.service), f"restart {dhcp.service} once and see it serve"
        if (change.have or {}).get("file") != text:
            test = candidate(dhcp.config_file, dhcp.include_file, text)
            answer = yield Run("test the new entries with dhcpd -t", test)
            if answer.exit == _NOT_INCLUDED:
                raise _not_included(change.resource.spec)
            if answer.exit != 0:
                serving = bool((change.have or {}).get("serving"))
                complaint = _complaint(answer, change.resource.spec)
                raise _refused(complaint, change.resource.spec, serving=serving)
            act, label = take_effect(dhcp.include_file, dhcp.service), f"put the new file in place, {label}"
        answer = yield Run(label, act, timeout=90)
        if answer.exit != 0:
            raise Stall(
                f"cannot serve the new DHCP entries on {change.ref.name}: {last_words(answer)}; {_NOW[answer.exit]}",
                hint=f"look at the log of {dhcp.service} on {change.ref.name}",
            )


def render(resource: Resource, entries: Sequence[HostEntry]) -> str:
    """The include file, whole."""
    return dhcpd.render(entries, f"{resource.ref.name}")


def _included(main: str, include: str) -> Script:
    return sh(_INCLUDED, main=main, line=f'include "{include}"')


def main_file(main: str, include: str) -> Script:
    """What a look asks of the operator's own file: its text, and by the status whether dhcpd would start with it and ours."""
    return sh(_MAIN, main=main, included=raw(_included(main, include)))


def candidate(main: str, include: str, text: str) -> Script:
    """Write the file beside the live one and let dhcpd read the main file with it in place of the live one."""
    return sh(
        """{included} || exit 3
{put} || exit 4
sed {swap} {main} > {test} && dhcpd -4 -t -cf {test}
status=$?
rm -f {test}
test $status = 0 || rm -f {new}
exit $status""",
        included=raw(_included(main, include)),
        main=main,
        put=raw(put_file(f"{include}.new", text)),
        swap=f's|include[[:space:]]*"{include}"|include "{include}.new"|',
        test=f"{main}.jailops-test",
        new=f"{include}.new",
    )


_PUT_BACK, _NEITHER = 10, 11
_NOW = defaultdict(
    lambda: "nothing is served; the file is as it was",
    {
        4: "nothing was changed",
        _PUT_BACK: "the old entries are served again",
        _NEITHER: "and the old file does not serve either",
    },
)
"""What is true after a restart that failed."""


def restart(service: str) -> Script:
    """Restart, then wait up to ten seconds until the daemon runs and holds UDP port 67; say what it said if not.

    systemd refuses to start what was restarted five times in ten seconds, until that is forgotten.
    """
    return sh(
        """if command -v systemctl >/dev/null 2>&1; then systemctl reset-failed {service} >/dev/null 2>&1; fi
said=$(service {service} restart 2>&1)
i=0
while test $i -lt 50; do
  if ( {serving} ); then exit 0; fi
  i=$((i + 1)); sleep 0.2
done
printf '%s\\n' "$said" >&2
exit 1""",
        service=service,
        serving=raw(sh(_SERVING, service=service)),
    )


def take_effect(include: str, service: str) -> Script:
    """Rename the tested file over the live one and have the daemon serve it, or put the old one back. One act: were it
    two, a controller that is killed between them would leave a file that is right and that nobody serves."""
    return sh(
        """rm -f {prev}
if test -e {file}; then cp -p {file} {prev} || exit 4; fi
mv -f {new} {file} || exit 4
( {restart} ) && exit 0
if test -e {prev}; then mv -f {prev} {file}; else rm -f {file}; fi
( {restart} ) 2>/dev/null && exit {put_back}
exit {neither}""",
        file=include,
        prev=f"{include}.prev",
        new=f"{include}.new",
        restart=raw(restart(service)),
        put_back=_PUT_BACK,
        neither=_NEITHER,
    )


def _complaint(answer: Answer, server: Server) -> str:
    """What dhcpd -t does not like, and in whose file: ours, or the one that the operator keeps."""
    errors = dhcpd.parse_errors(answer.err)
    where = "; ".join(f"{file} line {line}: {text}" for file, line, text in errors) or last_words(answer)
    main, include = server.spec.dhcp.config_file, server.spec.dhcp.include_file
    return where.replace(f"{main}.jailops-test", main).replace(f"{include}.new", include)


def _refused(complaint: str, server: Server, *, serving: bool) -> Stall:
    main, include = server.spec.dhcp.config_file, server.spec.dhcp.include_file
    return Stall(
        f"cannot serve DHCP on {server.name}: dhcpd -t refuses: {complaint}; nothing was changed, "
        + ("the old entries are served" if serving else "and nothing is served: the daemon does not run"),
        hint=f"mend {main} on {server.name}: jailops writes {include} only",
    )


def _not_included(server: Server) -> Stall:
    main, include = server.spec.dhcp.config_file, server.spec.dhcp.include_file
    return Stall(
        f"cannot serve DHCP on {server.name}: {main} does not include {include}, so dhcpd will not read our entries at its "
        "next start",
        hint=f'add the line include "{include}"; to {main}, once, by hand; until then nothing is changed there',
    )
