"""Jails through plain jail.conf(5): base tools only, a whole FreeBSD in each root, one file per jail.

rc.d/jail reads ``/etc/jail.NAME.conf`` for a named jail on every release, so each jail has a file of its own. It comes
with the host's own files at boot; here the copy in the memory /etc is kept equal, the root made, and the jail started.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from controller.drivers import looks
from controller.drivers.base import Explanation, World, answered, checked, last_words, parsed
from controller.drivers.explain import explain_jail, only_written
from controller.drivers.jails import Jails
from controller.drivers.places import Disk, disk_of, jail_directory, mount_points
from controller.encode import fstab, jailconf, jls
from controller.encode.job import job_forget_script, job_look_script, job_start_script, parse_job
from controller.encode.names import safename
from controller.encode.sh import put_file, raw, sh
from controller.errors import Retry, Stall
from controller.graph import Desired
from controller.model import Answer, Change, Facts, Probe, Progress, Resource, Run, Seen, Steps, Unseen

_JOBS = "/var/db/jailops/jobs"


@dataclass(frozen=True)
class PlainSpec:
    """One jail, as JSON-like values so that it can be remembered and retired after its manifest is gone."""

    name: str
    host: str
    directory: str
    sets: str
    target: str
    portal: str
    label: str
    mount: str
    text: str
    """The jail's file."""
    fstab: str
    addresses: tuple[str, ...]
    after: tuple[str, ...]
    running: bool
    backend: str = "jail.conf"
    points: tuple[str, ...] = ()
    """Directories that mount(8) needs and does not make."""

    @property
    def disk(self) -> Disk:
        return Disk(self.target, self.portal, self.label, self.mount)

    @property
    def safe(self) -> str:
        return safename(self.name)

    @property
    def root(self) -> str:
        return f"{self.directory}/{self.name}"

    @property
    def mark(self) -> str:
        """Tells a root that we made from somebody's directory."""
        return f"{self.directory}/.jailops/made-{self.safe}"

    @property
    def file(self) -> str:
        return f"/etc/jail.{self.safe}.conf"

    @property
    def fstab_path(self) -> str:
        return f"{self.directory}/etc/fstab.{self.safe}"


def block_of(desired: Desired, host: str, name: str) -> jailconf.Block:
    """What jail(8) is told. The addresses are the host's aliases, so no interface is named."""
    jail = desired.jails[host, name].spec
    directory = jail_directory(desired, host)
    ruleset = desired.hosts[host].spec.jails.devfs_ruleset
    settings = {
        "path": f"{directory}/{name}",
        "host.hostname": jail.hostname or name,
        "exec.start": "/bin/sh /etc/rc",
        "exec.stop": "/bin/sh /etc/rc.shutdown jail",
        "mount.fstab": f"{directory}/etc/fstab.{safename(name)}",
        # Else the jail's own /etc/rc, finding itself on a diskless machine, takes the node's name (seen on 13.2).
        "allow.set_hostname": "0",
        **({"devfs_ruleset": str(ruleset)} if ruleset is not None else {}),
        **dict(sorted(jail.parameters.items())),
    }
    addresses = jailconf.Parameter("ip4.addr", tuple(str(one) for one in jail.addresses), "=")
    rest = tuple(jailconf.Parameter(key, (value,), "=") for key, value in settings.items())
    flags = (jailconf.Parameter("mount.devfs"), jailconf.Parameter("exec.clean"))
    return jailconf.Block(safename(name), (*rest, addresses, *flags))


def spec_of(desired: Desired, host: str, name: str) -> PlainSpec:
    jail = desired.jails[host, name].spec
    disk = disk_of(desired, host)
    directory = jail_directory(desired, host)
    shown = [(one.source, one.target, one.options) for one in jail.mounts]
    mounts = [
        fstab.Entry(source, f"{directory}/{name}/{target.strip('/')}", "nullfs", (options,), 0, 0)
        for source, target, options in shown
    ]
    return PlainSpec(
        name=name,
        host=host,
        directory=directory,
        sets=desired.hosts[host].spec.jails.base.sets,
        target=disk.target,
        portal=disk.portal,
        label=disk.label,
        mount=disk.mount,
        text=jailconf.render([block_of(desired, host, name)]),
        fstab=fstab.render(mounts),
        addresses=tuple(sorted(str(one) for one in jail.addresses)),
        after=tuple(sorted(jail.after)),
        running=jail.state == "running",
        points=tuple(mount_points(f"{directory}/{name}", disk.mount, shown)),
    )


class PlainJails(Jails):
    manager: ClassVar[str] = "jail.conf"
    stands_on: ClassVar[str] = "filesystem"
    spec_type: ClassVar[type[PlainSpec]] = PlainSpec

    def spec_of(self, desired: Desired, host: str, name: str) -> PlainSpec:
        return spec_of(desired, host, name)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        spec: PlainSpec = resource.spec
        look = sh(
            """if test ! -e {root}; then echo none
elif test -e {mark} || test -e {fstab}; then echo root
else echo foreign; fi
if test -e {fstab}; then cat {fstab}; fi""",
            root=spec.root,
            mark=spec.mark,
            fstab=spec.fstab_path,
        )
        guarded = looks.guarded_by_disk(spec.disk.target, spec.disk.device, spec.disk.mount, look)
        return (
            Probe(resource.host, looks.jails()),
            Probe(resource.host, looks.cat(spec.file)),
            Probe(resource.host, guarded, "disk"),
            Probe(resource.host, job_look_script(_JOBS, f"root-{spec.safe}", -4096)),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        spec: PlainSpec = resource.spec
        running, file, disk, look = answered(answers)
        if disk.exit != 0:
            raise Retry(f"cannot look at the jail disk of {resource.host}: {last_words(disk)}")
        job = parse_job(look)
        if job.state == "running":
            return Seen(None, busy=Progress(f"unpacking the root of {spec.name}", None, job.started))
        jails = parsed("the list of jails", resource.host, jls.parse, checked(running, "list jails").out)
        live = next((one for one in jails if one.name == spec.safe), None)
        if file.exit not in (0, looks.ABSENT):
            raise Retry(f"cannot read {spec.file} on {resource.host}: {last_words(file)}")
        has_root, _, table = disk.out.partition("\n")
        failed = job.state == "done" and job.exit != 0
        said = job.tail.decode("utf-8", "backslashreplace").strip().splitlines()[-1:] if failed else []
        detail = {
            "jid": live.jid if live else None,
            "error": "".join(said),
            "job": job.state,
            "foreign": has_root == "foreign",
        }
        if has_root != "root" and live is None:
            return Seen(None, detail=detail)
        return Seen(
            {
                "running": live is not None and not live.dying,
                "file": file.out if file.exit == 0 else "",
                "fstab": table,
                "path": live.path if live else spec.root,
                "addresses": sorted(live.addresses) if live else [],
            },
            detail=detail,
        )

    def want(self, resource: Resource, world: World) -> Facts | None:
        spec: PlainSpec = resource.spec
        seen = world.seen(resource.ref)
        if resource.retired:
            return None if seen and seen.facts is None else {"running": False}
        if seen and seen.detail.get("foreign"):
            raise Stall(
                f"cannot create {resource.ref}: {spec.root} exists on {spec.host} and jailops did not make it",
                hint=f"move it away; or if it is the jail's root, say so with: touch {spec.mark}",
            )
        if seen and seen.facts is None and seen.detail.get("error") and resource.ref not in world.retry:
            raise Stall(
                f"cannot make the root of {resource.ref}: {seen.detail['error']}",
                hint=f"mend the cause, then: jailops retry {resource.ref}",
            )
        base: dict[str, Any] = {"running": spec.running, "file": spec.text, "fstab": spec.fstab}
        return base | ({"path": spec.root, "addresses": list(spec.addresses)} if spec.running else {})

    def explain(self, change: Change) -> Explanation:
        return explain_jail(change, change.resource.spec.host)

    def steps(self, change: Change, world: World) -> Steps:
        del world
        spec: PlainSpec = change.resource.spec
        want, have = change.want or {}, change.have
        if have is None:
            yield from _make_root(spec, str(change.detail.get("job")))
            return
        changed = {name for name, value in want.items() if have.get(name) != value}
        goes_on = bool(have.get("running")) and only_written(change)
        if have.get("running") and not goes_on:
            yield from _stop(spec)
        if not change.resource.retired and changed & {"file", "fstab"}:
            files = sh(
                "mkdir -p {dir} {points} && {fstab} && {file}",
                dir=f"{spec.directory}/etc",
                points=spec.points,
                fstab=raw(put_file(spec.fstab_path, spec.fstab)),
                file=raw(put_file(spec.file, spec.text)),
            )
            checked((yield Run(f"write {spec.file}", files, lane="disk")), f"write {spec.file}")
        if want["running"] and not goes_on:
            yield from _start(spec)


def _make_root(spec: PlainSpec, job: str) -> Steps:
    """Unpack beside, rename when whole: a root under its own name is complete."""
    archive = f"{spec.sets.removeprefix('file://')}/base.txz"
    script = sh(
        """set -eu
test -f {archive} || {{ echo "no such file: "{archive}; exit 1; }}
if test -e {root}; then echo {root}" is there already"; exit 1; fi
if test -e {temp}; then chflags -R noschg {temp}; rm -rf {temp}; fi
mkdir -p {temp}
tar -xpf {archive} -C {temp}
test -x {temp}/bin/sh
if test -e {root}; then echo {root}" has come meanwhile"; exit 1; fi
: > {mark}
mv {temp} {root}""",
        archive=archive,
        temp=f"{spec.directory}/.jailops/creating-{spec.safe}",
        root=spec.root,
        mark=spec.mark,
    )
    name = f"root-{spec.safe}"
    if job in ("done", "lost"):
        checked((yield Run("forget an unpacking that ended", job_forget_script(_JOBS, name, "again"))), "forget a job")
    start = sh(
        "mkdir -p {ours} && {start}",
        ours=f"{spec.directory}/.jailops",
        start=raw(job_start_script(_JOBS, name, script)),
    )
    checked((yield Run(f"start unpacking the root of {spec.name}", start, lane="disk")), "start unpacking")


def _start(spec: PlainSpec) -> Steps:
    script = sh(
        "jail -f {file} -c {name} >/dev/null 2>{log}; jls -j {name} jid >/dev/null || {{ cat {log} >&2; exit 1; }}",
        file=spec.file,
        name=spec.safe,
        log=f"/var/run/jailops-{spec.safe}.log",
    )
    answer = yield Run(f"start {spec.name}", script, lane="disk", timeout=300)
    if answer.exit != 0:
        raise Retry(f"cannot start jail {spec.name} on {spec.host}: {last_words(answer)}")


def _stop(spec: PlainSpec) -> Steps:
    script = sh(
        """jail -f {file} -r {name} >/dev/null 2>&1 || jail -R {name} >/dev/null 2>&1
if jls -j {name} jid >/dev/null 2>&1; then exit 1; fi
mount -p | while read -r d m rest; do case $m in {root}/*) echo "still mounted: $m" >&2; exit 10;; esac; done
test $? != 10""",
        file=spec.file,
        name=spec.safe,
        root=spec.root,
    )
    answer = yield Run(f"stop {spec.name}", script, lane="disk", timeout=300)
    if answer.exit != 0:
        raise Retry(f"cannot stop jail {spec.name} on {spec.host}: {last_words(answer)}")
