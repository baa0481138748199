"""The demo's stage in the real lab: a bare repository, real daemons, and the controller as a process at its own address.

Nothing is mapped: the controller reaches every machine at the address that its manifest says.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from controller import app
from controller.demo.stage import Stage
from controller.errors import StoreUnusable
from controller.lab.site import NodePlan, SitePlan
from controller.store import PastPass, Store
from tests.lab.child import lab_directory
from tests.lab.net import Net, Port, switched
from tests.lab.site import Dhcp, RealSite

ROOT = Path(__file__).parents[3]
SOON = 30.0
"""Seconds in which a push or a repair must be through. It takes about three."""


class RealStage(Stage):
    """The example, or manifests like it, on real daemons. `spare` nodes are there, switched off, and in no manifest."""

    site: RealSite

    def __init__(
        self,
        directory: Path,
        net: Net,
        *,
        dhcp: Dhcp = "isc",
        example: Mapping[str, str] | None = None,
        spare: Sequence[NodePlan] = (),
    ) -> None:
        self.net = net
        self._dhcp: Dhcp = dhcp
        self._spare = tuple(spare)
        super().__init__(directory, example)

    def build(self, plan: SitePlan) -> RealSite:
        whole = SitePlan(plan.vms, plan.sans, plan.boot_servers, (*plan.nodes, *self._spare))
        return RealSite(whole, self.directory / "site", self.net, self._dhcp)

    def via(self) -> Mapping[str, str]:
        return {}

    def placed(self, command: Sequence[str]) -> list[str]:
        # The controller ends with the tests, even if these are killed.
        return self.site.ctl.command(["setpriv", "--pdeathsig", "KILL", *command])

    def port(self, name: str) -> Port:
        return self.site.servers[name].port

    # -- the controller -----------------------------------------------------------------------------------------------

    async def command(self, *arguments: str) -> tuple[int, str]:
        """Run `jailops` from where the controller is: exit status and all it printed."""
        return await self.python("-m", "controller", *arguments, "--config", str(self.settings))

    async def python(self, *arguments: str) -> tuple[int, str]:
        """Run a Python program from where the controller is."""
        process = await asyncio.create_subprocess_exec(
            *self.placed([sys.executable, *arguments]),
            cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, "COLUMNS": "200"},
        )  # fmt: skip
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    def passes(self, limit: int = 20) -> list[PastPass]:
        """What the controller remembers of its last passes, the newest first."""
        if not app.store_path(self.loaded).exists():
            return []
        with self.store() as store, suppress(StoreUnusable):  # It makes its tables when it starts.
            return store.passes(limit)
        return []

    @contextmanager
    def store(self) -> Iterator[Store]:
        with Store(app.store_path(self.loaded), read_only=True) as store:
            yield store

    def statuses(self) -> dict[str, Mapping[str, Any]]:
        """Every object by its name, as of the last pass."""
        with self.store() as store:
            rows = store.statuses()
        return {f"{status['ref']['kind']}/{status['ref']['name']}": status for status, _ in rows}

    def steps(self, after: int) -> list[str]:
        """The labels of all steps taken in the passes that came after the one with this number."""
        passes = [one for one in reversed(self.passes(200)) if one.id > after]
        return [step["label"] for one in passes for act in one.record["outcomes"] for step in act["steps"]]

    async def until(
        self, what: str, true: Callable[[], bool] | Callable[[], Awaitable[bool]], within: float = SOON
    ) -> None:
        """Wait until something is true. AssertionError that names it, with what the controller said last."""
        deadline = time.monotonic() + within
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            assert self.controller_runs, f"{what}: the controller ended"
            assert time.monotonic() < deadline, f"{what}: not within {within:g} s"
            await asyncio.sleep(0.05)

    async def converged(self, revision: str, within: float = SOON) -> None:
        """Wait until a pass that began after this moment found everything at this revision as it should be."""
        asked = time.time()

        def agrees() -> bool:
            last = self.passes(1)
            return (
                bool(last)
                and last[0].started >= asked
                and (last[0].revision, last[0].result) == (revision, "converged")
            )

        await self.until(f"converged at {revision[:12]}", agrees, within)

    async def looked(self, times: int = 1) -> None:
        """Wait until so many passes that begin after this moment have ended."""
        asked = time.time()
        await self.until(
            f"{times} passes", lambda: len([one for one in self.passes() if one.started >= asked]) >= times
        )

    def report(self) -> str:
        """What a person would look at first."""
        states = self.statuses() if app.store_path(self.loaded).exists() else {}
        lines = [f"{name}: {one['state']} {one['message']}" for name, one in states.items()]
        consoles = [
            f"== console of {node.name}\n{self.site.console(node.name)[-800:]}" for node in self.site.plan.nodes
        ]
        return "\n".join([*lines, "== controller.log", self.log.read_text()[-5000:], *consoles])


@asynccontextmanager
async def staged(
    dhcp: Dhcp = "isc", example: Mapping[str, str] | None = None, spare: Sequence[NodePlan] = ()
) -> AsyncIterator[RealStage]:
    """The lab with the example pushed and the controller at work; nothing of it is left afterwards."""
    with ExitStack() as stack:
        directory, net = stack.enter_context(lab_directory()), stack.enter_context(switched())
        async with RealStage(directory / "stage", net, dhcp=dhcp, example=example, spare=spare) as stage:
            for node in spare:
                await stage.site.power_off(node.name)
            try:
                yield stage
            except AssertionError:
                print(stage.report())
                raise
