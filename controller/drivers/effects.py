"""What a changed field takes: nothing, applied live, a restart, a reboot, or a rebuild. Pure, and total.

Live is only what a running node can take without a way back. Whatever boot alone reads, whatever may cut the network or the
login, and whatever is not known here waits for a reboot, after which somebody looks whether the node is well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from controller.drivers.generations import same_for_host
from controller.drivers.inputs import differences
from controller.model import Difference, Effect

NOTHING: Final = Effect("none", "nothing")
LIVE: Final = Effect("live", "live")
REBOOT: Final = Effect("reboot", "reboot")
WORLD: Final = Effect("rebuild", "rebuild of the world (hours), reboot")
PACKAGES: Final = Effect("rebuild", "rebuild of the packages (minutes), reboot")
JAIL: Final = Effect("restart", "restart of the jail")
STATE: Final = Effect("restart", "start or stop of the jail")
MOVED: Final = Effect("restart", "stopped on the old host and kept there, created on the new one")

Rule = Callable[[str], Effect]
"""The effect of one entry of a map or list, by its name."""

SERVICES: Final[Mapping[str, bool]] = {
    "bsnmpd": False,
    "cron": True,
    "inetd": False,
    "lpd": False,
    "monit": False,
    "node_exporter": False,
    "nscd": False,
    "ntpd": False,
    "powerd": False,
    "smartd": False,
    "snmpd": False,
    "syslogd": True,
    "telegraf": False,
    "zabbix_agentd": False,
}
"""Daemons that may be restarted at any time, and whether rc.conf(5)'s defaults start them. Their rc.d scripts read every
variable that begins with their name, and nothing else does. sshd is none: its flags may shut out who would mend them."""

SSHD_CONFIG: Final = "/etc/ssh/sshd_config"
SSHD: Final = "sshd"

FILES: Final[Mapping[str, str]] = {
    "/etc/crontab": "",
    "/etc/cron.d/": "",
    "/etc/csh.cshrc": "",
    "/etc/csh.login": "",
    "/etc/hosts": "",
    "/etc/inetd.conf": "inetd",
    "/etc/newsyslog.conf": "",
    "/etc/newsyslog.conf.d/": "",
    "/etc/ntp.conf": "ntpd",
    "/etc/periodic.conf": "",
    "/etc/profile": "",
    "/etc/ssh/ssh_config": "",
    SSHD_CONFIG: SSHD,
    "/etc/syslog.conf": "syslogd",
    "/etc/syslog.d/": "syslogd",
}
"""Files of the memory /etc that are read at each use, or by a daemon that is told; a path that ends in a slash is everything
directly below it."""


def service_of(variable: str) -> str | None:
    """The service of `SERVICES` that reads a variable of rc.conf(5), or None."""
    return next((service for service in SERVICES if variable.startswith(f"{service}_")), None)


def of_rc_conf(variable: str) -> Effect:
    service = service_of(variable)
    return Effect("restart", f"live, restart of {service}") if service else REBOOT


def service_of_file(path: str) -> str | None:
    """Who must be told of a changed file, empty when nobody must; None when only a boot takes it."""
    if path in FILES:
        return FILES[path]
    folder, _, name = path.rpartition("/")
    return FILES.get(f"{folder}/") if name else None


def of_file(path: str) -> Effect:
    """Also by the names of its entries: ``/etc/crontab.content``, ``/etc/crontab.mode``."""
    service = service_of_file(_path(path))
    if service is None:
        return REBOOT
    if service == SSHD:
        return Effect("restart", "live, reload of sshd")
    return Effect("restart", f"live, restart of {service}") if service else LIVE


def _path(entry: str) -> str:
    return re.sub(r"\.(content|mode)$", "", entry)


def of_user(entry: str) -> Effect:
    return LIVE if entry.partition(".")[2].startswith("authorizedKeys.") else REBOOT


def _of_recipe(layer: str) -> Effect:
    return {"world": WORLD, "packages": PACKAGES}.get(layer, REBOOT)


IMAGE: Final[Mapping[str, Effect | Rule]] = {
    "buildVM": NOTHING,
    "san": REBOOT,
    "release": WORLD,
    "architecture": WORLD,
    "source": WORLD,
    "incremental": WORLD,
    "srcConf": WORLD,
    "makeOptions": WORLD,
    "kernel": WORLD,
    "packages": PACKAGES,
    "packageRepository": PACKAGES,
    "rcConf": of_rc_conf,
    "loaderConf": REBOOT,
    "users": of_user,
    "rootAuthorizedKeys": LIVE,
    "rootPasswordHash": REBOOT,
    "files": of_file,
    "memory": REBOOT,
    "rollout": NOTHING,
    "keep": NOTHING,
}

HOST: Final[Mapping[str, Effect | Rule]] = {
    "mac": REBOOT,
    "address": REBOOT,
    "gateway": REBOOT,
    "nameservers": REBOOT,
    "domain": REBOOT,
    "interface": REBOOT,
    "hostname": REBOOT,
    "image": REBOOT,
    "bootServer": REBOOT,
    "san": REBOOT,
    "ssh": REBOOT,
    "hostKeySecret": REBOOT,
    "jailDisk.size": LIVE,
    "jailDisk.mount": REBOOT,
    "jailDisk.label": REBOOT,
    "jailDisk.chap": REBOOT,
    "jails.manager": REBOOT,
    "jails.directory": REBOOT,
    "jails.base": NOTHING,
    "jails.devfsRuleset": REBOOT,
    "initiator": REBOOT,
    "rcConf": of_rc_conf,
    "reboot": NOTHING,
    "power": NOTHING,
    "previous": NOTHING,
    "protect": NOTHING,
}
"""`jailDisk.size`: tgt grows it while the node is not attached. `jails.base` is read when the base is installed."""

JAIL_FIELDS: Final[Mapping[str, Effect | Rule]] = {
    "host": MOVED,
    "hostname": JAIL,
    "addresses": JAIL,
    "flavour": NOTHING,
    "state": STATE,
    "parameters": JAIL,
    "mounts": JAIL,
    "after": JAIL,
    "onRemove": NOTHING,
    "protect": NOTHING,
}
"""`flavour` runs once, when the jail is created."""

FIELDS: Final[Mapping[str, Mapping[str, Effect | Rule]]] = {"Image": IMAGE, "Host": HOST, "Jail": JAIL_FIELDS}
"""Kind -> field below spec -> what a change of it takes."""

_OTHERS: Final[Mapping[str, Effect | Rule]] = {
    "toolchain": WORLD,
    "repository": PACKAGES,
    "mounts": REBOOT,
    "managers": REBOOT,
    "jailDirectories": REBOOT,
    "rulesets": REBOOT,
    "hosts": REBOOT,
    "recipe": _of_recipe,
}
"""Inputs of an image that come from elsewhere than its own manifest."""

INPUTS: Final[Mapping[str, Effect | Rule]] = {**IMAGE, **_OTHERS}
"""The first word of every input of `inputs.flat` -> what a change of it takes."""


def class_of(name: str) -> Effect:
    """What a change of one input takes, such as ``rcConf.cron_flags``; one that nobody knows waits for a reboot."""
    top, _, entry = name.partition(".")
    found = INPUTS.get(top, REBOOT)
    return found if isinstance(found, Effect) else found(entry)


def what_a_reboot_would_change(before: Mapping[str, str], after: Mapping[str, str], host: str = "") -> list[Difference]:
    """All that differs between two `inputs.flat`, each with what it takes; with a host, only what it can tell apart."""
    return [
        Difference(name, old, new, _effect(name, before, after)) for name, old, new in differences(before, after, host)
    ]


def applied_live(effect: Effect) -> bool:
    """Whether a running node takes it: afterwards a reboot brings nothing new."""
    return effect.kind in ("live", "restart")


def needs_reboot(
    generations: Mapping[str, Mapping[str, Any]], kept_as: str, running: str, published: str
) -> list[Difference]:
    """What only a reboot brings a host, by its first name, from one generation to another; empty when it is in sync without one.

    `generations` holds the manifests of the complete ones. What is not there, or does not say what it was made of, differs.
    """
    if same_for_host(generations, kept_as, running, published):
        return []
    before, after = (generations.get(one, {}).get("inputs") for one in (running, published))
    if before is None or after is None:
        return [Difference("generation", running, published, REBOOT)]
    old, new = (str(generations[one].get("image", "")) for one in (running, published))
    if old != new:
        return [Difference("image", old, new, REBOOT), *what_a_reboot_would_change(before, after, kept_as)]
    return [one for one in what_a_reboot_would_change(before, after, kept_as) if not applied_live(one.effect)]


def told(found: list[Difference], most: int = 6) -> str:
    """For one line of a message."""
    shown = [f"{one.input}: {one.before or '(nothing)'} -> {one.after or '(nothing)'}" for one in found[:most]]
    return "; ".join([*shown, *([f"and {len(found) - most} more"] if len(found) > most else [])])


def _effect(name: str, before: Mapping[str, str], after: Mapping[str, str]) -> Effect:
    """With what stands around it: what is live depends on what the running root holds already."""
    top, _, entry = name.partition(".")
    effect = class_of(name)
    if not applied_live(effect):
        return effect
    if top == "files":
        whole = f"files.{_path(entry)}"
        # What lies below a file that goes is in the root alone, and a first sshd_config moves the keys.
        came = whole == f"files.{SSHD_CONFIG}" and whole not in before
        return REBOOT if came or whole not in after else effect
    if top in ("users", "rootAuthorizedKeys"):
        user = f"users.{entry.partition('.')[0]}"
        stays = top == "rootAuthorizedKeys" or (user in before and user in after)
        # With an sshd_config of its own, an image keeps keys where a running root cannot be changed.
        return effect if stays and f"files.{SSHD_CONFIG}" not in before.keys() | after.keys() else REBOOT
    return effect
