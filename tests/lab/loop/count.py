"""Passes of the real controller in a process of their own, and how many requests each machine got in the last one.

    python -m tests.lab.loop.count JAILOPS.TOML PASSES

Prints JSON: the result of the last pass, and host -> lane -> requests for it alone. The connections of the passes
before it are used again, as in the daemon.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controller import app, settings
from controller.logs import configure
from controller.model import Lane
from controller.transport import Fleet


async def count(path: Path, passes: int) -> dict[str, Any]:
    """Run the passes. `lanes` is counted where requests are asked for, `sent` where they leave."""
    loaded = settings.load(path)
    lanes: Counter[str] = Counter()
    with app.only_one(loaded):
        async with app.build(loaded) as built:
            asked = built.fleet.ask_each

            async def counted(
                host: str, lane: Lane, scripts: Sequence[str], timeout: float, *, force: bool = False
            ) -> Any:
                lanes[f"{host} {lane}"] += 1
                return await asked(host, lane, scripts, timeout, force=force)

            built.fleet.ask_each = counted  # type: ignore[method-assign]
            for number in range(passes):
                if number == passes - 1:
                    lanes.clear()
                    built.fleet.exchanges.clear()
                    built.fleet.connects.clear()
                record = await built.controller.tick("count")
            fleet: Fleet = built.fleet
            return {
                "result": record.result,
                "lanes": dict(lanes),
                "sent": dict(fleet.exchanges),
                "connects": dict(fleet.connects),
            }


if __name__ == "__main__":
    configure("human", "error")
    print(json.dumps(asyncio.run(count(Path(sys.argv[1]), int(sys.argv[2])))))
