"""Images: a change of configuration alone, a build that fails, the push that mends it, and another try."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults import leaks
from tests.faults.play import NODES, PATIENCE, RUNNING, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

IMAGE = "image/freebsd13"
WORLD = "world/freebsd13"
IMAGES = "/export/jailops/images/freebsd13"
FILE = "images/freebsd13.yaml"
LOG = re.compile(r"cannot build the world of freebsd13: line (\d+) of the log: (?P<error>.+) \(exit 2\)")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    async with played(tmp_path_factory.mktemp("images") / "stage") as play:
        await play.converged()
        yield play


async def test_a_change_of_rc_conf_builds_a_generation_without_compiling(play: Play) -> None:
    made = {target: play.made(target) for target in ("buildworld", "buildkernel", "installworld")}
    (old,) = await generations(play)
    content, before = await print_of(play, old), play.everywhere()
    play.stage.edit(FILE, "sendmail_enable: NONE", 'sendmail_enable: NONE\n    clear_tmp_enable: "YES"')
    await play.stage.push("Empty /tmp at boot")

    async def switched() -> None:
        """DHCP may name a generation only when that one is complete and its boot file is served."""
        while True:
            served = {path.rpartition("/")[2] for path in roots(play)}
            assert len(served) == 1, "both nodes switch together"
            if served != {old}:
                (new,) = served
                break
            await asyncio.sleep(0.02)
        manifest = await play.on("san", f"cat {IMAGES}/{new}/.jailops/manifest.json")
        assert f'"generation":"{new}"' in manifest
        for name in files(play):
            boot = play.stage.site.computers["boot-server"].machine.path(f"/srv/tftp/{name}").read_bytes()
            root = play.stage.site.computers["san"].machine.path(f"{IMAGES}/{new}/boot/pxeboot").read_bytes()
            assert boot == root
            assert new in name

    await asyncio.wait_for(switched(), 60)
    (new,) = {path.rpartition("/")[2] for path in roots(play)}
    await play.until("reboots are pending", lambda: [play.state(f"node/{one}") for one in NODES] == ["Waiting"] * 2)
    for node in NODES:
        assert play.statuses()[f"node/{node}"]["message"] == (
            f"RebootPending: runs generation {old}, {new} is published; a reboot would change: "
            "rcConf.clear_tmp_enable: (nothing) -> YES"
        )
        assert play.statuses()[f"boot/{node}"]["message"] == "RebootPending: reboot it when it suits (policy manual)"
    assert play.everywhere() == before
    await play.next_pass()
    metrics = await play.metrics()
    assert all(metrics[f'jailops_host_generation_current{{host="{node}"}}'] == 0 for node in NODES)
    assert all(metrics[f'jailops_host_reboot_pending_since_timestamp_seconds{{host="{node}"}}'] > 0 for node in NODES)
    applied = await play.jailops("apply")
    assert applied.status == 3
    assert applied.out.splitlines()[-1] == "progressing: nothing to do, 4 waiting"

    for node in NODES:
        await play.stage.site.reboot(node)
    await play.converged()
    assert {play.look(node)["generation"] for node in NODES} == {new}
    assert {node: set(jails) for node, jails in play.everywhere().items()} == RUNNING
    assert 'clear_tmp_enable="YES"' in await play.on(NODES[0], "cat /etc/rc.conf")
    assert {play.state(f"node/{node}") for node in NODES} == {"Ready"}
    assert await print_of(play, old) == content, "a generation is never written to again"
    assert play.made("buildworld") == made["buildworld"]
    assert play.made("buildkernel") == made["buildkernel"]
    assert play.made("installworld") == made["installworld"]


async def test_a_failing_build_leaves_everything_as_it_is(play: Play) -> None:
    before, dhcp, known = play.everywhere(), play.look("boot-server")["dhcp"], await generations(play)
    play.build(fail="compile")
    play.stage.edit(FILE, "- WITHOUT_WIRELESS", "- WITHOUT_WIRELESS\n    - WITHOUT_GAMES")
    revision = await play.stage.push("No games")
    await play.until("the build has failed", lambda: play.state(WORLD) == "Stalled")
    status = play.statuses()[WORLD]
    found = LOG.fullmatch(status["message"])
    assert found, status["message"]
    log = (await play.on("build-vm", f"cat {log_of(status)}")).splitlines()
    assert log[int(found[1]) - 1].strip() == found["error"].strip()
    assert "error:" in found["error"]
    assert status["hint"].endswith(
        f"on build-vm; mend the cause and push, or try the same inputs again with: jailops retry {WORLD}"
    )
    done = await play.next_pass()
    assert done.result == "failed"
    assert "1 for a person to look at" in done.said
    assert play.look("boot-server")["dhcp"] == dhcp
    assert play.everywhere() == before
    metrics = await play.metrics()
    assert metrics['jailops_build_failed{image="freebsd13",layer="world"}'] == 1
    assert metrics['jailops_build_failures_total{image="freebsd13",layer="world"}'] == 1
    assert [one for one in await generations(play) if not one.startswith(".building-")] == known
    assert f"start the build of the world of freebsd13 {status['detail']['wanted']}" in await play.stage.note(revision)
    assert play.made() == 2, "it is not tried again and again"


async def test_another_try_of_the_same_inputs(play: Play) -> None:
    play.build()
    wanted = play.statuses()[IMAGE]["detail"]["wanted"]
    said = await play.jailops("retry", WORLD)
    assert (said.status, said.out) == (0, f"retry {WORLD}: noted; the daemon looks now\n")
    await play.until("it is built and published", lambda: all(path.endswith(wanted) for path in roots(play)))
    assert play.made() == 3
    await play.next_pass()
    assert play.state(IMAGE) == "Ready"
    assert (await play.metrics())['jailops_build_failed{image="freebsd13",layer="world"}'] == 0


async def test_a_failing_build_and_a_push_that_mends_it(play: Play) -> None:
    dhcp = play.look("boot-server")["dhcp"]
    play.build(fail="kernel")
    play.stage.edit(FILE, "device      md ", "device      mdd")
    await play.stage.push("A slip in the kernel's configuration")
    await play.until("the build has failed", lambda: play.state(WORLD) == "Stalled")
    assert LOG.fullmatch(play.statuses()[WORLD]["message"]), play.statuses()[WORLD]["message"]
    assert play.look("boot-server")["dhcp"] == dhcp
    play.build()
    made = play.made()
    await play.stage.git("revert", "--no-edit", "HEAD")
    await play.stage.git("push", "-q", "origin", "HEAD:main")
    await play.until("the image is as wanted", lambda: play.state(IMAGE) == "Ready")
    assert play.made() == made, "the generation that is published already is what the revert asks for"
    assert play.look("boot-server")["dhcp"] == dhcp
    for node in NODES:
        await play.stage.site.reboot(node)
    await play.converged()
    assert {node: set(jails) for node, jails in play.everywhere().items()} == RUNNING


async def test_the_hash_of_roots_password_ends_in_the_image_alone(play: Play) -> None:
    word = "$6$Gr4mm31$Z1mtst3rne.und/B1rnen"
    (play.stage.loaded.secrets.directory / "root.hash").write_text(f"{word}\n")
    before = set(roots(play))
    assert await master(play) == {"root:*:0:0:"}
    play.stage.edit(FILE, "  users:", "  rootPasswordHash:\n    file: root.hash\n\n  users:")
    await play.stage.push("A password for root at the console")
    await play.until("it is built and published", lambda: not before & set(roots(play)))
    assert await master(play) == {f"root:{word}:0:0:"}
    told = {**await leaks.kept(play.stage), **await leaks.shown(play)}
    assert leaks.found(play.stage, told) == []


async def master(play: Play) -> set[str]:
    """How root's line begins in the root file systems that are served."""
    served = {path.partition(":")[2] for path in roots(play)}
    lines = [await play.on("san", f"head -n 1 {path}/etc/master.passwd") for path in served]
    return {line[: line.index(":0:0:") + len(":0:0:")] for line in lines}


async def generations(play: Play) -> list[str]:
    return (await play.on("san", f"ls -A {IMAGES}")).split()


async def print_of(play: Play, generation: str) -> str:
    """Every path with its kind, mode, size, time and content."""
    listing = "find . -printf '%p %y %m %s %T@ %l\\n' | sort && find . -type f | sort | xargs sha256sum"
    return await play.on("san", f"cd {IMAGES}/{generation} && {listing}")


def roots(play: Play) -> list[str]:
    return [host["options"]["root-path"] for host in play.look("boot-server")["dhcp"].values()]


def files(play: Play) -> list[str]:
    return [host["filename"] for host in play.look("boot-server")["dhcp"].values()]


def log_of(status: object) -> str:
    found = re.search(r"the log is (\S+)", str(status))
    assert found
    return found[1]
