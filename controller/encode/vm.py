"""A build VM's power: QEMU as a transient unit of systemd, or a domain of libvirt. Command lines out, states in.

Values of a manifest go in; argument vectors and sh scripts for the hypervisor come out, and what its answers mean. Nothing
is ever killed: off is asked for by the ACPI power button, and what became of that is for the next look to say.

Beside the VM's own state a look brings what was last asked of it and when, by the hypervisor's clock: a machine that was
told to start a minute ago is starting, one that was told so yesterday and does not answer is not well.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from controller.encode.job import jobs_script, parse_jobs
from controller.encode.kernel import boottime
from controller.encode.sh import put_file, raw, sh
from controller.encode.text import GrammarError
from controller.errors import Retry
from controller.model import Answer, Script

Asked: TypeAlias = Literal["start", "stop", ""]

_WORD: Final = re.compile(r"[A-Za-z0-9._@+:=/-]+")
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_ON: Final = frozenset({"active", "activating", "reloading", "running", "idle", "paused", "pmsuspended"})
_ENDING: Final = frozenset({"deactivating", "in shutdown"})
_OFF: Final = frozenset({"inactive", "failed", "shut off", "crashed"})
"""The words of systemd (ActiveState) and of libvirt (domstate), which have none in common."""

_QMP: Final = r"""use IO::Socket::UNIX;
$SIG{ALRM} = sub { die "the monitor does not answer\n" }; alarm 10;
my $s = IO::Socket::UNIX->new(Peer => shift) or die "cannot reach the monitor: $!\n";
defined(my $greeting = <$s>) or die "the monitor does not answer\n";
for ("qmp_capabilities", @ARGV) {
  print $s "{\"execute\": \"$_\"}\n"; $s->flush;
  my $said;
  while (defined($said = <$s>)) { last if $said =~ /^\{"(return|error)"/ }
  defined $said or die "the monitor hung up\n";
  die "the monitor refuses $_: $said" if $said =~ /^\{"error"/;
  print $said unless $_ eq "qmp_capabilities";
}
"""
"""A client of QEMU's monitor protocol, in the perl that every Debian has: SOCKET COMMAND…, and one answer per line."""


@dataclass(frozen=True, slots=True)
class Qemu:
    """A virtual machine as QEMU starts it. `memory` in bytes."""

    name: str
    memory: int
    cpus: int
    disk: str
    disk_format: str
    disk_bus: str
    tap: str
    bridge: str
    mac: str
    card: str
    vnc: int | None
    machine: str
    accelerator: str
    patience: int
    """Seconds that the VM gets to shut down when its unit is stopped or its host goes down."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A virtual machine that libvirt knows as `domain`."""

    name: str
    domain: str
    uri: str


Machine: TypeAlias = Qemu | Domain


@dataclass(frozen=True, slots=True)
class Power:
    """What a look at the hypervisor said. Times in seconds of its own clock."""

    on: bool
    word: str
    """In the words of systemd or libvirt."""
    now: int
    asked: Asked = ""
    """What was asked of it last; empty when that is not known."""
    at: int = 0

    @property
    def since(self) -> int:
        """Seconds since it was asked."""
        return max(self.now - self.at, 0)

    @property
    def ending(self) -> bool:
        return self.word in _ENDING


def unit(name: str) -> str:
    return f"jailops-vm-{_name(name)}.service"


def socket(name: str) -> str:
    """Where the monitor of a running VM listens."""
    return f"/run/jailops-vm-{_name(name)}/qmp"


def qemu_argv(vm: Qemu) -> list[str]:
    """QEMU's command line. Raises ValueError for a value that it, or systemd, would read as more than one."""
    return [
        "qemu-system-x86_64",
        *("-name", f"guest={_name(vm.name)}"),
        *("-machine", f"{_word(vm.machine)},accel={_word(vm.accelerator)}"),
        *("-smp", f"cpus={vm.cpus}"),
        *("-m", f"size={vm.memory}B"),
        *("-drive", f"file={_word(vm.disk)},format={_word(vm.disk_format)},if={_word(vm.disk_bus)}"),
        *("-nic", f"tap,ifname={_word(vm.tap)},script=no,downscript=no,model={_word(vm.card)},mac={_word(vm.mac)}"),
        *("-qmp", f"unix:{socket(vm.name)},server=on,wait=off"),
        *(("-display", "none") if vm.vnc is None else ("-vnc", f"127.0.0.1:{vm.vnc}")),
    ]


def unit_argv(vm: Qemu) -> list[str]:
    """The transient unit around it. Type=exec: systemd-run fails when there is no such program. Whoever stops the unit,
    or shuts the host down, presses the power button first and waits: SIGTERM would be pulling the plug."""
    name = _name(vm.name)
    return [
        *("systemd-run", "--quiet", "--no-ask-password", f"--unit={unit(name)}"),
        f"--description=jailops build VM {name}",
        "--property=Type=exec",
        f"--property=RuntimeDirectory=jailops-vm-{name}",
        "--property=RuntimeDirectoryMode=0700",
        f"--property=ExecStop=/bin/sh {_helper(name)}",
        f"--property=TimeoutStopSec={vm.patience}",
        *("--", *qemu_argv(vm)),
    ]


def look_script(vm: Machine) -> Script:
    """Is it on, and what was last asked of it? Exit 75 when that cannot be seen."""
    return sh(
        """echo "now $(date +%s)"
if test -f {asked}; then read -r what at < {asked} && echo "asked $what $at"; fi
state=$({state}) || exit 75
echo "state $state\"""",
        asked=_asked(vm.name),
        state=raw(_state(vm)),
    )


def start_script(vm: Machine) -> Script:
    """Switch it on. QEMU's end of the cable is made if need be, and a unit that failed before is forgotten."""
    if isinstance(vm, Domain):
        return sh(
            "{virsh} start --domain {domain} && {note}", virsh=_virsh(vm), domain=vm.domain, note=_note(vm, "start")
        )
    return sh(
        """ip link show dev {tap} >/dev/null 2>&1 || ip tuntap add dev {tap} mode tap || exit 1
ip link set dev {tap} master {bridge} && ip link set dev {tap} up || exit 1
{helper} || exit 1
systemctl reset-failed {unit} 2>/dev/null
{run} && {note}""",
        tap=_word(vm.tap),
        bridge=_word(vm.bridge),
        unit=unit(vm.name),
        helper=raw(put_file(_helper(vm.name), _stop_helper(vm.name), 0o700)),
        run=unit_argv(vm),
        note=_note(vm, "start"),
    )


def proof_script(vm: Machine) -> Script:
    """Exit 0 when it runs; else what it said before it ended."""
    if isinstance(vm, Domain):
        running = 'state=$({state}) && test "$state" = running || {{ echo "it is $state" >&2; exit 1; }}'
        return sh(running, state=raw(_state(vm)))
    return sh(
        """tries=0
until {qmp} query-status 2>/dev/null; do
  tries=$((tries + 1))
  if test $tries -gt 50 || ! systemctl is-active --quiet {unit}; then
    journalctl --quiet --no-pager --output=cat --lines=5 --unit={unit} >&2
    exit 1
  fi
  sleep 0.2
done""",
        qmp=raw(_qmp(vm.name)),
        unit=unit(vm.name),
    )


def stop_script(vm: Machine) -> Script:
    """Press the power button, and note that it was pressed."""
    if isinstance(vm, Domain):
        press = sh("{virsh} shutdown --domain {domain} --mode acpi", virsh=_virsh(vm), domain=vm.domain)
    else:
        press = sh("{qmp} system_powerdown", qmp=raw(_qmp(vm.name)))
    return sh("{press} && {note}", press=raw(press), note=_note(vm, "stop"))


def parse_power(answer: Answer, name: str) -> Power:
    """Read a look's answer about the VM of that name. Raises Retry for whatever is not one: unknown is never off."""
    fields = dict(line.split(" ", 1) for line in answer.out.splitlines() if " " in line)
    word = fields.get("state", "").strip().removeprefix("ActiveState=")
    if answer.exit != 0 or word not in _ON | _ENDING | _OFF or not fields.get("now", "").isdigit():
        said = (answer.err or answer.out).strip()[-300:]
        raise Retry(f"cannot see whether {name} runs: {said or 'no answer'} (exit {answer.exit})")
    asked, _, at = fields.get("asked", "").partition(" ")
    known: dict[str, Asked] = {"start": "start", "stop": "stop"}
    when = int(at) if at.isdigit() else 0
    return Power(word not in _OFF, word, int(fields["now"]), known.get(asked, "") if when else "", when)


@dataclass(frozen=True, slots=True)
class Inside:
    """What a look at the build VM itself said. Times in seconds of its own clock."""

    now: int
    boot: int
    used: int
    """When it was last used: booted, built on, or somebody logged in or out."""
    jobs: tuple[str, ...]
    """The jobs that run, also those that no manifest asks for any more."""
    people: tuple[str, ...]
    """Who is logged in at a terminal: the controller's own sessions have none."""

    @property
    def idle(self) -> int:
        return max(self.now - self.used, 0)

    @property
    def uptime(self) -> int:
        return max(self.now - self.boot, 0)


def inside_script(jobs: str) -> Script:
    """Ask the build VM (FreeBSD) what goes on there. Any other exit than 0 means that it cannot be known."""
    return sh(
        """echo "now $(date +%s)"
boot=$(sysctl -n kern.boottime) && echo "boot $boot" || exit 1
if test -e /var/run/utx.active; then seen=$(stat -f %m /var/run/utx.active) && echo "seen $seen" || exit 1; fi
people=$(who) || exit 1
printf '%s\\n' "$people" | while read -r login rest; do test -z "$login" || echo "person $login"; done
{jobs}""",
        jobs=raw(jobs_script(jobs)),
    )


def parse_inside(answer: Answer, name: str) -> Inside:
    """Read the answer of the VM of that name. Raises Retry for whatever is not one: unknown is never idle."""
    if answer.exit != 0:
        said = answer.err.strip()[-300:] or "no message"
        raise Retry(f"cannot see what goes on at {name}: {said} (exit {answer.exit})")
    rows = [line.split(" ", 1) for line in answer.out.splitlines()]
    try:
        found = {row[0]: row[1] for row in rows if row[0] in ("now", "boot", "seen")}
        jobs = parse_jobs(row[1] for row in rows if row[0] == "job")
        boot = int(boottime(found["boot"]))
        used = [boot, *([int(found["seen"])] if "seen" in found else [])]
        used += [int(at) for one in jobs.values() for at in (one.started, one.finished) if at is not None]
        people = sorted({row[1] for row in rows if row[0] == "person"})
        running = sorted(name for name, one in jobs.items() if one.state == "running")
        return Inside(int(found["now"]), boot, max(used), tuple(running), tuple(people))
    except (KeyError, IndexError, ValueError, GrammarError) as error:
        raise Retry(f"cannot understand what goes on at {name}: {answer.out[:300]!r}") from error


def _state(vm: Machine) -> Script:
    if isinstance(vm, Domain):
        return sh("{virsh} domstate --domain {domain}", virsh=_virsh(vm), domain=vm.domain)
    return sh("systemctl show --property=ActiveState {unit}", unit=unit(vm.name))


def _virsh(vm: Domain) -> Script:
    return raw(sh("LC_ALL=C virsh --quiet --connect {uri}", uri=vm.uri))


def _qmp(name: str) -> Script:
    return sh("perl -e {program} {socket}", program=_QMP, socket=socket(name))


def _note(vm: Machine, asked: Asked) -> Script:
    file = _asked(vm.name)
    return raw(
        sh('echo {asked} "$(date +%s)" > {new} && mv -f {new} {file}', asked=asked, new=f"{file}.new", file=file)
    )


def _stop_helper(name: str) -> str:
    """What systemd runs first when the unit is stopped; it ends with the VM."""
    wait = 'while kill -0 "$MAINPID" 2>/dev/null; do sleep 1; done'
    return f"#!/bin/sh\n# jailops: shut the build VM down cleanly.\n{_qmp(name)} system_powerdown && {wait}\n"


def _asked(name: str) -> str:
    return f"/run/jailops-vm-{_name(name)}.asked"


def _helper(name: str) -> str:
    return f"/run/jailops-vm-{_name(name)}.stop"


def _word(value: str) -> str:
    """One value inside an option of QEMU and inside ExecStart=: no comma, blank, quote, backslash, ``$`` or ``%``."""
    if not _WORD.fullmatch(value):
        raise ValueError(f"not a value for QEMU's command line: {value!r}")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"not a build VM's name: {value!r}")
    return value
