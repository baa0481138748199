"""What controllers are about when they die: for every kind of act a change that makes them act, to and fro.

A scene's moves are played in turn for ever, so that no site is ever set up anew. A move ends with a push or with a hand on a
machine; the acts that follow are the controllers'.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from typing import Final

from controller.encode.job import job_start_script
from tests.kills.bench import NODE, Bench

Move = Callable[[Bench], Awaitable[None]]

JAILS: Final = f"jails/{NODE}.yaml"
HOST: Final = f"hosts/{NODE}.yaml"
IMAGE: Final = "images/freebsd13.yaml"
SAN: Final = "infrastructure/san.yaml"
JOBS: Final = "/var/db/jailops/jobs"
_numbers = count(1)
"""What must be another one each time, or it would be there already."""


@dataclass(frozen=True)
class Scene:
    name: str
    kinds: frozenset[str]
    """Kinds that act in it; the undisturbed run must show each of them."""
    moves: tuple[Move, ...]
    before: int = 1
    """How often all moves are played before they come to the same end each time."""


def edits(path: str, old: str, new: str) -> Move:
    async def move(bench: Bench) -> None:
        bench.stage.edit(path, old, new)
        await bench.stage.push(f"{path}: {new.strip()[:40]}")

    return move


def by_hand(machine: str, script: str) -> Move:
    async def move(bench: Bench) -> None:
        await bench.on(machine, script)

    return move


async def _jail_comes(bench: Bench) -> None:
    """Its data was deleted by a person since it left, so that it is created each time."""
    await bench.on(NODE, "test ! -d /iscsi/jails/cache || ezjail-admin delete -w cache")
    bench.stage.edit(JAILS, "addresses: [198.51.100.61]", "addresses: [198.51.100.61]" + CACHE)
    await bench.stage.push("A cache")


CACHE: Final = (
    "\n---\napiVersion: jailops/v1\nkind: Jail\nmetadata:\n  name: cache\n"
    f"spec:\n  host: {NODE}\n  addresses: [198.51.100.64]\n#"
)


async def _new_generation(bench: Bench) -> None:
    """A setting that waits for a reboot: another one each time."""
    await _mark(bench, "mark_enable")


async def _new_flags(bench: Bench) -> None:
    """A setting that is applied live."""
    await _mark(bench, "cron_flags")


async def _mark(bench: Bench, name: str) -> None:
    file = bench.stage.work / IMAGE
    lines = [one for one in file.read_text().splitlines() if not one.startswith(f"    {name}:")]
    at = lines.index("rcConf:" if "rcConf:" in lines else next(one for one in lines if one.startswith("  rcConf:")))
    value = f"-s -J {next(_numbers)}" if name == "cron_flags" else f"number{next(_numbers)}"
    file.write_text("\n".join([*lines[: at + 1], f'    {name}: "{value}"', *lines[at + 1 :], ""]))
    await bench.stage.push(f"{name} {value}")


async def _nobody_wants_it(bench: Bench) -> None:
    await bench.on("build-vm", job_start_script(JOBS, "world-000000000000", "sleep 600"))


SCENES: Final = (
    Scene("jail", frozenset({"jail", "addresses", "hostshare"}), (
        _jail_comes,
        edits(JAILS, CACHE, ""),
    )),
    Scene("address", frozenset({"jail", "addresses", "hostshare"}), (
        edits(JAILS, "198.51.100.61", "198.51.100.62"),
        edits(JAILS, "198.51.100.62", "198.51.100.61"),
    )),
    Scene("stopped by hand", frozenset({"jail"}), (
        by_hand(NODE, "ezjail-admin onestop example"),
    )),
    Scene("dhcp", frozenset({"dhcp", "hostshare", "boot"}), (
        edits(HOST, "nameservers: [198.51.100.1]", "nameservers: [198.51.100.2]"),
        edits(HOST, "nameservers: [198.51.100.2]", "nameservers: [198.51.100.1]"),
    )),
    Scene("exports", frozenset({"exports"}), (
        edits(SAN, "- 198.51.100.20 ", "- 198.51.100.20\n      - 198.51.100.21 "),
        edits(SAN, "- 198.51.100.20\n      - 198.51.100.21 ", "- 198.51.100.20 "),
    )),
    Scene("disk", frozenset({"session", "filesystem", "jail"}), (
        by_hand(NODE, "ezjail-admin onestop example; umount /iscsi && iscsictl -R -a && rm /etc/iscsi.conf"),
    )),
    Scene("base", frozenset({"base"}), (
        by_hand(NODE, "ezjail-admin onestop example; rm -rf /iscsi/jails/newjail"),
    )),
    Scene("live", frozenset({"image", "bootfiles", "dhcp", "live", "retention", "bootretention"}), (_new_flags,), before=3),
    Scene("generation", frozenset({"image", "bootfiles", "dhcp", "boot", "retention", "bootretention"}), (
        _new_generation,
    ), before=3),
    Scene("world", frozenset({"world", "packages", "image", "boot"}), (
        edits(IMAGE, "- WITHOUT_WIRELESS", "- WITHOUT_GAMES"),
        edits(IMAGE, "- WITHOUT_GAMES", "- WITHOUT_WIRELESS"),
    )),
    Scene("job", frozenset({"buildvm"}), (_nobody_wants_it,)),
    Scene("target", frozenset({"lun"}), (
        by_hand("san", f"rm /etc/tgt/conf.d/jailops-{NODE}.conf"),
    )),
)  # fmt: skip
