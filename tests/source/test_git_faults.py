"""Rows G1 to G4 and G10 of the fault matrix: what goes wrong between us and the remote, on real servers."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import Retry, Stall
from controller.source import Accepted, GitSettings, GitSource, Refused
from tests.source.remotes import TOKEN, Https, Person, Ssh, flip, git, leftovers, processes_naming, said

SITE = {"site.yaml": "kind: Site\n", "hosts/node1.yml": "kind: Host\n"}
NOISE = os.urandom(3_000_000)


SAYS = [{"kind": "Site"}]


async def text_of(source: GitSource, revision: str, path: str) -> object:
    return (await said(source, revision))[path]


async def test_a_push_is_fetched_over_every_transport(person: Person, any_settings: GitSettings) -> None:
    source = GitSource(any_settings)
    first = person.publish(SITE, "first")
    head = await source.fetch()
    assert (head.revision, head.author, head.email, head.subject) == (first, "Ada Admin", "ada@example.org", "first")
    assert head.committed_at == 1700000000.0
    second = person.publish({"site.yaml": "kind: Site\nspec: {}\n"}, "second")
    assert (await source.fetch()).revision == second
    assert await text_of(source, second, "site.yaml") == [{"kind": "Site", "spec": {}}]
    assert await text_of(source, first, "site.yaml") == SAYS


# ── G1 remote down, refused ──────────────────────────────────────────────────────────────────────────────────────


async def still_serves(source: GitSource, revision: str) -> None:
    """The last good revision stays readable without the remote."""
    head = await source.head()
    assert head
    assert head.revision == revision
    assert await text_of(source, revision, "site.yaml") == SAYS


async def test_G1_local_remote_gone(person: Person, source: GitSource) -> None:
    good = person.publish(SITE)
    await source.fetch()
    person.remote.rename(person.remote.with_name("away"))
    with pytest.raises(Stall, match=r"^cannot fetch main from file://.*: there is no such repository") as caught:
        await source.fetch()
    assert caught.value.hint == "check git.url in jailops.toml and what the token or key may read"
    await still_serves(source, good)


async def test_G1_connection_refused(person: Person, https_settings: GitSettings) -> None:
    good = person.publish(SITE)
    await GitSource(https_settings).fetch()
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    source = GitSource(replace(https_settings, url=f"https://localhost:{port}/infra.git"))
    with pytest.raises(Retry, match=r"cannot fetch main from https://localhost:.*: the host refuses the connection"):
        await source.fetch()
    await still_serves(source, good)


async def test_G1_name_not_known(https_settings: GitSettings) -> None:
    source = GitSource(replace(https_settings, url="https://git.invalid/infra.git"))
    with pytest.raises(Retry, match=r"the host's name cannot be resolved"):
        await source.fetch()


@pytest.mark.parametrize(
    ("status", "kind", "says"),
    [
        (401, Stall, "the host does not accept our token, or wants one"),
        (403, Stall, "the host does not accept our token, or wants one"),
        (404, Stall, "there is no such repository, or we are not allowed to see it"),
        (429, Retry, "the host has trouble of its own"),
        (503, Retry, "the host has trouble of its own"),
        (301, Stall, "the repository has moved"),
        (302, Stall, "the repository has moved"),
    ],
)
async def test_G1_https_answers(
    person: Person, https: Https, https_settings: GitSettings, status: int, kind: type[Exception], says: str
) -> None:
    good = person.publish(SITE)
    source = GitSource(https_settings)
    await source.fetch()
    https.status = status
    with pytest.raises(kind, match=says):
        await source.fetch()
    await still_serves(source, good)


async def test_G1_wrong_token_and_its_replacement(person: Person, https: Https, https_settings: GitSettings) -> None:
    good = person.publish(SITE)
    https.token_file.write_text("expired-token-1234\n")
    source = GitSource(https_settings)
    with pytest.raises(Stall, match=r"does not accept our token") as caught:
        await source.fetch()
    assert "expired-token-1234" not in str(caught.value)
    https.token_file.write_text(TOKEN + "\n")
    assert (await source.fetch()).revision == good


async def test_G1_token_file_unusable(https: Https, https_settings: GitSettings) -> None:
    source = GitSource(https_settings)
    https.token_file.write_text("\n")
    with pytest.raises(Stall, match=r"token is empty"):
        await source.fetch()
    https.token_file.unlink()
    with pytest.raises(Stall, match=r"cannot read .*token: No such file or directory"):
        await source.fetch()


async def test_G1_untrusted_certificate(person: Person, https_settings: GitSettings) -> None:
    person.publish(SITE)
    with pytest.raises(Stall, match=r"the host's TLS certificate is not trusted") as caught:
        await GitSource(replace(https_settings, ca_file=None)).fetch()
    assert "git.ca_file" in caught.value.hint


async def test_G1_ssh_refuses_our_key(person: Person, ssh: Ssh, ssh_settings: GitSettings) -> None:
    person.publish(SITE)
    with pytest.raises(Stall, match=r"the host does not accept our SSH key"):
        await GitSource(replace(ssh_settings, ssh_key_file=ssh.other_key_file)).fetch()


async def test_G1_ssh_host_key_is_not_the_pinned_one(person: Person, ssh: Ssh, ssh_settings: GitSettings) -> None:
    person.publish(SITE)
    with pytest.raises(Stall, match=r"the host shows another SSH key than the pinned one"):
        await GitSource(replace(ssh_settings, host_keys=(ssh.other_host_key,))).fetch()


async def test_two_host_keys_may_be_pinned_while_one_is_replaced(
    person: Person, ssh: Ssh, ssh_settings: GitSettings
) -> None:
    good = person.publish(SITE)
    source = GitSource(replace(ssh_settings, host_keys=(ssh.other_host_key, f"some.host {ssh.host_key}")))
    assert (await source.fetch()).revision == good


# ── G2 hang ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_G2_hang_in_the_middle_of_a_pack(
    person: Person, https: Https, https_settings: GitSettings, mirror: Path
) -> None:
    good = person.publish(SITE)
    source = GitSource(replace(https_settings, deadline=4.0))
    await source.fetch()
    bad = person.publish({"noise.bin": NOISE})
    https.stall_after = 400_000
    fetching = asyncio.create_task(source.fetch())
    await asyncio.to_thread(https.stalled.wait, 10)
    family = processes_naming(str(mirror))
    assert any("git-remote-https" in cmdline or "remote-https" in cmdline for cmdline, _ in family)
    assert not any(TOKEN in cmdline or TOKEN in environ for cmdline, environ in family)
    await still_serves(source, good)  # while the fetch hangs, the last good revision can be read
    with pytest.raises(Retry, match=r"cannot fetch main from https://.*: not done after 4 s, so it was ended"):
        await fetching
    assert leftovers(mirror) == []
    assert processes_naming(str(mirror)) == []
    https.stall_after = None
    assert (await GitSource(https_settings).fetch()).revision == bad


async def test_G2_cancelled_fetch_leaves_no_child(
    person: Person, https: Https, https_settings: GitSettings, mirror: Path
) -> None:
    person.publish({"noise.bin": NOISE})
    https.stall_after = 400_000
    fetching = asyncio.create_task(GitSource(https_settings).fetch())
    await asyncio.to_thread(https.stalled.wait, 10)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert processes_naming(str(mirror)) == []
    assert leftovers(mirror) == []


async def test_G2_ssh_server_that_never_speaks(ssh_settings: GitSettings, mirror: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as mute:
        url = f"ssh://git@127.0.0.1:{mute.getsockname()[1]}/infra.git"
        with pytest.raises(Retry, match=r"not done after 1 s"):
            await GitSource(replace(ssh_settings, url=url, deadline=1.0)).fetch()
    assert processes_naming(str(mirror)) == []


async def test_G2_what_a_killed_controller_left_is_removed(person: Person, source: GitSource, mirror: Path) -> None:
    person.publish(SITE)
    await source.fetch()
    objects = mirror / "repo.git" / "objects"
    (objects / "pack" / "tmp_pack_Ab12").write_bytes(b"half")
    (mirror / "repo.git" / "refs" / "jailops" / "head.lock").touch()
    (mirror / "repo.git" / "packed-refs.lock").touch()
    again = GitSource(GitSettings(url=f"file://{person.remote}", mirror=mirror, allow_local=True))
    new = person.publish({"site.yaml": "kind: Site # 2\n"})
    assert (await again.fetch()).revision == new
    assert leftovers(mirror) == []


# ── G3 damage ────────────────────────────────────────────────────────────────────────────────────────────────────


def packed(repo: Path) -> Path:
    git(repo, "repack", "-adq")
    (pack,) = (repo / "objects" / "pack").glob("*.pack")
    return pack


def loose(repo: Path, name: str) -> Path:
    """Turn the mirror's packs into a file per object, and return this object's."""
    for pack in (repo / "objects" / "pack").glob("*.pack"):
        data = pack.read_bytes()
        for path in pack.parent.glob(f"{pack.stem}.*"):
            path.unlink()
        git(repo, "unpack-objects", "-q", stdin=data)
    return repo / "objects" / name[:2] / name[2:]


async def test_G3_remote_pack_damaged(person: Person, source: GitSource, mirror: Path) -> None:
    good = person.publish(SITE)
    await source.fetch()
    person.publish({"noise.bin": NOISE[:100_000]})
    flip(packed(person.remote))
    with pytest.raises(Retry, match=r"cannot fetch main from .*: the remote sent damaged or incomplete data"):
        await source.fetch()
    await still_serves(source, good)
    assert not (mirror / "repo.corrupt").exists()


async def test_G3_mirror_pack_damaged_is_replaced(person: Person, source: GitSource, mirror: Path) -> None:
    good = person.publish({**SITE, "noise.bin": NOISE[:100], "big.yaml": "big: " + NOISE[:40_000].hex()})
    await source.fetch()
    await source.write_note(good, "kept through the replacement")
    flip(packed(mirror / "repo.git"))
    assert await text_of(GitSource(settings_of(source)), good, "big.yaml") == [{"big": NOISE[:40_000].hex()}]
    assert (mirror / "repo.corrupt").exists()
    assert not (mirror / "repo.new").exists()


def settings_of(source: GitSource) -> GitSettings:
    return source._settings


@pytest.mark.parametrize("kind", ["commit", "tree", "blob"])
@pytest.mark.parametrize("how", ["missing", "empty", "flipped"])
async def test_G3_mirror_object_lost(person: Person, source: GitSource, mirror: Path, kind: str, how: str) -> None:
    good = person.publish(SITE)
    await source.fetch()
    name = {"commit": good, "tree": f"{good}^{{tree}}", "blob": f"{good}:site.yaml"}[kind]
    path = loose(mirror / "repo.git", git(person.work, "rev-parse", name))
    path.chmod(0o644)
    if how == "flipped":
        flip(path)
    else:
        path.write_bytes(b"") if how == "empty" else path.unlink()
    again = GitSource(settings_of(source))
    new = person.publish({"hosts/node2.yml": "kind: Host\n"})
    assert (await again.fetch()).revision == new
    assert await text_of(again, new, "site.yaml") == SAYS
    assert await text_of(again, good, "site.yaml") == SAYS


async def test_G3_mirror_is_no_repository_any_more(person: Person, source: GitSource, mirror: Path) -> None:
    good = person.publish(SITE)
    await source.fetch()
    (mirror / "repo.git" / "HEAD").unlink()
    assert (await source.fetch()).revision == good


async def test_G3_mirror_and_remote_both_damaged(person: Person, source: GitSource, mirror: Path) -> None:
    good = person.publish({"site.yaml": "#" + NOISE[:40_000].hex()})
    await source.fetch()
    flip(packed(mirror / "repo.git"))
    flip(packed(person.remote))
    with pytest.raises(Retry, match=r"cannot (replace the damaged mirror|read the mirror)"):
        await text_of(source, good, "site.yaml")
    assert (mirror / "repo.git").exists()


async def test_G3_swap_cut_short_is_finished(person: Person, source: GitSource, mirror: Path) -> None:
    good = person.publish(SITE)
    await source.fetch()
    shutil.copytree(mirror / "repo.git", mirror / "repo.new")
    (mirror / "repo.git").rename(mirror / "repo.corrupt")  # and the power fails here
    again = GitSource(settings_of(source))
    assert (await again.fetch()).revision == good


async def test_G3_content_is_checked_against_its_id(person: Person, source: GitSource, mirror: Path) -> None:
    """A whole object in place of another has no checksum error."""
    good = person.publish({"site.yaml": "kind: Site\n", "evil.yaml": "kind: Evil\n"})
    await source.fetch()
    site, evil = (git(person.work, "rev-parse", f"{good}:{name}") for name in ("site.yaml", "evil.yaml"))
    place, other = loose(mirror / "repo.git", site), loose(mirror / "repo.git", evil)
    place.unlink()
    shutil.copy(other, place)
    assert await text_of(source, good, "site.yaml") == SAYS


async def test_G3_larger_than_allowed(person: Person, settings: GitSettings, mirror: Path) -> None:
    good = person.publish(SITE)
    source = GitSource(replace(settings, max_file_bytes=1_000_000))
    await source.fetch()
    person.publish({"noise.bin": NOISE})
    with pytest.raises(Stall, match=r"what was pushed is larger than one fetch may bring"):
        await source.fetch()
    await still_serves(source, good)
    assert leftovers(mirror) == []


async def test_G3_malformed_objects_are_refused(person: Person, source: GitSource) -> None:
    good = person.publish(SITE)
    await source.fetch()
    blob = git(person.work, "rev-parse", f"{good}:site.yaml")
    inner = git(person.work, "mktree", "-z", stdin=f"100644 blob {blob}\tx.yaml\0".encode())
    tree = git(
        person.work, "hash-object", "-t", "tree", "-w", "--stdin", "--literally",
        stdin=b"40000 ..\0" + bytes.fromhex(inner),
    )  # fmt: skip
    evil = git(person.work, "commit-tree", "-p", good, "-m", "climb", tree)
    git(person.work, "push", "--quiet", "origin", f"{evil}:refs/heads/main")
    with pytest.raises(Stall, match=r"the remote holds a malformed object"):
        await source.fetch()
    await still_serves(source, good)


# ── G4 history ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_G4_forward_is_accepted(person: Person, source: GitSource) -> None:
    """a ── b ── d (merge)
    └── c ──┘      last applied b, then d"""
    a = person.publish(SITE)
    b = person.publish({"b.yaml": "b"})
    git(person.work, "checkout", "--quiet", "-b", "side", a)
    person.commit({"c.yaml": "c"})
    git(person.work, "merge", "--quiet", "--no-edit", b)
    person.push()
    d = (await source.fetch()).revision
    assert await source.accept(d, b) == Accepted(d)
    assert await source.accept(d, d) == Accepted(d)
    assert await source.accept(d, None) == Accepted(d)


async def test_G4_set_back_to_an_older_commit(person: Person, source: GitSource) -> None:
    """a ── b ── c     last applied c, branch set back to a"""
    a = person.publish(SITE)
    person.commit({"b.yaml": "b"})
    c = person.publish({"c.yaml": "c"})
    await source.fetch()
    git(person.work, "reset", "--quiet", "--hard", a)
    person.push()
    assert (await source.fetch()).revision == a
    verdict = await source.accept(a, c)
    assert isinstance(verdict, Refused)
    assert verdict.reason == "HistoryRewritten"
    assert verdict.message == (
        f"cannot apply {a[:12]}: the branch was set back to it, 2 commit(s) behind the last applied revision {c[:12]}"
    )
    assert f"jailops approve {a}" in verdict.hint


async def test_G4_amended(person: Person, source: GitSource) -> None:
    """a ── b      last applied b
    └── b'     pushed with force"""
    person.publish(SITE)
    b = person.publish({"b.yaml": "b"})
    await source.fetch()
    git(person.work, "commit", "--quiet", "--amend", "--message", "other words")
    person.push()
    amended = (await source.fetch()).revision
    verdict = await source.accept(amended, b)
    assert isinstance(verdict, Refused)
    assert verdict.message == (
        f"cannot apply {amended[:12]}: the history was rewritten and lacks 1 commit(s), "
        f"the last applied revision {b[:12]} among them"
    )


async def test_G4_unrelated_history(person: Person, source: GitSource) -> None:
    a = person.publish(SITE)
    await source.fetch()
    git(person.work, "checkout", "--quiet", "--orphan", "fresh")
    other = person.publish(SITE, "start over")
    await source.fetch()
    assert isinstance(await source.accept(other, a), Refused)


async def test_G4_last_applied_unknown_to_a_new_mirror(person: Person, source: GitSource, mirror: Path) -> None:
    gone = person.publish(SITE)
    await source.fetch()
    git(person.work, "checkout", "--quiet", "--orphan", "fresh")
    other = person.publish(SITE, "start over")
    shutil.rmtree(mirror)
    again = GitSource(settings_of(source))
    await again.fetch()
    verdict = await again.accept(other, gone)
    assert isinstance(verdict, Refused)
    assert "is not in the repository any more: nothing shows what is lost" in verdict.message
    with pytest.raises(Stall, match=f"cannot find revision {gone[:12]}"):
        await again.snapshot(gone)
    assert not (mirror / "repo.corrupt").exists()


async def test_G4_acknowledged_by_exact_id_only(person: Person, source: GitSource) -> None:
    a = person.publish(SITE)
    b = person.publish({"b.yaml": "b"})
    await source.fetch()
    assert isinstance(await source.accept(a, b, frozenset({b, a[:12], a.upper()})), Refused)
    assert await source.accept(a, b, frozenset({a})) == Accepted(a)


async def test_G4_branch_deleted(person: Person, source: GitSource) -> None:
    good = person.publish(SITE)
    await source.fetch()
    git(person.remote, "update-ref", "-d", "refs/heads/main")
    with pytest.raises(Stall, match=r"the branch does not exist there") as caught:
        await source.fetch()
    assert "nothing is changed until then" in caught.value.hint
    await still_serves(source, good)


async def test_D1_emptied_is_told_apart_from_unreadable(person: Person, source: GitSource) -> None:
    good = person.publish({**SITE, "README.md": "words"})
    await source.fetch()
    assert not (await source.snapshot(good)).empty
    emptied = person.publish(dict.fromkeys(SITE))
    await source.fetch()
    assert (await source.snapshot(emptied)).empty
    assert (await source.accept(emptied, good)) == Accepted(emptied)


# ── G10 two at once, disk full ───────────────────────────────────────────────────────────────────────────────────


async def test_G10_many_fetches_at_once(person: Person, settings: GitSettings) -> None:
    good = person.publish(SITE)
    here, there = GitSource(settings), GitSource(settings)  # as two processes: they share the mirror, not the lock
    heads = await asyncio.gather(*(source.fetch() for source in (here, there, here, there)))
    assert {head.revision for head in heads} == {good}


async def test_G10_mirror_in_use_by_another_process(person: Person, settings: GitSettings, mirror: Path) -> None:
    good = person.publish(SITE)
    source = GitSource(replace(settings, deadline=0.3))
    (mirror / "lock").touch()
    with (mirror / "lock").open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Retry, match=r"another jailops process has been using it"):
            await source.fetch()
    assert (await GitSource(settings).fetch()).revision == good


def test_G10_disk_full_during_fetch(person: Person, mirror: Path) -> None:
    """In a mount namespace of its own, the mirror lies on a disk of 2 MiB."""
    good = person.publish(SITE)
    mirror.mkdir(parents=True)
    script = Path(__file__).with_name("full_disk.py")
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    inner = 'mount -t tmpfs -o size=2m tmpfs "$1" && exec "$2" "$3" "$1" "$4" "$5"'
    args = [str(mirror), sys.executable, str(script), str(person.remote), str(person.work)]
    done = subprocess.run([*words, inner, "sh", *args], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        good,
        "Retry: the disk of the mirror is full",
        good,
        str(sorted({"site.yaml": SAYS, "hosts/node1.yml": [{"kind": "Host"}]}.items())),
    ]
