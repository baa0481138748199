"""What a running node takes of a push without a reboot, and what waits for one: the same is true after the next boot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncssh
import pytest
import pytest_asyncio

from tests.faults.play import FIRST, NODES, PATIENCE, Play, played

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

FILE, HOST = "images/freebsd13.yaml", f"hosts/{FIRST}.yaml"
IMAGES = "/export/jailops/images/freebsd13"
KEYS = "/etc/ssh/authorized_keys.d"
CONTROLLERS = "  rootAuthorizedKeys:        # the controller's own key must be among them\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    async with played(tmp_path_factory.mktemp("live") / "stage") as play:
        await play.converged()
        yield play


async def test_a_setting_and_a_key_are_applied_to_the_running_nodes(play: Play) -> None:
    somebody = asyncssh.generate_private_key("ssh-ed25519")
    public = somebody.export_public_key().decode().strip()
    before, jails = runs(play), play.everywhere()
    pids = {node: await pid(play, node, "cron") for node in NODES}
    assert not await lets_in(play, FIRST, somebody)
    (old,) = set(before.values())

    play.stage.edit(FILE, "sendmail_enable: NONE", 'sendmail_enable: NONE\n    cron_flags: "-s"')
    play.stage.edit(FILE, CONTROLLERS, f"{CONTROLLERS}    - {public} somebody\n")
    await play.stage.push("Quiet cron, and somebody may log in")
    await play.until("the new generation is published", lambda: served(play) not in ("", old))
    new = served(play)
    await play.converged()

    assert runs(play) == before, "nobody was rebooted"
    assert play.everywhere() == jails
    for node in NODES:
        assert play.state(f"node/{node}") == "Ready"
        assert play.state(f"live/{node}") == "Ready"
        assert await pid(play, node, "cron") not in ("", pids[node]), "it was started with its new flags"
        assert await lets_in(play, node, somebody)
        assert await files(play, node) == await brought(play, new)
    metrics = await play.metrics()
    assert all(metrics[f'jailops_host_generation_current{{host="{node}"}}'] == 1 for node in NODES)

    live = {node: await files(play, node) for node in NODES}
    for node in NODES:
        await play.stage.site.reboot(node)
    await play.converged()
    assert runs(play) == dict.fromkeys(NODES, new)
    assert {node: await files(play, node) for node in NODES} == live
    assert await lets_in(play, FIRST, somebody)


async def test_what_is_changed_by_hand_is_put_back(play: Play) -> None:
    good, last = await files(play, FIRST), play.last_act()
    await play.stop()
    await play.on(FIRST, f"echo eve > {KEYS}/eve; sysrc -x cron_flags; service cron onestop")
    await play.start()
    await play.converged()
    assert await files(play, FIRST) == good
    assert await pid(play, FIRST, "cron") != ""
    assert play.acts(last) == [
        f"apply to the running {FIRST}: write /etc/rc.conf cron_flags; remove keys of eve; start cron"
    ]


async def test_a_key_that_goes_lets_nobody_in_although_the_root_is_read_only(play: Play) -> None:
    somebody = asyncssh.generate_private_key("ssh-ed25519")
    line = f"    - {somebody.export_public_key().decode().strip()} somebody\n"
    play.stage.edit(FILE, CONTROLLERS, f"{CONTROLLERS}{line}")
    await play.stage.push("Somebody comes")
    await play.converged()
    assert await lets_in(play, FIRST, somebody)
    play.stage.edit(FILE, line, "")
    await play.stage.push("Somebody goes")
    await play.converged()
    assert not await lets_in(play, FIRST, somebody)


async def test_a_setting_of_the_loader_waits_for_a_reboot_and_the_plan_says_so(play: Play) -> None:
    old, last = served(play), play.last_act()
    play.stage.edit(FILE, "  users:  ", "  loaderConf:\n    kern.racct.enable: '1'\n\n  users:  ")
    play.stage.edit(FILE, 'cron_flags: "-s"', 'cron_flags: "-s -J 10"')
    await play.stop()
    await play.stage.push("Resource limits, and cron with jitter")
    plan = await play.jailops("plan")
    assert "loaderConf.kern.racct.enable: (nothing) -> 1 [reboot]" in plan.out
    assert "rcConf.cron_flags: -s -> -s -J 10 [live, restart of cron]" in plan.out
    told = await play.jailops("plan", "--output", "json")
    (image,) = [one for one in told.data["now"] if one["object"] == "image/freebsd13"]
    assert [(one["input"], one["effect"]["kind"]) for one in image["inputs"]] == [
        ("loaderConf.kern.racct.enable", "reboot"),
        ("rcConf.cron_flags", "restart"),
    ]

    await play.start()
    await play.until("it is published", lambda: served(play) not in ("", old))
    await play.until("reboots are pending", lambda: {play.state(f"node/{node}") for node in NODES} == {"Waiting"})
    await play.until("cron has its flags", lambda: len([one for one in play.acts(last) if "cron" in one]) == 2)
    await play.next_pass()
    for node in NODES:
        assert play.statuses()[f"node/{node}"]["message"] == (
            f"RebootPending: runs generation {runs(play)[node]}, {served(play)} is published; a reboot would change: "
            "loaderConf.kern.racct.enable: (nothing) -> 1"
        )
        assert play.state(f"live/{node}") == "Ready"
        assert await files(play, node) == await brought(play, served(play))


async def test_what_a_host_takes_at_boot_alone_waits_for_one(play: Play) -> None:
    for node in NODES:
        await play.stage.site.reboot(node)
    await play.converged()
    up = play.look(FIRST)["boottime"]
    play.stage.edit(HOST, "gateway: 198.51.100.1", "gateway: 198.51.100.254")
    play.stage.edit(HOST, "\nspec:\n", "\nspec:\n  hostname: box\n  rcConf: {kld_list: if_tap}\n")
    await play.stage.push("Another router, a name and a module")
    changes = f"gateway: 198.51.100.1 -> 198.51.100.254; hostname: {FIRST} -> box; rcConf.kld_list: (nothing) -> if_tap"
    pending = f"RebootPending: a reboot would change: {changes}"
    await play.until("it is pending", lambda: play.statuses()[f"bootconf/{FIRST}"]["message"] == pending)
    await play.next_pass()
    done = await play.next_pass()
    assert done.result == "progressing", "what waits for a reboot is not as the manifests say"
    assert f"bootconf/{FIRST}" in (await play.jailops("plan")).out
    assert (await play.metrics())[f'jailops_host_reboot_pending_since_timestamp_seconds{{host="{FIRST}"}}'] > 0
    assert play.look(FIRST)["boottime"] == up
    assert {play.state(f"lun/{FIRST}"), play.state(f"session/{FIRST}")} == {"Ready"}, (
        "its disk does not follow its host name"
    )

    await play.stage.site.reboot(FIRST)
    await play.converged()
    await play.next_pass()  # the page follows at the end of a pass
    assert (await play.on(FIRST, "kenv -q boot.netif.gateway; hostname")).split() == ["198.51.100.254", "box"]
    assert (await play.metrics())[f'jailops_host_reboot_pending_since_timestamp_seconds{{host="{FIRST}"}}'] == 0
    await play.on(FIRST, "echo 'kld_list=\"if_tap if_bridge\"' >> /etc/rc.conf.local")
    by_hand = (
        "changed by hand since it booted, its next boot brings it back: rcConf.kld_list: if_tap if_bridge -> if_tap"
    )
    await play.until("it is told", lambda: play.statuses()[f"bootconf/{FIRST}"]["message"] == by_hand)


def runs(play: Play) -> dict[str, str]:
    return {node: str(play.look(node)["generation"]) for node in NODES}


def served(play: Play) -> str:
    """The generation that every node would boot now; empty while they differ."""
    entries = play.look("boot-server")["dhcp"]
    found = {str(entries[node]["options"]["root-path"]).rpartition("/")[2] for node in NODES if node in entries}
    return found.pop() if len(found) == 1 else ""


async def pid(play: Play, node: str, service: str) -> str:
    said = await play.on(node, f"service {service} onestatus || :")
    return said.partition("as pid ")[2].strip(" .\n")


async def files(play: Play, node: str) -> str:
    return await play.on(node, f"cat /etc/rc.conf; for f in {KEYS}/*; do echo $f; stat -f '%Sp %u %g' $f; cat $f; done")


async def brought(play: Play, generation: str) -> str:
    """The same files in the generation, as they lie on the SAN."""
    root = f"{IMAGES}/{generation}"
    return await play.on(
        "san",
        f"cat {root}/etc/rc.conf; cd {root}; for f in .{KEYS}/*; do echo ${{f#.}}; stat -c '%A %u %g' $f; cat $f; done",
    )


async def lets_in(play: Play, node: str, key: asyncssh.SSHKey) -> bool:
    """Whether the node's sshd lets root in with a key, now."""
    endpoint = play.stage.site.endpoints[node]
    known = asyncssh.import_known_hosts(f"[{endpoint.host}]:{endpoint.port} {endpoint.host_key}\n")
    try:
        async with (
            asyncio.timeout(20),
            asyncssh.connect(endpoint.host, endpoint.port, username="root", client_keys=[key], known_hosts=known),
        ):
            return True
    except asyncssh.PermissionDenied:
        return False
