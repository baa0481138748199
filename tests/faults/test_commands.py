"""The command line on a running site: texts, data, exit statuses; with the daemon, without it, and two of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from controller import __version__
from tests.faults.leaks import found, hashes, kept, secrets, shown
from tests.faults.play import FIRST, PATIENCE, SECOND, Play, played
from tests.lab.loop.secrecy import Arguments, watched

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(PATIENCE)]

OBJECTS = 33
"""What the example comes to: exports, 2 luns, 2 shares, image, boot files, dhcp, and per node 7 and its jails."""
ADDRESS = "198.51.100.72"
CACHE = f"""\
---
apiVersion: jailops/v1
kind: Jail
metadata:
  name: cache
spec:
  host: {SECOND}
  addresses: [198.51.100.74]
"""


@pytest.fixture(scope="module")
def processes() -> Iterator[Arguments]:
    with watched() as arguments:
        yield arguments


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def play(tmp_path_factory: pytest.TempPathFactory, processes: Arguments) -> AsyncIterator[Play]:
    del processes
    directory = tmp_path_factory.mktemp("commands")
    with hashes(directory) as example:
        async with played(directory / "stage", example) as play:
            await play.converged()
            yield play


async def test_status(play: Play) -> None:
    said = await play.jailops("status")
    assert said.status == 0
    lines = said.out.splitlines()
    assert re.fullmatch(r"host +declared +built +published +booted +proved +failed *", lines[0])
    assert [line.split()[2:] for line in lines[1:3]] == [["yes"] * 4] * 2, "both hosts are where they should be"
    lines = lines[4:]
    assert re.fullmatch(r"object +state +since +what *", lines[0])
    assert len(lines) == OBJECTS + 2
    assert any(re.match(rf"jail/{FIRST}/example +Ready +\d+ (s|min) *$", line) for line in lines)
    assert re.fullmatch(r"last pass \d+ s ago, [0-9a-f]{12}: converged: nothing to do", lines[-1])
    data = (await play.jailops("status", "--output", "json")).data
    assert len(data) == OBJECTS
    (node,) = (one for one in data if one["object"] == f"node/{FIRST}")
    assert set(node) == {"object", "state", "since", "message", "hint", "busy", "detail", "origin", "ref"}
    assert (node["state"], node["origin"]["path"]) == ("Ready", f"hosts/{FIRST}.yaml")
    assert node["detail"]["rootPath"].startswith("198.51.100.10:/export/jailops/images/freebsd13/")


async def test_history(play: Play) -> None:
    said = await play.jailops("history", "--limit", "3")
    assert said.status == 0
    assert len(said.out.splitlines()) == 3
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ [0-9a-f]{12} converged: nothing to do", said.out.splitlines()[0]
    )
    data = (await play.jailops("history", "--output", "json", "--limit", "200")).data
    assert [one["id"] for one in data] == sorted((one["id"] for one in data), reverse=True)
    done = [one for each in data for one in each["record"]["outcomes"] if one["result"] == "done"]
    (create,) = (one for one in done if one["summary"] == f"create jail web on {SECOND}")
    assert create["cause"] == "new"
    assert {step["host"] for step in create["steps"]} == {SECOND}
    assert all(step["status"] == 0 and step["seconds"] >= 0 for step in create["steps"])
    none = await play.jailops("history", "--revision", "0123abc")
    assert (none.status, none.out) == (1, "")
    assert none.err.startswith("jailops: no pass is known for a commit 0123abc: ")


async def test_apply_wakes_the_daemon_and_follows_it(play: Play) -> None:
    last = play.passes()[0].id
    said = await play.jailops("apply")
    assert (said.status, said.out) == (0, "converged: nothing to do\n")
    record = (await play.jailops("apply", "--output", "json")).data
    assert (record["result"], record["said"]) == ("converged", "converged: nothing to do")
    assert "signal" in record["trigger"]
    assert record["revision"] == play.passes()[0].revision
    assert play.passes()[0].id >= last + 2
    stated = (await play.jailops("status", "--output", "json")).data
    told = {f"{one['ref']['kind']}/{one['ref']['name']}": one["state"] for one in record["statuses"]}
    assert told == {one["object"]: one["state"] for one in stated}


async def test_two_daemons_on_one_store(play: Play) -> None:
    said = await play.jailops("run")
    pid = (play.stage.directory / "store" / "lock").read_text().strip()
    assert said.status == 1
    assert said.err == (
        f"jailops: cannot start: another jailops (process {pid}) works with {play.stage.directory}/store\n"
        "  what you can do: ask it for a pass with: jailops apply; or stop it first\n"
    )
    assert play.stage.controller_runs
    await play.next_pass()


async def test_plan_shows_and_changes_nothing(play: Play) -> None:
    nothing = await play.jailops("plan")
    assert (nothing.status, nothing.out) == (0, f"nothing to do: {OBJECTS} objects are as the manifests want them\n")
    await play.stop()
    file = play.stage.work / "jails" / "jailbox2.yaml"
    file.write_text(file.read_text().replace("hostname: www.example.org", "hostname: web.example.org") + CACHE)
    await play.stage.push("A cache, and another name")
    await play.on(SECOND, f"ifconfig em0 inet {ADDRESS} -alias")
    mark = await play.stage.site.mark()

    said = await play.jailops("plan")
    assert said.status == 0
    assert re.search(
        rf"^~ Jail/{SECOND}/web changed in jails/{SECOND}\.yaml:\d+:1\n"
        r"      hostname: www\.example\.org -> web\.example\.org \[restart of the jail\]$",
        said.out,
        re.M,
    )
    assert f"+ addresses/{SECOND} add {ADDRESS}, 198.51.100.74 on em0 of {SECOND}\n" in said.out
    assert f"    intent: the jails' addresses differ, hosts/{SECOND}.yaml:4:1\n" in said.out
    assert f"then jail/{SECOND}/cache create jail cache on {SECOND}\n" in said.out
    assert f"    new: it does not exist, jails/{SECOND}.yaml:" in said.out
    data = (await play.jailops("plan", "--output", "json")).data
    assert set(data) == {"revision", "refused", "gitError", "questions", "changed", "now", "later", "held", "ready"}
    assert [(one["object"], [each["input"] for each in one["fields"]]) for one in data["changed"]] == [
        (f"Jail/{SECOND}/web", ["hostname"])
    ]
    assert sorted(one["object"] for one in data["now"]) == [f"addresses/{SECOND}", f"hostshare/{SECOND}"]
    assert {one["object"] for one in data["later"]} >= {f"jail/{SECOND}/cache"}
    assert set(data["now"][0]) == {"object", "summary", "reason", "risk", "cause", "origin", "inputs"}

    before = await play.jailops("plan", "--ref", "HEAD~1", "--output", "json")
    assert [(one["object"], one["cause"], one["summary"]) for one in before.data["now"]] == [
        (f"addresses/{SECOND}", "drift", f"add {ADDRESS} on em0 of {SECOND}")
    ]
    assert await play.stage.site.writes(mark) == {}
    wrong = await play.jailops("plan", "--ref", "nosuch")
    assert (wrong.status, wrong.err) == (
        1, "jailops: cannot use 'nosuch' as a revision\n  what you can do: a commit id, HEAD, HEAD~1 or the branch's name\n",
    )  # fmt: skip


async def test_apply_without_a_daemon_does_it_itself(play: Play) -> None:
    said = await play.jailops("apply", "--wait")
    assert said.status == 0, said.out
    lines = said.out.splitlines()
    assert re.search(rf"^done +jail/{SECOND}/cache create jail cache on {SECOND} \(\d+\.\d s\)$", said.out, re.M)
    assert re.fullmatch(r"converged: \d+ done", lines[-1])
    assert "cache" in play.jails(SECOND)
    assert play.passes()[0].record["trigger"] == "apply"
    again = await play.jailops("apply")
    assert (again.status, again.out) == (0, "converged: nothing to do\n")


async def test_apply_says_what_is_refused(play: Play) -> None:
    play.stage.edit(f"jails/{SECOND}.yaml", "addresses: [198.51.100.74]", "addresses: [198.51.100.71]")
    await play.stage.push("A slip")
    said = await play.jailops("apply")
    assert said.status == 1
    assert f"refused jails/{SECOND}.yaml:" in said.out
    assert "198.51.100.71" in said.out
    check = await play.jailops("check", "HEAD")
    assert check.status == 1
    assert check.out.splitlines()[-1] == "12 objects, 1 problems"
    clean = await play.jailops("check", "HEAD~1")
    assert (clean.status, clean.out) == (0, "12 objects, no problems\n")
    await play.stage.git("revert", "--no-edit", "HEAD")
    await play.stage.git("push", "-q", "origin", "HEAD:main")
    assert (await play.jailops("apply")).status == 0
    await play.start()
    await play.converged()


async def test_check_a_directory(play: Play, tmp_path: Path) -> None:
    said = await play.jailops("check", str(play.stage.work))
    assert (said.status, said.out) == (0, "12 objects, no problems\n")
    (tmp_path / "jail.yaml").write_text(
        "apiVersion: jailops/v1\nkind: Jail\nmetadata:\n  name: a\nspec:\n  host: b\n  adresses: [1.2.3.4]\n"
    )
    said = await play.jailops("check", str(tmp_path))
    assert said.status == 1
    first, second, third, last = said.out.splitlines()
    assert first == (
        "jail.yaml:5:1: Jail/b/a: spec.addresses: found nothing, expected a list (lines that begin with '- ')"
    )
    assert second.startswith("jail.yaml:7:3: Jail/b/a: spec.adresses: ")
    assert second.endswith('; did you mean "addresses"?')
    assert (
        third == 'jail.yaml:6:9: Jail/b/a: spec.host: found "b", expected the name of an existing Host (there is none)'
    )
    assert last == "0 objects, 3 problems"
    missing = await play.jailops("check", "0123abc")
    assert missing.status == 2
    assert missing.err.startswith(
        "jailops: cannot check 0123abc: no such directory, and no such revision: cannot find "
    )


USAGE = (
    (("retry", "web"), "jailops: cannot retry web: name the object as status does, KIND/NAME\n"),
    (
        ("retry", f"jail/{SECOND}/wed"),
        f"jailops: cannot retry jail/{SECOND}/wed: the last pass saw no such object, did you mean jail/{SECOND}/web?\n",
    ),
    (("approve", "HEAD"), "jailops: cannot approve HEAD: give the full id that the refusal names\n"),
    (
        ("approve", "f" * 40),
        f"jailops: cannot approve {'f' * 40}: nothing waits for one, as of the last pass (jailops apply makes another)\n",
    ),
    (
        ("history", "--revision", "main"),
        "jailops: cannot look for main: give a commit id, or at least its first four digits\n",
    ),
)


@pytest.mark.parametrize(("words", "message"), USAGE, ids=lambda one: " ".join(one) if isinstance(one, tuple) else "")
async def test_wrong_usage(play: Play, words: tuple[str, ...], message: str) -> None:
    said = await play.jailops(*words)
    assert (said.status, said.out, said.err) == (2, "", message)


async def test_wrong_words(play: Play) -> None:
    for words in (("plan", "--output", "xml"), ("status", "--nosuch"), ("nosuch",)):
        said = await play.jailops(*words)
        assert said.status == 2, words
        assert "Error" in said.err or "No such" in said.err


async def test_settings_that_are_not_there(play: Play, tmp_path: Path) -> None:
    said = await play.jailops("status", "--config", str(tmp_path / "none.toml"), settings=False)
    assert (said.status, said.err) == (
        2,
        f"jailops: cannot read the settings {tmp_path}/none.toml: No such file or directory\n"
        "  what you can do: write one with: jailops init --settings DIRECTORY; or name it with --config\n",
    )
    (tmp_path / "bad.toml").write_text('[git]\nurl = "/x"\nurll = "y"\n')
    said = await play.jailops("status", "--config", str(tmp_path / "bad.toml"), settings=False)
    assert said.status == 2
    first, second, third, *_ = said.err.splitlines()
    assert first == f"jailops: cannot use the settings {tmp_path}/bad.toml:"
    assert second == f"  {tmp_path}/bad.toml:1:1: ssh: found nothing, expected a section [ssh] with key_file"
    assert third.startswith(f'  {tmp_path}/bad.toml:3:8: git.urll: found the unknown setting "urll", expected url, ')


async def test_a_store_that_is_not_there_yet(play: Play, tmp_path: Path) -> None:
    text = play.stage.settings.read_text().replace(f"{play.stage.directory}/store", f"{tmp_path}/store")
    (tmp_path / "jailops.toml").write_text(text)
    said = await play.jailops("status", "--config", str(tmp_path / "jailops.toml"), settings=False)
    assert (said.status, said.err) == (
        1,
        f"jailops: cannot show anything yet: there is no store {tmp_path}/store/jailops.sqlite\n"
        "  what you can do: start with: jailops apply, or jailops run\n",
    )


async def test_words_that_need_no_site(play: Play, tmp_path: Path) -> None:
    assert (await play.jailops("version", settings=False)).out == f"{__version__}\n"
    kinds = (await play.jailops("schema", settings=False)).out.split()
    assert {"host.json", "image.json", "jail.json", "san.json"} <= set(kinds)
    schema = (await play.jailops("schema", "--kind", "Jail", settings=False)).data
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    wrong = await play.jailops("schema", "--kind", "Jial", settings=False)
    assert wrong.status == 2
    assert wrong.err.startswith("jailops: cannot print the schema of Jial: the kinds are ")
    written = await play.jailops("schema", str(tmp_path / "schemas"), settings=False)
    assert written.out == f"{len(kinds)} schemas written to {tmp_path}/schemas\n"

    site = tmp_path / "mysite"
    said = await play.jailops("init", str(site), settings=False)
    assert said.status == 0
    assert f"wrote {site}/jailops.toml\n" in said.out
    assert f"wrote {site}/repo/site.yaml\n" in said.out
    assert (await play.jailops("check", str(site / "repo"), settings=False)).status == 0
    again = await play.jailops("init", str(site), settings=False)
    assert (again.status, again.err) == (
        1, f"jailops: cannot start a site in {site}: it is not empty\n  what you can do: name a new directory\n",
    )  # fmt: skip


async def test_a_reader_beside_the_daemon_does_not_disturb_it(play: Play) -> None:
    """Six commands at once read the store and the mirror while passes write them."""
    words = (
        ("status",),
        ("history",),
        ("plan",),
        ("check", "HEAD"),
        ("plan", "--ref", "HEAD"),
        ("status", "-o", "json"),
    )
    said = await asyncio.gather(*(play.jailops(*each) for each in words))
    assert [one.status for one in said] == [0] * len(words), [one.err for one in said]
    done = await play.next_pass()
    assert done.said == "converged: nothing to do"
    assert "[error" not in play.log


async def test_no_secret_is_told(play: Play, processes: Arguments) -> None:
    assert len(secrets(play.stage)) == 7, (
        "two host keys, a CHAP secret, our key, two password hashes, and age's identity"
    )
    places = {**await kept(play.stage), **await shown(play)}
    assert {"log", "/metrics", "jailops status"} <= places.keys()
    assert any(b"controller\0run" in line for line in processes.seen)
    assert any(b"GIT_" in one for one in processes.environments)
    places |= {f"arguments {line!r}": line for line in processes.seen}
    # asyncssh asks the linker for a library and GitPython git for its version as they are imported, before anything of ours.
    imports = (b"oqs\0", b"git\0version\0")
    children = [one for one in processes.environments if not any(word in one for word in imports)]
    places |= {f"environment {one!r}"[:200]: one for one in children}
    assert found(play.stage, places) == []
    hit = secrets(play.stage)[f"{FIRST}/chap"][0]
    assert found(play.stage, {"a page": b"a " + hit}) == [f"{FIRST}/chap: a page"], "it finds what it looks for"
