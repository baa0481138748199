"""Reboots by policy: a rollout in waves, and generations that do not come up. One stage for all, told in one story.

Each bad generation fails in its own way: a node that never answers again, one without its disk, one that the SAN refuses, one
whose root can be written. Every time the canary must be back on what it ran, its jails up, and nobody else touched, and a real
Prometheus with the rules as they are shipped must call somebody.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from controller.starter import repository
from tests.faults.play import FIRST, PATIENCE, RUNNING, SECOND, Play, played
from tests.lab.child import lab_directory
from tests.lab.prometheus import RULES, Prometheus, prometheus

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(2 * PATIENCE)]

FILE, ANOTHER = "images/freebsd13.yaml", "images/another.yaml"
DEADLINE = 30
"""Seconds. A simulated node boots in three, on a busy computer in ten."""
SLACK = 30
"""Seconds that passes, DHCP and a scrape may add on a busy computer: mostly seven."""


IMPOSTOR = f"""jails {{ TargetAddress = 198.51.100.10:3260; TargetName = iqn.2026-11.org.example:{FIRST};
InitiatorName = iqn.2026-11.org.example:somebody-else; }}
"""
"""An iscsi.conf(5) that names another initiator than the target lets in: every generation has it, one reads it."""


def example() -> dict[str, str]:
    """The example, whose nodes may be rebooted at once, the article's first."""
    files = repository()
    reboot = f"\n  reboot:\n    policy: immediate\n    deadline: {DEADLINE}s\n"
    first, second = f"hosts/{FIRST}.yaml", f"hosts/{SECOND}.yaml"
    files[first] = files[first].replace("\nspec:\n", f"\nspec:{reboot}")
    files[second] = files[second].replace("policy: manual  ", f"policy: immediate\n    deadline: {DEADLINE}s  ")
    files[FILE] = files[FILE].replace("\nspec:\n", f"\nspec:\n  rollout:\n    canary: [{FIRST}]\n")
    impostor = f"  files:\n    - path: /etc/impostor.conf\n      content: {json.dumps(IMPOSTOR)}\n"
    files[FILE] = files[FILE].replace("keep: 3 ", "keep: 9 ").replace("\n  rcConf:", f"\n{impostor}  rcConf:")
    return files


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Play]:
    async with played(tmp_path_factory.mktemp("rollouts") / "stage", example()) as play:
        await play.converged()
        await with_bmc(play)
        yield play


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(play: Play) -> AsyncIterator[Prometheus]:
    here = play.stage.listen
    with lab_directory() as directory, prometheus(play.stage.placed, directory, [here], RULES.read_text()) as server:
        yield server


def booted(play: Play, node: str) -> float:
    return float(play.look(node)["boottime"])


def runs(play: Play, node: str) -> str:
    return str(play.look(node)["generation"])


def jails(play: Play) -> dict[str, set[str]]:
    return {node: set(found) for node, found in play.everywhere().items()}


def knob(text: str) -> tuple[str, str]:
    return "sendmail_enable: NONE", f"sendmail_enable: NONE\n    {text}"


async def test_a_first_boot_is_proved_and_nothing_is_rebooted(play: Play) -> None:
    assert [play.state(f"boot/{node}") for node in (FIRST, SECOND)] == ["Ready", "Ready"]
    acts = play.acts(0)
    generation = runs(play, FIRST)
    assert {f"note that {node} proved {generation}" for node in (FIRST, SECOND)} <= set(acts)
    assert not [one for one in acts if one.startswith("reboot")]
    status = await play.jailops("status")
    assert status.out.splitlines()[0].split() == [
        "host",
        "declared",
        "built",
        "published",
        "booted",
        "proved",
        "failed",
    ]
    assert status.out.splitlines()[1].split() == [FIRST, generation, "yes", "yes", "yes", "yes"]
    await play.next_pass()
    metrics = await play.metrics()
    assert metrics[f'jailops_host_generation_hop{{hop="proved",host="{FIRST}"}}'] == 1


async def test_a_rollout_goes_host_by_host_and_the_canary_first(play: Play) -> None:
    old, act = runs(play, FIRST), play.last_act()
    before = {node: booted(play, node) for node in (FIRST, SECOND)}
    play.stage.edit(FILE, *knob('clear_tmp_enable: "YES"'))
    await play.stage.push("Empty /tmp at boot")
    await play.until("both run the new one", lambda: old not in {runs(play, FIRST), runs(play, SECOND), ""}, 120)
    await play.converged()
    new = runs(play, FIRST)
    assert runs(play, SECOND) == new
    assert jails(play) == RUNNING
    assert before[FIRST] < booted(play, FIRST) < booted(play, SECOND)
    told = [one for one in play.acts(act) if one.startswith(("reboot", "note", "mark"))]
    assert told == [
        f"reboot {FIRST} into {new}",
        f"note that {FIRST} proved {new}",
        f"reboot {SECOND} into {new}",
        f"note that {SECOND} proved {new}",
    ]


async def test_a_paused_rollout_waits(play: Play) -> None:
    assert (await play.jailops("rollout", "pause", "freebsd13")).out.startswith("pause freebsd13: noted")
    assert (await play.jailops("rollout", "pause", "freebsd13")).out == "pause freebsd13: it is paused already\n"
    before, act = runs(play, FIRST), play.last_act()
    play.stage.edit(FILE, 'clear_tmp_enable: "YES"', 'clear_tmp_enable: "NO"')
    await play.stage.push("Keep /tmp")
    await play.until("it waits", lambda: "is paused" in str(play.statuses()[f"boot/{FIRST}"]["message"]))
    assert "paused: the rollout of freebsd13" in (await play.jailops("status")).out
    assert runs(play, FIRST) == before
    assert [one for one in play.acts(act) if one.startswith("reboot")] == []
    assert (await play.jailops("rollout", "resume", "freebsd13")).status == 0
    again = await play.jailops("rollout", "resume", "freebsd13")
    assert (again.status, again.err) == (2, "jailops: cannot resume freebsd13: its rollout is not paused\n")
    await play.until("it goes on", lambda: runs(play, SECOND) not in ("", before), 120)
    await play.converged()


BAD = {
    "away": ('sshd_enable: "YES"', 'sshd_enable: "NO"'),
    "disk": knob('iscsictl_enable: "NO"\n    jailops_disk_wait: "3"'),
    "login": knob('iscsictl_flags: "-Aa -c /etc/impostor.conf -w 3"\n    jailops_disk_wait: "3"'),
    "root": knob('root_rw_mount: "YES"'),
}
ALERT = "JailopsBootFailed"
MISSING = {
    "away": "it does not answer",
    "disk": "its iSCSI session is not there (state absent)",
    "login": "its iSCSI session is not there (state Authorization failure)",
    "root": "its root is not mounted read-only",
}


@pytest.mark.parametrize("lacks", BAD)
async def test_a_generation_that_does_not_come_up_is_left_again(play: Play, server: Prometheus, lacks: str) -> None:
    """Its canary is back on what it ran, by itself and in time; the other node never saw it; an alert fires until a newer
    commit; the commit says so."""
    good, other, act, begun = runs(play, FIRST), booted(play, SECOND), play.last_act(), time.time()
    play.stage.edit(FILE, *BAD[lacks])
    bad_commit = await play.stage.push(f"A node that lacks: {lacks}")
    await play.until("it is marked", lambda: any("as bad" in one for one in play.acts(act)), 200)
    await play.until("the canary is back", lambda: proved_again(play, act, good), 200)
    await play.until("all is quiet", lambda: play.state(f"boot/{FIRST}") == "Ready")

    assert (runs(play, FIRST), runs(play, SECOND)) == (good, good)
    assert jails(play) == RUNNING
    assert booted(play, SECOND) == other, "nobody else was rebooted"
    assert served(play) == {good}
    (hops,) = [one for one in play.passes(1)[0].record["hosts"] if one["host"] == FIRST]
    (bad,) = hops["failed"]
    assert hops["declared"] == bad
    marks = json.loads(await play.on("san", f"cat /export/jailops/boots/{FIRST}.json"))["failed"]
    why = marks[bad]["why"]
    assert why.startswith(f"not proved within {DEADLINE} s: ")
    assert MISSING[lacks] in why
    assert re.search(r"; it [a-z].* at \d\d:\d\d:\d\d", why), "how far it came, by the logs of the servers"
    told = [one for one in play.acts(act) if one.startswith(("reboot", "switch", "note", "mark"))]
    how = f"switch {FIRST} off and on" if lacks == "away" else f"reboot {FIRST}"
    assert told == [
        f"reboot {FIRST} into {bad}",
        f"mark {bad} as bad for {FIRST}",
        f"{how} into {good}",
        f"note that {FIRST} proved {good}",
    ]
    asked, marked, back, proved = times(play, act)
    assert DEADLINE <= marked - asked <= 2 * DEADLINE + SLACK, "its own boot begins anew what a boot may take"
    assert back - marked <= SLACK
    assert proved - back <= DEADLINE
    await play.next_pass()
    assert (await play.metrics())[f'jailops_host_boot_failed{{host="{FIRST}"}}'] == 1
    await play.until("the alert fires, also when all is quiet", lambda: lasts(server, begun, proved))
    (alert,) = server.fired(ALERT, begun)
    assert alert.labels == {"severity": "critical", "host": FIRST, "job": "jailops", "instance": play.stage.listen}
    assert marked <= alert.first <= marked + SLACK
    note = await play.stage.note(bad_commit)
    assert f"mark {bad} as bad for {FIRST}" in note

    play.stage.edit(FILE, *reversed(BAD[lacks]))
    await play.stage.push("Revert it")
    await play.converged()
    await play.next_pass()
    assert (await play.metrics())[f'jailops_host_boot_failed{{host="{FIRST}"}}'] == 0
    await play.until("the alert has ended", lambda: ALERT not in server.alerts())
    assert booted(play, SECOND) == other


async def test_a_bmc_that_refuses_us_is_asked_again_when_something_has_changed(play: Play) -> None:
    """Many lock a user out. Refused tries are none: the way back is as it was once the BMC lets us in."""
    good, act = runs(play, FIRST), play.last_act()
    password(play, "Wr0ng")
    play.stage.edit(FILE, *BAD["away"])
    await play.stage.push("No sshd, and a BMC that has another password")
    await play.until("it is refused", lambda: heard(play, act) == ["refuses"], 200)
    await play.until(
        "it is said", lambda: f"jailops retry node/{FIRST}" in str(play.statuses()[f"boot/{FIRST}"]["hint"])
    )
    await play.until("the pause is over", lambda: "has refused" in heard(play, act), 200)
    assert heard(play, act).count("refuses") == 1
    assert (await play.jailops("retry", f"node/{FIRST}")).status == 0
    await play.until("a person asked", lambda: heard(play, act).count("refuses") == 2, 200)
    password(play, "simulated")
    await play.until("the canary is back", lambda: proved_again(play, act, good), 200)
    switched = [one for one in play.acts(act) if one.startswith("switch")]
    assert set(switched) == {f"switch {FIRST} off and on into {good}"}, "never a second try"
    play.stage.edit(FILE, *reversed(BAD["away"]))
    await play.stage.push("Revert it")
    await play.converged()


async def test_rollback_pins_until_a_newer_commit(play: Play) -> None:
    good = runs(play, FIRST)
    nothing = await play.jailops("rollback", "host/nosuch", "--reason", "x")
    assert (nothing.status, nothing.err) == (
        1,
        "jailops: cannot use host nosuch: the last pass saw no such host\n"
        f"  what you can do: there is {FIRST}, {SECOND}\n",
    )
    said = await play.jailops("rollback", "image/freebsd13", "--to", "abc", "--reason", "x")
    assert said.err.startswith(
        "jailops: cannot roll back image/freebsd13 to abc: there is no such generation of freebsd13"
    )
    assert (await play.jailops("rollback", "image/freebsd13", "--reason", "ticket 17")).status == 0
    await play.until("both went back", lambda: good not in {runs(play, FIRST), runs(play, SECOND), ""}, 120)
    await play.until("both proved it", lambda: [play.state(f"boot/{one}") for one in (FIRST, SECOND)] == ["Ready"] * 2)
    # What the manifests want live is not applied to what is pinned to something else.
    assert {play.state(f"live/{one}") for one in (FIRST, SECOND)} == {"Waiting"}
    assert 'clear_tmp_enable="YES"' in await play.on(FIRST, "cat /etc/rc.conf"), (
        "what was wanted before, not what failed since"
    )
    (told, _) = play.passes(1)[0].record["pinned"]
    assert told.startswith(f"{FIRST}: pinned to {runs(play, FIRST)} by ")
    assert told.endswith(": ticket 17")
    assert "pinned: " in (await play.jailops("status")).out
    assert f"  pinned        {told}" in await play.stage.note(play.passes(1)[0].revision)

    to = runs(play, FIRST)
    assert (await play.jailops("rollback", FIRST, "--to", to, "--reason", "again")).status == 0
    await play.next_pass()
    (one, other) = play.passes(1)[0].record["pinned"]
    assert one == f"{FIRST}: pinned to {to} by {getpass.getuser()}@{socket.gethostname()}: again"
    assert other.endswith(": ticket 17")
    play.stage.edit("site.yaml", "interval:", "# nothing else\n  interval:")
    await play.stage.push("Another commit")
    await play.until("both go on", lambda: {runs(play, FIRST), runs(play, SECOND)} == {good}, 120)
    await play.converged()
    assert play.passes(1)[0].record["pinned"] == []


async def test_a_host_that_moved_to_another_image_goes_back_into_the_one_it_had(play: Play) -> None:
    good, other, act = runs(play, FIRST), booted(play, SECOND), play.last_act()
    host = f"hosts/{FIRST}.yaml"
    text = (play.stage.work / FILE).read_text().replace("name: freebsd13", "name: another")
    (play.stage.work / ANOTHER).write_text(text.replace(*knob('root_rw_mount: "YES"')))
    play.stage.edit(FILE, f"canary: [{FIRST}]", "canary: []")
    play.stage.edit(host, "image: freebsd13", "image: another")
    await play.stage.push("Move it to an image that does not come up")
    await play.until("it is marked", lambda: any("as bad" in one for one in play.acts(act)), 200)
    await play.until("it is back", lambda: proved_again(play, act, good), 200)
    await play.until("all is quiet", lambda: play.state(f"boot/{FIRST}") == "Ready")
    assert play.look(FIRST)["root"].endswith(f"/images/freebsd13/{good}")
    options = play.look("boot-server")["dhcp"][FIRST]["options"]
    assert options["root-path"].endswith(f"/images/freebsd13/{good}")
    assert (jails(play), booted(play, SECOND)) == (RUNNING, other)
    assert play.state("retention/san") == "Ready"
    assert f"images/freebsd13/{good}" in play.statuses()["retention/san"]["detail"]["stays"]

    play.stage.edit(ANOTHER, *reversed(knob('root_rw_mount: "YES"')))
    await play.stage.push("Mend it")
    await play.until("it runs the image it moved to", lambda: runs(play, FIRST) not in ("", good), 200)
    await play.converged()
    assert "/images/another/" in play.look(FIRST)["root"]


def proved_again(play: Play, act: int, good: str) -> bool:
    return f"note that {FIRST} proved {good}" in play.acts(act)


def times(play: Play, act: int) -> list[float]:
    """When each act of a host's boots was begun, by the controller's journal."""
    return [
        row[0] for row in play.rows(f"SELECT intended_at FROM journal WHERE id > {act} AND kind = 'boot' ORDER BY id")
    ]


def lasts(server: Prometheus, since: float, after: float) -> bool:
    """Whether an alert that fired since a moment fires after another one still."""
    return any(one.last > after for one in server.fired(ALERT, since))


def served(play: Play) -> set[str]:
    """The generations that DHCP names."""
    found = play.look("boot-server")["dhcp"]
    return {found[node]["options"]["root-path"].rpartition("/")[2] for node in (FIRST, SECOND)}


def heard(play: Play, act: int) -> list[str]:
    """What became of each login at the BMC that did not go well, oldest first."""
    messages = [
        row[0] for row in play.rows(f"SELECT message FROM journal WHERE id > {act} AND message != '' ORDER BY id")
    ]
    return [
        found[1] for one in messages if (found := re.search(r"its BMC \S+ ((?:has )?refuse[sd]) the login of", one))
    ]


def password(play: Play, text: str) -> None:
    (play.stage.loaded.secrets.directory / "bmc").write_text(f"{text}\n")


async def with_bmc(play: Play) -> None:
    """From the next push on the canary's power is the controller's to switch."""
    bmc = await play.stage.site.bmc(FIRST)
    password(play, "simulated")
    power = f"ipmi: {{address: 127.0.0.1, port: {bmc.port}, user: jailops, password: {{file: bmc}}}}"
    play.stage.edit(f"hosts/{FIRST}.yaml", "\nspec:\n", f"\nspec:\n  power:\n    {power}\n")
