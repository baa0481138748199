"""ISC dhcpd: one include file of ours, written whole, tested as a candidate, served or put back.

dhcpd(8) knows no reload, and ``dhcpd -t`` is only a syntax check (it accepts two hosts with one MAC address), so the
semantic check is ours (`encode.hosts.lint`), and after the one restart of a pass the daemon must be seen serving, else
the old file returns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, answered, last_words
from controller.drivers.generations import entry_before, entry_now
from controller.encode import dhcpd
from controller.encode.hosts import HostEntry, lint
from controller.encode.sh import put_file, raw, sh
from controller.encode.text import GrammarError
from controller.errors import Retry, Stall, Wait
from controller.graph import Desired, rootfs
from controller.manifests import BootServerSpec
from controller.model import Answer, Change, Facts, Probe, Ref, Resource, Run, Script, Seen, Steps, Unseen

_SERVING = """service {service} status >/dev/null 2>&1 || exit 1
{{ ss -Hlun 2>/dev/null || sockstat -4 -l -P udp 2>/dev/null; }} | grep -q ':67 '"""


_OTHERS = (
    "test -f {main} || exit 0\nsed -n 's/^[[:space:]]*host[[:space:]][[:space:]]*\\([^[:space:]{{]*\\).*/\\1/p' {main}"
)
"""The names of host declarations in the operator's own file: listed, never touched."""


@dataclass(frozen=True)
class Server:
    name: str
    spec: BootServerSpec

    @property
    def backend(self) -> str:
        return self.spec.dhcp.backend


def entry(desired: Desired, host: str, generation: str) -> HostEntry:
    """What a boot server says to one host that should boot one generation."""
    spec = desired.hosts[host].spec
    server = desired.boot_servers[spec.boot_server].spec
    san = desired.sans[spec.san].spec
    return HostEntry(
        name=host,
        mac=spec.mac,
        address=desired.host_address(host),
        next_server=str(server.tftp.address),
        filename=f"{spec.image}/{generation}/boot/pxeboot",
        root_path=f"{san.nfs.address}:{rootfs(desired, spec.image, generation)}",
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
    problems = lint(entries, str(resource.spec.spec.dhcp.subnet))
    if problems:
        raise Stall(f"cannot serve these hosts from {resource.ref.name}: " + "; ".join(problems))
    return entries


def _wanted(resource: Resource, host: str, world: World) -> HostEntry | None:
    """A host without an entry gets its first one only when its own share is there: a node whose share cannot be mounted
    hangs at boot (rc.initdiskless). One that has an entry keeps booting what it names until there is something else."""
    server, generation = resource.ref.name, world.generations.get(host)
    old = entry_now(world.observed, server, host) or entry_before(world.applied, server, host)
    if old is None:
        ready = Ref("hostshare", host) in world.ready and Ref("lun", host) in world.ready
        return entry(world.desired, host, generation) if generation is not None and ready else None
    if generation is not None:
        return entry(world.desired, host, generation)
    if not old.get("root-path") or not old.get("filename"):
        image = world.desired.hosts[host].spec.image
        raise Wait(f"it is not known what {host} booted, and no generation of {image} is seen", on=f"image/{image}")
    return replace(entry(world.desired, host, ""), root_path=old["root-path"], filename=old["filename"])


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
            Probe(resource.host, sh(_OTHERS, main=dhcp.config_file)),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        file, serving, others = answered(answers)
        detail = {"unmanaged": [f"DHCP host {name} on {resource.host}" for name in others.out.split()]}
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
        entries = wanted_entries(resource, world)
        return {
            "hosts": {one.name: as_facts(one) for one in entries},
            "file": render(resource, entries),
            "serving": True,
        }

    def explain(self, change: Change) -> Explanation:
        return describe(change)

    def steps(self, change: Change, world: World) -> Steps:
        dhcp = change.resource.spec.spec.dhcp
        text = render(change.resource, wanted_entries(change.resource, world))
        if (change.have or {}).get("file") != text:
            answer = yield Run(
                "test the new entries with dhcpd -t", candidate(dhcp.config_file, dhcp.include_file, text)
            )
            if answer.exit != 0:
                raise _refused(answer, dhcp.include_file, dhcp.config_file, change.ref.name)
            yield Run("put the new file in place, keep the old one", switch(dhcp.include_file))
        answer = yield Run(f"restart {dhcp.service} once and see it serve", restart(dhcp.service), timeout=60)
        if answer.exit != 0:
            back = yield Run("put the old file back and restart", put_back(dhcp.include_file, dhcp.service), timeout=60)
            now = "the old entries are served again" if back.exit == 0 else "and the old file does not serve either"
            raise Stall(
                f"cannot serve the new DHCP entries on {change.ref.name}: {last_words(answer)}; {now}",
                hint=f"look at the log of {dhcp.service} on {change.ref.name}",
            )


def render(resource: Resource, entries: Sequence[HostEntry]) -> str:
    """The include file, whole."""
    return dhcpd.render(entries, f"{resource.ref.name}")


def candidate(main: str, include: str, text: str) -> Script:
    """Write the file beside the live one and let dhcpd read the main file with it in place of the live one."""
    return sh(
        """grep -v '^[[:space:]]*#' {main} | grep -q -F {needle} || {{ echo {missing} >&2; exit 3; }}
{put} || exit 4
sed {swap} {main} > {test} && dhcpd -4 -t -cf {test}
status=$?
rm -f {test}
test $status = 0 || rm -f {new}
exit $status""",
        needle=f'include "{include}"',
        missing=f"{main} does not include {include}",
        main=main,
        put=raw(put_file(f"{include}.new", text)),
        swap=f's|include "{include}"|include "{include}.new"|',
        test=f"{main}.jailops-test",
        new=f"{include}.new",
    )


def switch(include: str) -> Script:
    """Keep what is served now, then rename the tested file over it."""
    return sh(
        "rm -f {prev}; if test -e {file}; then cp -p {file} {prev} || exit 1; fi; mv -f {new} {file}",
        file=include,
        prev=f"{include}.prev",
        new=f"{include}.new",
    )


def restart(service: str) -> Script:
    """Restart, then wait up to ten seconds until the daemon runs and holds UDP port 67; say what it said if not."""
    return sh(
        """said=$(service {service} restart 2>&1)
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


def put_back(include: str, service: str) -> Script:
    return sh(
        "if test -e {prev}; then mv -f {prev} {file}; else : > {file}; fi\n{restart}",
        prev=f"{include}.prev",
        file=include,
        restart=raw(restart(service)),
    )


def _refused(answer: Answer, include: str, main: str, server: str) -> Stall:
    """Say whose file dhcpd does not like: ours, or the one that the operator keeps."""
    if answer.exit == 3:
        return Stall(
            f"cannot serve DHCP on {server}: {answer.err.strip()}",
            hint=f'add the line include "{include}"; to {main}, once, by hand',
        )
    errors = dhcpd.parse_errors(answer.err)
    where = "; ".join(f"{file} line {line}: {text}" for file, line, text in errors) or last_words(answer)
    where = where.replace(f"{main}.jailops-test", main).replace(f"{include}.new", include)
    return Stall(
        f"cannot serve DHCP on {server}: dhcpd -t refuses: {where}; nothing was changed, the old entries are served",
        hint=f"mend {main} on {server}: jailops writes {include} only",
    )
