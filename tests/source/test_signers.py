"""Row G5 of the fault matrix: commits that nobody signed, or somebody who may not. Real ssh-keygen, real gpg."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from controller.errors import Stall
from controller.source import GitSettings, GitSource, Proven, Refused
from controller.source import signers as signers_module
from tests.source.remotes import Person, git, processes_naming

SITE = {"site.yaml": "kind: Site\n"}


@dataclass(frozen=True)
class Keys:
    """Everybody's keys, and the files that jailops.toml names."""

    base: Path

    @property
    def signers(self) -> Path:
        return self.base / "allowed_signers"

    @property
    def revoked(self) -> Path:
        return self.base / "revoked"

    @property
    def gpg(self) -> Path:
        return self.base / "keys.asc"

    def ssh(self, name: str) -> tuple[str, ...]:
        return ("-c", "gpg.format=ssh", "-c", f"user.signingKey={self.base / name}")

    def gnupg(self, name: str, program: str = "gpg") -> tuple[str, ...]:
        return ("-c", f"gpg.program={self.base / program}", "-c", f"user.signingKey={name}@example.org")

    def fingerprint(self, name: str) -> str:
        words = ["ssh-keygen", "-l", "-f", str(self.base / f"{name}.pub")]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[1]

    def public(self, name: str) -> str:
        return " ".join((self.base / f"{name}.pub").read_text().split()[:2])


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    keys = Keys(tmp_path_factory.mktemp("keys"))
    for name in ("ann", "bob", "old", "young", "lost", "files", "eve"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(keys.base / name)]
        subprocess.run(words, check=True)
    options = {
        "ann": 'namespaces="git"',
        "bob": "",
        "old": 'valid-before="20240101"',
        "young": 'valid-after="20900101"',
        "lost": "",
        "files": 'namespaces="file"',
    }
    keys.signers.write_text(
        "".join(f"{name}@example.org {words} {keys.public(name)}\n" for name, words in options.items())
    )
    keys.revoked.write_text(keys.public("lost") + "\n")
    for home in ("gnupg", "listed"):
        (keys.base / home).mkdir(mode=0o700)
    past = ["--faked-system-time", "20200101T000000"]
    for name in ("gus", "mal", "sid"):
        gpg(keys, "gnupg", "--quick-gen-key", f"{name} <{name}@example.org>", "ed25519", "sign", "never")
    gpg(keys, "gnupg", *past, "--quick-gen-key", "exp <exp@example.org>", "ed25519", "sign", "1d")
    for name, words in {"gpg": [], "gpg-in-2020": past}.items():
        line = ["exec", "gpg", "--homedir", str(keys.base / "gnupg"), *words]
        (keys.base / name).write_text(f'#!/bin/sh\n{shlex.join(line)} "$@"\n')
        (keys.base / name).chmod(0o755)
    # Who is listed: all but sid, and mal with the revocation that gpg keeps ready.
    gpg(keys, "listed", "--import", stdin=gpg(keys, "gnupg", "--export", "--armor", "gus", "mal", "exp"))
    primary = next(
        line.split(":")[9]
        for line in gpg(keys, "gnupg", "-k", "--with-colons", "mal").splitlines()
        if line.startswith("fpr")
    )
    ready = (keys.base / "gnupg" / "openpgp-revocs.d" / f"{primary}.rev").read_text()
    gpg(keys, "listed", "--import", stdin=ready.replace(":-----BEGIN", "-----BEGIN"))
    keys.gpg.write_text(gpg(keys, "listed", "--export", "--armor"))
    yield keys
    for home in ("gnupg", "listed"):
        subprocess.run(["gpgconf", "--homedir", str(keys.base / home), "--kill", "all"], check=True)


def gpg(keys: Keys, home: str, *words: str, stdin: str = "") -> str:
    line = ["gpg", "--homedir", str(keys.base / home), "--batch", "--yes", "--passphrase", "", *words]
    return subprocess.run(line, check=True, capture_output=True, text=True, input=stdin).stdout


@pytest.fixture
def policy(settings: GitSettings, keys: Keys) -> GitSettings:
    return replace(settings, signers_file=keys.signers, revoked_file=keys.revoked, gpg_keys_file=keys.gpg)


def signed(person: Person, how: Sequence[str], subject: str = "change") -> str:
    """A commit that is signed this way."""
    git(person.work, *how, "commit", "--quiet", "--allow-empty", "--gpg-sign", "--message", subject)
    return git(person.work, "rev-parse", "HEAD")


async def verdict(person: Person, policy: GitSettings, before: str | None = None) -> Proven | Refused:
    person.push()
    source = GitSource(policy)
    return await source.proven((await source.fetch()).revision, before)


async def refusal(person: Person, policy: GitSettings, before: str | None = None) -> Refused:
    refused = await verdict(person, policy, before)
    assert isinstance(refused, Refused)
    assert refused.reason == "NotSigned"
    return refused


async def test_G5_signed_by_who_is_listed(person: Person, policy: GitSettings, keys: Keys) -> None:
    signed(person, keys.ssh("bob"))
    one = signed(person, keys.ssh("ann"))
    assert await verdict(person, policy) == Proven(one, f"ann@example.org ({keys.fingerprint('ann')})")
    two = signed(person, keys.gnupg("gus"))
    proven = await verdict(person, policy)
    assert isinstance(proven, Proven)
    assert (proven.revision, proven.signer[:22]) == (two, "gus <gus@example.org> ")


BAD = {
    "ssh expired": ("old", "is signed by {key}, whose key or signature has expired"),
    "ssh not yet": ("young", "is signed by {key}, whose key is not valid yet"),
    "ssh revoked": ("lost", "is signed by {key}, whose key is revoked"),
    "ssh for files": ("files", "is signed by files@example.org ({key}), whose key or signature is for something else"),
    "ssh unlisted": ("eve", "is signed by {key}, who is not listed"),
}


@pytest.mark.parametrize(("name", "says"), BAD.values(), ids=BAD)
async def test_G5_ssh_signatures_that_do_not_count(
    person: Person, policy: GitSettings, keys: Keys, name: str, says: str
) -> None:
    """Each below a good tip. All commits say they are of 2023: in the good time of the expired key, which decides nothing."""
    first = signed(person, keys.ssh("ann"))
    bad = signed(person, keys.ssh(name), "smuggled")
    tip = signed(person, keys.ssh("ann"))
    refused = await refusal(person, policy, first)
    told = says.format(key=keys.fingerprint(name))
    assert refused.message.startswith(f"cannot apply {tip[:12]}: commit {bad[:12]} (Ada Admin: smuggled) {told}")
    assert refused.hint == (
        "have somebody who is listed sign it anew (git rebase --force-rebase --gpg-sign) and push with force, "
        f"or if its signer may sign, say so in {keys.signers} and {keys.gpg}"
    )


GNUPG = {
    "gpg expired": ("gpg-in-2020", "exp", "exp <exp@example.org> (", "whose key or signature has expired"),
    "gpg revoked": ("gpg", "mal", "mal <mal@example.org> (", "whose key is revoked"),
    "gpg unlisted": ("gpg", "sid", "", "who is not listed"),
}


@pytest.mark.parametrize(("program", "name", "who", "says"), GNUPG.values(), ids=GNUPG)
async def test_G5_gpg_signatures_that_do_not_count(
    person: Person, policy: GitSettings, keys: Keys, program: str, name: str, who: str, says: str
) -> None:
    signed(person, keys.gnupg(name, program))
    key = gpg(keys, "gnupg", "-k", "--with-colons", name).split("pub:", 1)[1].split(":")[3]
    message = (await refusal(person, policy)).message
    assert f"is signed by {who}{key}" in message
    assert message.endswith(f", {says}")


async def test_G5_one_kind_of_key_does_not_open_the_door_for_the_other(
    person: Person, policy: GitSettings, keys: Keys
) -> None:
    signed(person, keys.ssh("ann"))
    assert "who is not listed" in (await refusal(person, replace(policy, signers_file=None))).message
    git(person.work, "checkout", "--quiet", "--orphan", "other")
    signed(person, keys.gnupg("gus"))
    assert "who is not listed" in (await refusal(person, replace(policy, gpg_keys_file=None))).message


async def test_G5_unsigned_below_a_signed_tip_and_a_signed_tag(person: Person, policy: GitSettings, keys: Keys) -> None:
    bad = person.commit(SITE, "quick fix")
    git(person.work, *keys.ssh("ann"), "tag", "--sign", "--message", "v1", "v1")
    tip = signed(person, keys.ssh("ann"))
    assert (await refusal(person, policy)).message == (
        f"cannot apply {tip[:12]}: commit {bad[:12]} (Ada Admin: quick fix) is not signed "
        "(a signed tag, or a signed commit after it, says nothing about it)"
    )


async def test_G5_what_a_merge_brings_in_is_judged(person: Person, policy: GitSettings, keys: Keys) -> None:
    """a ── b ── m      m is signed, and c was never looked at
    └── c ──┘"""
    a = signed(person, keys.ssh("ann"), "a")
    git(person.work, "checkout", "--quiet", "-b", "side")
    c = person.commit({"c.yaml": "c"}, "c")
    git(person.work, "checkout", "--quiet", "main")
    b = signed(person, keys.ssh("bob"), "b")
    git(person.work, *keys.ssh("ann"), "merge", "--quiet", "--no-edit", "--gpg-sign", "--no-ff", "side")
    for before in (a, b, None):
        assert f"commit {c[:12]} (Ada Admin: c) is not signed" in (await refusal(person, policy, before)).message
    git(person.work, "reset", "--quiet", "--hard", b)
    git(person.work, *keys.ssh("ann"), "rebase", "--quiet", "--force-rebase", "--gpg-sign", "--onto", a, a, "side")
    git(person.work, "checkout", "--quiet", "main")
    git(person.work, "merge", "--quiet", "--no-edit", "--no-ff", "side")
    m = git(person.work, "rev-parse", "HEAD")
    message = (await refusal(person, policy, b)).message
    assert f"commit {m[:12]}" in message, "the merge itself"
    assert message.count("is not signed") == 1


async def test_G5_changed_after_it_was_signed(person: Person, policy: GitSettings, keys: Keys) -> None:
    good = signed(person, keys.ssh("ann"), "one jail")
    text = git(person.work, "cat-file", "commit", good).replace("one jail", "no jail at all")
    bad = git(person.work, "hash-object", "-t", "commit", "-w", "--stdin", stdin=text.encode() + b"\n")
    git(person.work, "reset", "--quiet", "--hard", bad)
    assert "has a signature that does not fit it: one of both was changed" in (await refusal(person, policy)).message


async def test_G5_only_what_came_since_the_trusted_commit(person: Person, policy: GitSettings, keys: Keys) -> None:
    old = person.commit(SITE, "before there were signatures")
    trusted = person.commit({}, "the last of them")
    tip = signed(person, keys.ssh("ann"))
    assert "; commit " in (await refusal(person, policy)).message, "without one it is the whole history"
    assert f"commit {trusted[:12]}" in (await refusal(person, replace(policy, trusted_commit=old))).message
    policy = replace(policy, trusted_commit=trusted)
    assert isinstance(await verdict(person, policy), Proven)
    assert isinstance(await verdict(person, policy, "1" * 40), Proven), "what is not there excludes nothing"
    git(person.work, "checkout", "--quiet", "--orphan", "fresh")
    other = person.commit({"x.yaml": "x"}, "another history")
    assert f"commit {other[:12]}" in (await refusal(person, policy, tip)).message


async def test_G5_a_key_that_is_taken_off_the_list_and_put_on_it(
    person: Person, policy: GitSettings, keys: Keys, tmp_path: Path
) -> None:
    """Files are read at each use."""
    mine, ours = tmp_path / "signers", tmp_path / "keys.asc"
    mine.write_text(f"ann@example.org {keys.public('ann')}\n")
    ours.write_text(gpg(keys, "listed", "--export", "--armor", "exp"))
    policy = replace(policy, signers_file=mine, gpg_keys_file=ours)
    first = signed(person, keys.ssh("ann"))
    assert isinstance(await verdict(person, policy), Proven)
    mine.write_text(f"bob@example.org {keys.public('bob')}\n")
    assert "who is not listed" in (await refusal(person, policy)).message
    signed(person, keys.gnupg("gus"))
    assert "who is not listed" in (await refusal(person, policy, first)).message
    ours.write_text(keys.gpg.read_text())
    assert isinstance(await verdict(person, policy, first), Proven)


async def test_G5_nobody_elses_settings_count(
    person: Person, policy: GitSettings, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A home whose settings would have believed eve, and whose keyring knows sid."""
    home = tmp_path / "home"
    home.mkdir()
    believed = home / "signers"
    believed.write_text(f"eve@example.org {keys.public('eve')}\n")
    (home / ".gitconfig").write_text(f'[gpg "ssh"]\n\tallowedSignersFile = {believed}\n')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / ".gitconfig"))
    monkeypatch.setenv("GNUPGHOME", str(keys.base / "gnupg"))
    for how in (keys.ssh("eve"), keys.gnupg("sid")):
        git(person.work, "checkout", "--quiet", "--orphan", f"{len(how[1])}")
        signed(person, how)
        assert "who is not listed" in (await refusal(person, policy)).message


async def test_G5_more_than_can_be_verified_at_once(
    person: Person, policy: GitSettings, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signers_module, "MAX_COMMITS", 2)
    for _ in range(3):
        tip = signed(person, keys.ssh("ann"))
    refused = await refusal(person, policy)
    assert "3 commits since the last trusted one are to be verified, and at most 2 can be" in refused.message
    assert "git.trusted_commit" in refused.hint
    assert isinstance(await verdict(person, policy, f"{git(person.work, 'rev-parse', f'{tip}~1')}"), Proven)


@pytest.mark.parametrize("file", ["signers_file", "revoked_file", "gpg_keys_file"])
async def test_G5_a_policy_that_cannot_be_read_lets_nobody_in(
    person: Person, policy: GitSettings, keys: Keys, tmp_path: Path, file: str
) -> None:
    signed(person, keys.ssh("ann"))
    with pytest.raises(Stall, match=r"^cannot judge signatures: cannot read .*gone: No such file"):
        await verdict(person, replace(policy, **{file: cast(Any, tmp_path / "gone")}))


async def test_G5_keys_that_gpg_does_not_understand(
    person: Person, policy: GitSettings, keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("no keys\n")
    signed(person, keys.ssh("ann"))
    for _ in range(2):
        with pytest.raises(Stall, match=r"^cannot use .*keys: gpg says: gpg: no valid OpenPGP data found"):
            await verdict(person, replace(policy, gpg_keys_file=tmp_path / "keys"))


def test_G5_half_a_policy_is_refused(settings: GitSettings) -> None:
    for half in (replace(settings, trusted_commit="1" * 40), replace(settings, revoked_file=Path("/x"))):
        with pytest.raises(Stall, match="say nothing about who may sign"):
            GitSource(half)


async def test_G5_nothing_is_left_running(person: Person, policy: GitSettings, keys: Keys, mirror: Path) -> None:
    signed(person, keys.gnupg("gus"))
    assert isinstance(await verdict(person, policy), Proven)
    assert processes_naming(str(mirror)) == []
