"""`jailops demo`: the whole loop on a simulated site, for somebody who has never seen it.

A build VM, a SAN, a boot server and two diskless nodes run as small containers without privileges; a bare repository
holds the example manifests; the real controller runs as its own process. Nothing but loopback is used, and nothing is
left behind.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from pathlib import Path

from rich.console import Console
from rich.live import Live

from controller import app, show
from controller.demo.stage import Stage
from controller.demo.story import tell
from controller.store import Store


async def play(console: Console, directory: Path | None, *, script: bool) -> int:
    """Run the demo. Returns the exit status: 0 only if every step of the story was seen to be true.

    SIGTERM ends it like ctrl-C, so that nothing is left behind.
    """
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    if directory is not None:
        return await _play(console, directory, script=script)
    with tempfile.TemporaryDirectory(prefix="jailops-demo-") as temporary:
        return await _play(console, Path(temporary), script=script)


async def _play(console: Console, directory: Path, *, script: bool) -> int:
    async with Stage(directory) as stage:
        if script:
            return 0 if await tell(console, stage) else 1
        _invite(console, stage)
        await _watch(console, stage)
    return 0


def _invite(console: Console, stage: Stage) -> None:
    console.print(
        f"""
[bold]A simulated site is running.[/] Change it with Git, in another terminal:

    git clone {stage.repository} mysite && cd mysite
    $EDITOR jails/jailbox2.yaml && git commit -am "one more jail" && git push
    git fetch origin refs/notes/jailops:refs/notes/jailops && git log --notes=jailops

Ask the controller:

    export JAILOPS_CONFIG={stage.settings}
    jailops status;  jailops plan;  jailops history;  curl http://{stage.listen}/metrics

Break something by hand and watch it being repaired (root shells of the simulated machines):
"""
    )
    for name in stage.site.computers:
        console.print(f"    {stage.shell(name)}", markup=False)
    console.print(f"\nThe controller's log is {stage.log}. Ctrl-C ends everything.\n", markup=False)


async def _watch(console: Console, stage: Stage) -> None:
    """The live status, until the controller ends or somebody presses Ctrl-C."""
    from time import time

    from rich.console import Group

    path = app.store_path(stage.loaded)
    with Live(console=console, refresh_per_second=2) as live:
        while stage.controller_runs:
            if path.exists():
                with Store(path, read_only=True) as store:
                    live.update(Group(*show.status_lines(store, time())))
            await asyncio.sleep(0.5)
