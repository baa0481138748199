"""The demo's story: eight chapters, each told, acted by Git or by hand, and verified by looking at the site itself.

The controller's own words are only quoted, never believed: a chapter is true when the simulated machines say so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from rich.console import Console

from controller.demo.stage import Stage
from controller.store import Store

_JAIL = """\
---
apiVersion: jailops/v1
kind: Jail
metadata:
  name: cache
spec:
  host: jailbox2
  addresses: [198.51.100.74]
"""
_FIRST, _SECOND = "disklessfreebsdbox", "jailbox2"


class Untrue(Exception):
    """The site is not as the story says."""


async def tell(console: Console, stage: Stage) -> bool:
    """Tell the whole story. False, with what was seen, at the first chapter that does not come true."""
    begun = monotonic()
    teller = _Teller(console, stage)
    for title, chapter in _CHAPTERS:
        console.print(f"\n[bold]{title}[/]")
        started = monotonic()
        try:
            await chapter(teller)
        except Untrue as error:
            console.print(f"  [red]not true:[/] {error}", markup=True)
            console.print(stage.log.read_text()[-4000:], markup=False)
            return False
        console.print(f"  [green]true[/] after {monotonic() - started:.1f} s")
    uncovered = stage.site.uncovered()
    if uncovered:
        console.print(f"[red]a stand-in was asked what the reference does not cover:[/] {uncovered}")
        return False
    console.print(f"\nEvery step was verified on the machines themselves, {monotonic() - begun:.0f} s in all.")
    return True


class _Teller:
    def __init__(self, console: Console, stage: Stage) -> None:
        self.console = console
        self.stage = stage

    def say(self, text: str) -> None:
        self.console.print(f"  {text}", markup=False)

    async def until(self, what: str, true: Callable[[], bool | Awaitable[bool]], seconds: float = 180.0) -> None:
        """Wait until something is true on the site. Raises Untrue."""
        deadline = monotonic() + seconds
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                self.say(f"seen: {what}")
                return
            if monotonic() > deadline:
                raise Untrue(f"{what}, within {seconds:.0f} s")
            if not self.stage.controller_runs:
                raise Untrue(f"{what}: the controller ended")
            await asyncio.sleep(0.1)

    def jails(self, node: str) -> dict[str, list[str]]:
        """Running jails of a node and their addresses, as its kernel has them."""
        return {name: list(jail["ip4"]) for name, jail in self.stage.site.look(node)["jails"].items()}

    def said(self) -> str:
        """The controller's last sentence."""
        with Store(self.stage.directory / "store" / "jailops.sqlite", read_only=True) as store:
            return "".join(one.said for one in store.passes(1))


async def _converge(tell: _Teller) -> None:
    look = tell.stage.site.look
    tell.say("the example's manifests are pushed; build VM, SAN and boot server know nothing, both nodes ask for DHCP")
    await tell.until("a root file system was built", lambda: look("build-vm")["counters"].get("buildworld", 0) == 1)
    await tell.until("DHCP serves both nodes", lambda: {_FIRST, _SECOND} <= look("boot-server")["dhcp"].keys())
    for node in (_FIRST, _SECOND):
        await tell.until(f"{node} booted it", lambda node=node: bool(look(node)["generation"]))  # type: ignore[misc]
    await tell.until("jail example runs", lambda: "example" in tell.jails(_FIRST))
    await tell.until("jails db and web run", lambda: {"db", "web"} <= tell.jails(_SECOND).keys())
    await tell.until("the stopped jail is not running", lambda: "build_example_org" not in tell.jails(_SECOND), 1)
    await tell.until("the controller agrees", lambda: tell.said().startswith("converged"))


async def _add_jail(tell: _Teller) -> None:
    file = tell.stage.work / "jails" / "jailbox2.yaml"
    file.write_text(file.read_text() + _JAIL)
    revision = await tell.stage.push("A cache")
    tell.say(f"git push: {revision[:12]} adds jail cache to {_SECOND}")
    await tell.until("jail cache runs", lambda: "cache" in tell.jails(_SECOND))
    await tell.until("its address is on the interface", lambda: tell.jails(_SECOND)["cache"] == ["198.51.100.74"])

    async def noted() -> bool:
        return "create jail cache" in await tell.stage.note(revision)

    await tell.until("the commit carries the record", noted)


async def _change_address(tell: _Teller) -> None:
    tell.stage.edit("jails/disklessfreebsdbox.yaml", "198.51.100.61", "198.51.100.62")
    await tell.stage.push("example moves")
    tell.say("git push: jail example gets another address")
    await tell.until("jail example has it", lambda: tell.jails(_FIRST).get("example") == ["198.51.100.62"])
    addresses = tell.stage.site.look(_FIRST)["addresses"]
    await tell.until(
        f"the old one is gone from {addresses}",
        lambda: "198.51.100.61" not in str(tell.stage.site.look(_FIRST)["addresses"]),
    )


async def _stop_by_hand(tell: _Teller) -> None:
    before = tell.stage.site.look(_SECOND)["jails"]["web"]["jid"]
    await tell.stage.site.stop_jail_by_hand(_SECOND, "web")
    tell.say("somebody stops jail web by hand, on the node")
    await tell.until(
        "it runs again", lambda: tell.stage.site.look(_SECOND)["jails"].get("web", {}).get("jid", before) != before
    )
    await tell.until("the controller agrees", lambda: tell.said().startswith("converged"))


async def _reboot(tell: _Teller) -> None:
    tell.say(f"power off, power on: the memory disks of {_FIRST} are empty")
    boots = tell.stage.site.look(_FIRST)["boottime"]
    await tell.stage.site.reboot(_FIRST)
    await tell.until("it booted anew", lambda: tell.stage.site.look(_FIRST)["boottime"] > boots)
    await tell.until("its disk is mounted", lambda: "/iscsi" in tell.stage.site.look(_FIRST)["mounts"])
    await tell.until("jail example runs", lambda: "example" in tell.jails(_FIRST))
    await tell.until("the controller agrees", lambda: tell.said().startswith("converged"))


async def _mistake(tell: _Teller) -> None:
    before = tell.stage.site.look("boot-server")["dhcp"]
    tell.stage.edit("jails/disklessfreebsdbox.yaml", "host: disklessfreebsdbox", "host: disklesfreebsdbox")
    revision = await tell.stage.push("A slip of the pen")
    tell.say("git push: a jail on a host that does not exist")
    await tell.until("it is refused", lambda: tell.said().startswith("refused"))
    tell.say(f"the controller: {tell.said()}")

    async def told() -> bool:
        note = await tell.stage.note(revision)
        return "jails/disklessfreebsdbox.yaml" in note and 'did you mean "disklessfreebsdbox"' in note

    await tell.until("the commit says where, and the nearest right name", told)
    await tell.until("the jail runs on", lambda: "example" in tell.jails(_FIRST), 1)
    await tell.until("DHCP is as before", lambda: tell.stage.site.look("boot-server")["dhcp"] == before, 1)


async def _revert(tell: _Teller) -> None:
    await tell.stage.git("revert", "--no-edit", "HEAD")
    await tell.stage.git("push", "-q", "origin", "HEAD:main")
    tell.say("git revert, git push")
    await tell.until("the controller is content", lambda: tell.said().startswith("converged"))
    await tell.until("all jails run", lambda: {"db", "web", "cache"} <= tell.jails(_SECOND).keys(), 1)


async def _quiet(tell: _Teller) -> None:
    tell.say("a pass with nothing to do writes nothing anywhere")
    mark = await tell.stage.site.mark()
    with Store(tell.stage.directory / "store" / "jailops.sqlite", read_only=True) as store:
        last = store.passes(1)[0].id
        await tell.until("two more passes ended", lambda: store.passes(1)[0].id >= last + 2)
    writes = await tell.stage.site.writes(mark)
    if writes:
        raise Untrue(f"no machine was written to, but: {writes}")
    tell.say("seen: no file changed on any machine")


_CHAPTERS: tuple[tuple[str, Callable[[_Teller], Awaitable[None]]], ...] = (
    ("1. From nothing to two nodes with their jails", _converge),
    ("2. A push adds a jail", _add_jail),
    ("3. A push changes an address", _change_address),
    ("4. A jail stopped by hand is drift", _stop_by_hand),
    ("5. A node loses its memory", _reboot),
    ("6. A push with a mistake is refused", _mistake),
    ("7. The revert", _revert),
    ("8. And then silence", _quiet),
)
