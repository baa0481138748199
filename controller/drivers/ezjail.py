"""Jails through ezjail on the jail disk, and the base they share.

ezjail's files are read as text, never sourced; its table and its exit status are never believed. What a jail is: its
config file, its fstab on the disk, the kernel's own list (jls), and the mounts below its root. ezjail-admin makes the
root; the config is then ours, because `ezjail-admin config` would drop the line that finds the fstab after a reboot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, answered, checked, last_words, parsed
from controller.drivers.explain import explain_jail
from controller.drivers.jails import Jails
from controller.drivers.places import Disk, disk_of, jail_directory, mount_points
from controller.encode import ezjail, fstab, jls, mounts
from controller.encode.job import job_forget_script, job_look_script, job_start_script, parse_job
from controller.encode.names import safename
from controller.encode.sh import put_file, raw, sh
from controller.encode.text import GrammarError
from controller.errors import Retry, Stall
from controller.graph import Desired
from controller.model import Answer, Change, Facts, Probe, Progress, Ref, Resource, Run, Seen, Steps, Unseen

_JOBS = "/var/db/jailops/jobs"
"""Jobs on a node live in its memory /var: a reboot ends both the job and what is known of it."""


@dataclass(frozen=True)
class JailBaseSpec:
    """What the jails of one node stand on."""

    directory: str
    sets: str
    disk: Disk
    jails: frozenset[str] = frozenset()
    """The names that declared jails have for ezjail; every other one is somebody else's."""


@dataclass(frozen=True)
class EzjailSpec:
    """One jail, as JSON-like values so that it can be remembered and retired after its manifest is gone."""

    name: str
    host: str
    directory: str
    target: str
    portal: str
    label: str
    mount: str
    hostname: str
    addresses: tuple[str, ...]
    flavour: str | None
    parameters: tuple[tuple[str, str], ...]
    mounts: tuple[tuple[str, str, str], ...]
    """source, target below the jail's root, ro or rw"""
    after: tuple[str, ...]
    running: bool
    ruleset: str = ezjail.DEFAULTS["devfs_ruleset"]
    """Of devfs(8), by number or by the name that devfs.rules(5) gives it."""
    backend: str = "ezjail"

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
    def config(self) -> str:
        return f"{self.directory}/etc/ezjail/{self.safe}"

    @property
    def fstab_path(self) -> str:
        """On the disk: /etc is a memory disk, and rc.d/jail reads the fstab wherever ``jail_NAME_fstab`` says."""
        return f"{self.directory}/etc/fstab.{self.safe}"


def spec_of(desired: Desired, host: str, name: str) -> EzjailSpec:
    jail = desired.jails[host, name].spec
    disk = disk_of(desired, host)
    ruleset = desired.hosts[host].spec.jails.devfs_ruleset
    return EzjailSpec(
        name=name,
        host=host,
        directory=jail_directory(desired, host),
        target=disk.target,
        portal=disk.portal,
        label=disk.label,
        mount=disk.mount,
        hostname=jail.hostname or name,
        addresses=tuple(str(address) for address in jail.addresses),
        flavour=jail.flavour,
        parameters=tuple(sorted(jail.parameters.items())),
        mounts=tuple((one.source, one.target, one.options) for one in jail.mounts),
        after=tuple(sorted(jail.after)),
        running=jail.state == "running",
        ruleset=ezjail.DEFAULTS["devfs_ruleset"] if ruleset is None else str(ruleset),
    )


class JailBase(Base):
    """ezjail's basejail and newjail, made once from the sets that the generation brings (ezjail-admin(8) install)."""

    kind: ClassVar[str] = "base"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, host in sorted(desired.hosts.items()):
            if host.spec.jails.manager == "ezjail":
                jails = frozenset(safename(jail.name) for jail in desired.jails_of(name))
                sets, disk = host.spec.jails.base.sets, disk_of(desired, name)
                spec = JailBaseSpec(jail_directory(desired, name), sets, disk, jails)
                yield Resource(Ref(self.kind, name), name, spec, (Ref("filesystem", name),), host.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        spec: JailBaseSpec = resource.spec
        look = sh(
            """cd {directory} 2>/dev/null || {{ echo absent; exit 0; }}
if test -d newjail && test -x basejail/bin/sh && test -d etc/ezjail; then echo ready
elif test -d fulljail; then echo interrupted
else echo absent; fi
for f in etc/ezjail/*; do test -f "$f" && echo "${{f##*/}}"; done
:""",
            directory=spec.directory,
        )
        return (
            Probe(
                resource.host, looks.guarded_by_disk(spec.disk.target, spec.disk.device, spec.disk.mount, look), "disk"
            ),
            Probe(resource.host, job_look_script(_JOBS, "ezjail-install", -4096)),
            Probe(resource.host, looks.jails()),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        answer, job_answer, running = answered(answers)
        if answer.exit != 0:
            raise Retry(f"cannot look at the jail disk of {resource.host}: {last_words(answer)}")
        jails = parsed("the list of jails", resource.host, jls.parse, checked(running, "list jails").out)
        job = parse_job(job_answer)
        if job.state == "running":
            return Seen(None, busy=Progress("ezjail-admin install", None, job.started))
        said, *known = answer.out.split()
        error = _last_lines(job.tail) if job.state == "done" and job.exit != 0 else ""
        run = [one.name for one in jails if one.path.startswith(f"{resource.spec.directory}/")]
        names = {name.removesuffix(".norun") for name in known} - resource.spec.jails
        others = [f"jail {name} on {resource.host}" for name in sorted(names)]
        detail = {"said": said, "error": error, "running": run, "unmanaged": others}
        return Seen({"state": said} if said == "ready" else None, detail=detail)

    def want(self, resource: Resource, world: World) -> Facts | None:
        seen = world.seen(resource.ref)
        if seen and seen.facts is None and seen.detail.get("running"):
            raise Stall(
                f"cannot install the jails' base on {resource.host} below jails that run: "
                f"{', '.join(seen.detail['running'])}",
                hint="something took basejail or newjail away: stop these jails first, or bring it back",
            )
        error = seen.detail.get("error") if seen and seen.facts is None else ""
        if error and resource.ref not in world.retry:
            raise Stall(
                f"cannot install the jails' base on {resource.host}: {error}",
                hint=f"mend the cause, then: jailops retry {resource.ref}",
            )
        return {"state": "ready"}

    def explain(self, change: Change) -> Explanation:
        said = change.detail.get("said", "absent")
        reason = "an earlier install was cut short" if said == "interrupted" else "there is no base yet"
        return Explanation(f"install the jails' base on {change.resource.host}", reason)

    def steps(self, change: Change, world: World) -> Steps:
        del world
        spec: JailBaseSpec = change.resource.spec
        script = sh(
            "mkdir -p {control} && ezjail-admin install -h {sets}",
            control=f"{spec.directory}/etc/ezjail",
            sets=spec.sets,
        )
        forget = job_forget_script(_JOBS, "ezjail-install", "again")
        checked((yield Run("forget an install that ended before", forget)), "forget an earlier install")
        start = job_start_script(_JOBS, "ezjail-install", script)
        checked((yield Run("start ezjail-admin install", start, lane="disk")), "start ezjail-admin install")


class EzJails(Jails):
    manager: ClassVar[str] = "ezjail"
    stands_on: ClassVar[str] = "base"
    spec_type: ClassVar[type[EzjailSpec]] = EzjailSpec

    def spec_of(self, desired: Desired, host: str, name: str) -> EzjailSpec:
        return spec_of(desired, host, name)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        """Asked in the same words for every jail of a node, so the node is asked once."""
        spec: EzjailSpec = resource.spec
        listing = sh(
            """cd {directory} 2>/dev/null || {{ echo 'no jail directory' >&2; exit 75; }}
test -d etc/ezjail || {{ echo 'no ezjail directory' >&2; exit 75; }}
for f in etc/ezjail/* etc/fstab.*; do
  test -f "$f" || continue
  printf '%s\\000%s\\000' "$f" "$(($(wc -c < "$f")))"
  cat "$f"
done
for f in *; do test -d "$f" && printf 'root/%s\\0000\\000' "$f"; done
for f in .jailops/creating-*; do test -f "$f" && printf '%s\\0000\\000' "$f"; done
:""",
            directory=spec.directory,
        )
        guarded = looks.guarded_by_disk(spec.disk.target, spec.disk.device, spec.disk.mount, listing)
        return (
            Probe(resource.host, looks.jails()),
            Probe(resource.host, looks.mounts()),
            Probe(resource.host, guarded, "disk"),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        spec: EzjailSpec = resource.spec
        running, table, disk = answered(answers)
        if disk.exit != 0:
            raise Retry(f"cannot look at the jail disk of {resource.host}: {last_words(disk)}")
        files = looks.read_files(disk)
        try:
            live = next((one for one in jls.parse(checked(running, "list jails").out) if one.name == spec.safe), None)
            mounted = {one.mountpoint for one in mounts.parse_p(checked(table, "list mounts").out)}
            config = _config(spec, files)
        except GrammarError as error:
            raise Retry(f"cannot read the state of {resource.ref}: {error}") from error
        at_boot = f"etc/ezjail/{spec.safe}" in files
        known = config is not None
        detail = {
            "root": f"root/{spec.name}" in files,
            "creating": f".jailops/creating-{spec.safe}" in files,
            "jid": live.jid if live else None,
            "known": known,
        }
        if not known and live is None:
            return Seen(None, detail=detail)
        return Seen(
            {
                "running": live is not None and not live.dying,
                "atBoot": at_boot,
                "path": live.path if live else spec.root,
                "addresses": sorted(live.addresses) if live else [],
                "base": live is None or f"{spec.root}/basejail" in mounted,
                "config": config or {},
                "fstab": files.get(f"etc/fstab.{spec.safe}", b"").decode("utf-8", "backslashreplace"),
            },
            detail=detail,
        )

    def want(self, resource: Resource, world: World) -> Facts | None:
        spec: EzjailSpec = resource.spec
        seen = world.seen(resource.ref)
        detail = seen.detail if seen else {}
        if seen and seen.facts is None and detail.get("root") and not detail.get("creating") and not resource.retired:
            raise Stall(
                f"cannot create {resource.ref}: {spec.root} exists on {spec.host} but ezjail knows no such jail",
                hint="if it is the jail's old root, take it over with: ezjail-admin create -x "
                f"{spec.name} {','.join(spec.addresses)}; else move it away",
            )
        if resource.retired:
            return None if seen and seen.facts is None else {"running": False, "atBoot": False}
        base: dict[str, Any] = {"running": spec.running, "atBoot": spec.running, "config": _wanted(spec)}
        base["fstab"] = fstab_text(spec)
        if spec.running:
            base |= {"path": spec.root, "addresses": sorted(spec.addresses), "base": True}
        return base

    def explain(self, change: Change) -> Explanation:
        return explain_jail(change, change.resource.spec.host)

    def steps(self, change: Change, world: World) -> Steps:
        del world
        spec: EzjailSpec = change.resource.spec
        if change.resource.retired:
            yield from _stop(spec)
            yield from _norun(spec)
            return
        if change.have is None:
            yield from _create(spec, change)
        want, have = change.want or {}, change.have or {}
        written = have.get("config") != want["config"] or have.get("fstab") != want["fstab"]
        moved = have.get("atBoot") != want["atBoot"]
        runs = bool(have.get("running"))
        # Stopped before its settings are written: what a running jail was started with shows nowhere, and ezjail-admin
        # skips a jail that is .norun already.
        if runs and (written or not want["running"] or _differs_live(want, have)):
            yield from _stop(spec)
            runs = False
        if written or moved:
            yield from _write(spec)
        if want["running"] and not runs:
            yield from _start(spec)


def wanted_config(spec: EzjailSpec) -> dict[str, str]:
    """The keys of the config file that we care for."""
    return {
        "hostname": spec.hostname,
        "ip": ",".join(spec.addresses),
        "rootdir": spec.root,
        "devfs_ruleset": spec.ruleset,
        "parameters": " ".join(f"{name}={value}" for name, value in spec.parameters),
        "fstab": spec.fstab_path,
    }


def config_text(spec: EzjailSpec) -> str:
    """The whole config file. Each jail provides its own name, so that rcorder(8) can start others after it."""
    settings = {**ezjail.DEFAULTS, **wanted_config(spec)}
    after = tuple(safename(one) for one in spec.after)
    return ezjail.render(ezjail.JailFile(spec.safe, settings, ("standard_ezjail", spec.safe), after))


def _wanted(spec: EzjailSpec) -> dict[str, str]:
    return {**wanted_config(spec), "after": " ".join(safename(one) for one in spec.after)}


def fstab_text(spec: EzjailSpec) -> str:
    """basejail first, then the manifest's mounts."""
    entries = [fstab.Entry(f"{spec.directory}/basejail", f"{spec.root}/basejail", "nullfs", ("ro",), 0, 0)]
    entries += [
        fstab.Entry(source, f"{spec.root}/{target.strip('/')}", "nullfs", (options,), 0, 0)
        for source, target, options in spec.mounts
    ]
    return fstab.render(entries)


def _config(spec: EzjailSpec, files: Mapping[str, bytes]) -> dict[str, str] | None:
    """The keys we care for of the jail's config file, whether it runs at boot or not; None when there is no file."""
    text = files.get(f"etc/ezjail/{spec.safe}", files.get(f"etc/ezjail/{spec.safe}.norun"))
    if text is None:
        return None
    found = ezjail.parse(text.decode("utf-8", "surrogateescape"))
    return {name: found.settings.get(name, "") for name in wanted_config(spec)} | {"after": " ".join(found.require)}


def _differs_live(want: Facts, have: Facts) -> bool:
    return any(have.get(name) != want.get(name) for name in ("path", "addresses", "base") if name in want)


def _create(spec: EzjailSpec, change: Change) -> Steps:
    """ezjail-admin makes the root. Our mark tells a half-made root of ours from somebody's directory (it writes its own
    record last); a half-made one is moved aside, never removed."""
    mark = f"{spec.directory}/.jailops/creating-{spec.safe}"
    if change.detail.get("root"):
        # Between the look and this step an act of a controller that was killed may have come to its end.
        aside = sh(
            """for f in {config} {config}.norun; do test ! -e "$f" || exit 75; done
mounts=$(mount -p | while read -r d m rest; do case $m in {root}|{root}/*) echo "$m";; esac; done)
test -z "$mounts" || {{ echo "still mounted: $mounts" >&2; exit 1; }}
mkdir -p {trash} && mv {root} {trash}/{name}."$(date -u +%Y%m%dT%H%M%S)" """,
            root=spec.root,
            trash=f"{spec.directory}/.jailops/trash",
            name=spec.name,
            config=spec.config,
        )
        answer = yield Run("move the half-made root aside", aside, lane="disk")
        if answer.exit == 75:
            raise Retry(f"cannot create jail {spec.name} on {spec.host}: an earlier act has finished it meanwhile")
        checked(answer, "move the half-made root aside")
    flavour: list[str] = ["-f", spec.flavour] if spec.flavour else []
    make = sh(
        """mkdir -p {dir} && : > {mark} && sync || exit 1
ezjail-admin create {flavour} {name} {ip} >/dev/null || exit 1
test -d {root} && test -f {config}""",
        dir=f"{spec.directory}/.jailops",
        mark=mark,
        flavour=flavour,
        name=spec.name,
        ip=",".join(spec.addresses),
        root=spec.root,
        config=spec.config,
    )
    answer = yield Run(f"ezjail-admin create {spec.name}", make, lane="disk", timeout=900)
    if answer.exit != 0:
        raise Stall(
            f"cannot create jail {spec.name} on {spec.host}: {_ezjail_error(answer)}",
            hint="jailops tries again with growing pauses; the half-made root, if any, will be moved aside",
        )


def _write(spec: EzjailSpec) -> Steps:
    """Config and fstab on the disk, and the creating mark gone. A jail that should not run at boot is ``.norun``."""
    text = config_text(spec)
    # A temporary file inside etc/ezjail would be started as a jail, so it lies elsewhere on the disk.
    temp = f"{spec.directory}/.jailops/{spec.safe}.new"
    path, other = (spec.config, f"{spec.config}.norun") if spec.running else (f"{spec.config}.norun", spec.config)
    script = sh(
        "mkdir -p {ours} {points} && {fstab} && {config} && rm -f {other} {mark}",
        ours=f"{spec.directory}/.jailops",
        points=mount_points(spec.root, spec.mount, spec.mounts),
        fstab=raw(put_file(spec.fstab_path, fstab_text(spec))),
        config=raw(put_file(path, text, temp=temp)),
        other=other,
        mark=f"{spec.directory}/.jailops/creating-{spec.safe}",
    )
    checked(
        (yield Run(f"write the settings of {spec.name}", script, lane="disk")), f"write the settings of {spec.name}"
    )


def _start(spec: EzjailSpec) -> Steps:
    script = sh(
        "ezjail-admin onestart {name} 2>&1; jls -n name | grep -q -x {found}", name=spec.name, found=f"name={spec.safe}"
    )
    answer = yield Run(f"start {spec.name}", script, lane="disk", timeout=300)
    if answer.exit != 0:
        raise Retry(f"cannot start jail {spec.name} on {spec.host}: {_ezjail_error(answer)}")


def _stop(spec: EzjailSpec) -> Steps:
    """Stopped means: not in jls, and nothing mounted below its root."""
    script = sh(
        """ezjail-admin onestop {name} 2>&1
jls -n name | grep -q -x {found} && exit 1
mount -p | while read -r d m rest; do case $m in {root}/*) echo "still mounted: $m"; exit 10;; esac; done
test $? != 10""",
        name=spec.name,
        found=f"name={spec.safe}",
        root=spec.root,
    )
    answer = yield Run(f"stop {spec.name}", script, lane="disk", timeout=300)
    if answer.exit != 0:
        raise Retry(f"cannot stop jail {spec.name} on {spec.host}: {_ezjail_error(answer)}")


def _norun(spec: EzjailSpec) -> Steps:
    script = sh(
        "if test -e {config}; then mv -f {config} {config}.norun; fi; test -e {config}.norun", config=spec.config
    )
    checked((yield Run(f"keep {spec.name} from starting at boot", script, lane="disk")), "rename its config file")


def _last_lines(log: bytes) -> str:
    return " / ".join(log.decode("utf-8", "backslashreplace").strip().splitlines()[-3:])


def _ezjail_error(answer: Answer) -> str:
    lines = [line.strip() for line in (answer.out + answer.err).splitlines()]
    errors = [line for line in lines if line.startswith(("Error:", "jail:", "mount:", "cannot"))]
    return "; ".join(errors) or last_words(answer)
