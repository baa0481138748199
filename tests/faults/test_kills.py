"""Whatever dies while images are built and published: every generation that is visible is what its list of hashes says.

Rounds of a push and a death at a random moment: of the build VM's make, of its power, of the sshd of VM or SAN, of the
controller. After each one the whole share is read. `make test` plays a few rounds, `make chaos` a hundred. The seed is printed;
`JAILOPS_SEED` plays the same deaths again.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from tests.faults.play import PATIENCE, RUNNING, Play, played
from tests.faults.test_layers import ROOT, files, listed, symlinks

ROUNDS: Final = int(os.environ.get("JAILOPS_ROUNDS", "6"))
SEED: Final = int(os.environ.get("JAILOPS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE + 30 * ROUNDS)]

FILE = "images/freebsd13.yaml"
JOBS = "/var/db/jailops/jobs"
LAYERS = ("world/freebsd13", "packages/freebsd13", "image/freebsd13")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    async with played(tmp_path_factory.mktemp("kills") / "stage") as play:
        await play.converged()
        yield play


async def of_make(play: Play) -> None:
    """Every job of the build VM with all that it started."""
    jobs = (
        f'for f in {JOBS}/*/pid; do test -f "$f" && read -r pid < "$f" && kill -s KILL -- -"$pid"; done 2>/dev/null; :'
    )
    await play.on("build-vm", jobs)


async def of_the_vm(play: Play) -> None:
    await play.stage.site.power_off("build-vm")
    await play.stage.site.power_on("build-vm")


async def of_the_vms_sshd(play: Play) -> None:
    await play.stage.site.cut("build-vm")


async def of_the_sans_sshd(play: Play) -> None:
    await play.stage.site.cut("san")


async def of_the_controller(play: Play) -> None:
    await play.kill()
    await play.start()


DEATHS: Final[tuple[Callable[[Play], Awaitable[None]], ...]] = (
    of_make,
    of_the_vm,
    of_the_vms_sshd,
    of_the_sans_sshd,
    of_the_controller,
)


def push(chance: random.Random, number: int) -> tuple[str, str, str]:
    """What a round changes: mostly the configuration, now and then what is compiled."""
    if chance.random() < 0.25:
        return FILE, "- WITHOUT_WIRELESS", f"- WITHOUT_WIRELESS  # {number}\n    - {_KNOBS[number % len(_KNOBS)]}"
    return FILE, "sendmail_enable: NONE", f"sendmail_enable: NONE\n    mark_{number}_enable: YES"


_KNOBS: Final = ("WITHOUT_FLOPPY", "WITHOUT_GAMES", "WITHOUT_TALK", "WITHOUT_FINGER", "WITHOUT_CALENDAR", "WITHOUT_LPR")


async def test_what_is_visible_is_complete_whatever_dies(play: Play) -> None:
    chance = random.Random(SEED)
    print(f"JAILOPS_SEED={SEED}")
    text, checked, met = (play.stage.work / FILE).read_text(), 0, Counter[str]()
    for number in range(ROUNDS):
        (play.stage.work / FILE).write_text(text)
        play.stage.edit(*push(chance, number))
        await play.stage.push(f"Round {number}")
        await asyncio.sleep(chance.uniform(0, 5))  # the moment is what is random here
        death = chance.choice(DEATHS)
        met[death.__name__] += (stage := under_way(play)) != ""
        met[f"in stage {stage or 'none'}"] += 1
        await death(play)
        for one in visible(play):
            wrong = difference(one)
            # Old generations go in between: what is not there any more was hidden by one rename. What DHCP names stays.
            assert wrong == "" or (not one.exists() and one not in named(play)), (
                f"round {number}, death {death.__name__}, seed {SEED}: {one}: {wrong}"
            )
            checked += 1
    print(f"{ROUNDS} deaths, {checked} lists of hashes compared; met: {dict(met)}")
    assert checked >= 2 * ROUNDS
    assert len(DEATHS) * 10 > ROUNDS or all(met[death.__name__] for death in DEATHS), "each of them met a build"

    for layer in LAYERS:  # a job that died twice waits for a person
        await play.jailops("retry", layer)
    await play.until("it is built", lambda: play.state("image/freebsd13") == "Ready", within=200)
    assert {node: set(jails) for node, jails in play.everywhere().items()} == RUNNING


def under_way(play: Play) -> str:
    """The stage of a job that has begun and not ended, by its log on the build VM; empty when there is none."""
    for folder in play.stage.site.computers["build-vm"].machine.path(JOBS).glob("*"):
        if (folder / "pid").exists() and not (folder / "result").exists():
            stages = re.findall(r"(?m)^--- jailops: (.+)", (folder / "log").read_text(errors="replace"))
            return stages[-1] if stages else "begin"
    return ""


def visible(play: Play) -> list[Path]:
    """Whatever stands under a name that is not hidden, complete or not, and what DHCP names, be it there or not."""
    share = play.stage.site.computers["san"].machine.path(ROOT)
    found = {path for pattern in ("layers/*", "images/*/*") for path in share.glob(pattern) if path.name[0] != "."}
    return sorted(found | named(play))


def named(play: Play) -> set[Path]:
    """The roots that nodes would boot now."""
    share = play.stage.site.computers["san"].machine.path(ROOT)
    served = (one["options"]["root-path"].partition(":")[2] for one in play.look("boot-server")["dhcp"].values())
    return {share / path.removeprefix(f"{ROOT}/") for path in served}


def difference(directory: Path) -> str:
    """What a layer is not that its list of hashes says; empty when it is just so."""
    try:
        said = listed(directory)
        here = {f"./{path}": one.sha256 for path, one in files(directory).items() if not path.startswith(".jailops/")}
        here |= {f"./{path}": target for path, target in symlinks(directory)}
    except OSError as error:
        return str(error)
    return ", ".join(_first(sorted(path for path in said.keys() | here.keys() if said.get(path) != here.get(path))))


def _first(paths: list[str]) -> Iterator[str]:
    yield from paths[:5]
    if len(paths) > 5:
        yield f"and {len(paths) - 5} more"
