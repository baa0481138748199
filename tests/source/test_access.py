"""Which settings are taken, what git is started with, and that a secret shows up nowhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from controller.errors import Stall
from controller.source import GitSettings, GitSource
from controller.source.access import open_access
from tests.source.remotes import Person, Ssh, git, said

KEY = "ssh-ed25519 " + "A" * 68


@pytest.fixture
def base(tmp_path: Path) -> GitSettings:
    for name in ("key", "token"):
        (tmp_path / name).write_text("s3cret-s3cret\n")
    return GitSettings(
        "", tmp_path / "mirror", token_file=tmp_path / "token", ssh_key_file=tmp_path / "key", host_keys=(KEY,)
    )


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("https://git.example.org/ops/infra.git", "https"),
        ("https://git.example.org:8443/~ops/infra", "https"),
        ("https://[2001:db8::1]/infra.git", "https"),
        ("ssh://git@git.example.org/ops/infra.git", "ssh"),
        ("ssh://git@192.0.2.7:2222/infra.git", "ssh"),
        ("git@git.example.org:ops/infra.git", "ssh"),
        ("/srv/git/infra.git", "file"),
        ("file:///srv/git/infra.git", "file"),
    ],
)
def test_urls_that_work(base: GitSettings, url: str, scheme: str) -> None:
    access = open_access(replace(base, url=url, allow_local=True))
    assert (access.scheme, access.env["GIT_ALLOW_PROTOCOL"]) == (scheme, scheme)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ext::sh -c id",
        "http://git.example.org/infra.git",
        "git://git.example.org/infra.git",
        "--upload-pack=id",
        "-oProxyCommand=id:x",
        "ssh://-oProxyCommand=id/x",
        "https://host/x\nurl=evil",
        "https://host/x y",
        "../relative",
        "relative/path",
        "fd::7",
        "file://host/path",
        "git@host:$(id)",
    ],
)
def test_urls_that_do_not(base: GitSettings, url: str) -> None:
    with pytest.raises(Stall, match=r"^cannot use .* as the Git URL$"):
        open_access(replace(base, url=url, allow_local=True))


def test_a_local_path_must_be_allowed(base: GitSettings) -> None:
    with pytest.raises(Stall, match="local repositories are not allowed") as caught:
        open_access(replace(base, url="/srv/git/infra.git"))
    assert "git.allow_local = true" in caught.value.hint


def test_a_password_in_the_url_is_refused_without_showing_it(base: GitSettings) -> None:
    with pytest.raises(Stall) as caught:
        open_access(replace(base, url="https://ada:hunter2-hunter2@git.example.org/infra.git"))
    assert str(caught.value) == (
        "cannot use https://git.example.org/infra.git: the URL holds a user name or a password"
    )
    assert "hunter2" not in caught.value.hint


@pytest.mark.parametrize("branch", ["", "-f", "a..b", "a b", "main:other", "refs/heads/x.lock", "x/", "x\n", "+main"])
def test_branch_names_that_could_mean_something_else(base: GitSettings, branch: str) -> None:
    with pytest.raises(Stall, match="cannot use the branch name"):
        open_access(replace(base, url="https://git.example.org/x", branch=branch))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ((), "no host key is pinned"),
        (("SHA256:abcdefg",), "a pinned host key cannot be understood"),
        ((KEY, "nonsense"), "a pinned host key cannot be understood"),
    ],
)
def test_ssh_wants_a_pinned_host_key(base: GitSettings, keys: tuple[str, ...], says: str) -> None:
    with pytest.raises(Stall, match=says) as caught:
        open_access(replace(base, url="ssh://git@git.example.org:2222/x", host_keys=keys))
    assert "ssh-keyscan -p 2222 git.example.org" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("git@git.example.org:x", f"git.example.org {KEY}\n"),
        ("ssh://git@git.example.org:2222/x", f"[git.example.org]:2222 {KEY}\n"),
        ("ssh://git@[2001:db8::1]:2222/x", f"[2001:db8::1]:2222 {KEY}\n"),
    ],
)
def test_the_pin_is_for_the_host_in_the_url(base: GitSettings, url: str, line: str) -> None:
    open_access(replace(base, url=url, host_keys=(f"somebody.else,10.0.0.1 {KEY} comment",)))
    assert (base.mirror / "known_hosts").read_text() == line


def test_private_files_are_private(base: GitSettings) -> None:
    access = open_access(replace(base, url="https://git.example.org/x"))
    assert base.mirror.stat().st_mode & 0o777 == 0o700
    assert Path(access.env["GIT_ASKPASS"]).stat().st_mode & 0o777 == 0o700
    assert "s3cret" not in Path(access.env["GIT_ASKPASS"]).read_text()


def test_no_secret_in_arguments_or_environment(base: GitSettings) -> None:
    for url in ("https://git.example.org/x", "git@git.example.org:x"):
        access = open_access(replace(base, url=url))
        assert "s3cret" not in repr(access)
        assert access.redacted("fatal: s3cret-s3cret at https://a:b@host/x") == "fatal: *** at https://host/x"


async def test_nothing_of_our_environment_reaches_git(
    person: Person, source: GitSource, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As inside a hook, with a home directory full of traps."""
    revision = person.publish({"site.yaml": "kind: Site\n"})
    canary, home = tmp_path / "canary", tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        f'[url "/nowhere"]\n\tinsteadOf = file://\n[core]\n\tsshCommand = touch {canary}\n\tfsmonitor = touch {canary}\n'
    )
    traps = {
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "GIT_DIR": "/nowhere",
        "GIT_OBJECT_DIRECTORY": "/nowhere",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": "/nowhere",
        "GIT_NAMESPACE": "other",
        "GIT_SSH_COMMAND": f"touch {canary}",
        "GIT_EXTERNAL_DIFF": f"touch {canary}",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.hooksPath",
        "GIT_CONFIG_VALUE_0": str(home),
    }
    for name, value in traps.items():
        monkeypatch.setenv(name, value)
    assert (await source.fetch()).revision == revision
    assert await said(source, revision) == {"site.yaml": [{"kind": "Site"}]}
    assert (await source.write_note(revision, "seen")).pushed
    assert not canary.exists()


async def test_ssh_takes_no_key_from_the_agent_or_the_home(
    person: Person, ssh: Ssh, ssh_settings: GitSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The right key lies in the home directory; the settings name another."""
    person.publish({})
    keys = tmp_path / "home" / ".ssh"
    keys.mkdir(parents=True)
    (keys / "id_ed25519").write_bytes(ssh.key_file.read_bytes())
    (keys / "id_ed25519").chmod(0o600)
    monkeypatch.setenv("HOME", str(keys.parent))
    with pytest.raises(Stall, match="does not accept our SSH key"):
        await GitSource(replace(ssh_settings, ssh_key_file=ssh.other_key_file)).fetch()


async def test_paths_with_blanks_and_signs(person: Person, ssh: Ssh, ssh_settings: GitSettings, tmp_path: Path) -> None:
    odd = tmp_path / "it's 100% $(odd)"
    odd.mkdir()
    key = odd / "key"
    key.write_bytes(ssh.key_file.read_bytes())
    key.chmod(0o600)
    revision = person.publish({})
    source = GitSource(replace(ssh_settings, mirror=odd / "mirror", ssh_key_file=key))
    assert (await source.fetch()).revision == revision


async def test_resolve(person: Person, source: GitSource) -> None:
    first, second = person.publish({}, "one"), person.publish({}, "two")
    assert await source.head() is None
    await source.fetch()
    for name in ("HEAD", "main", second, second[:8]):
        assert await source.resolve(name) == second
    assert await source.resolve("HEAD~1") == await source.resolve("HEAD^") == first
    for name in ("--all", "refs/heads/main", "HEAD:site.yaml", "a b", "", "HEAD;id"):
        with pytest.raises(Stall, match="cannot use"):
            await source.resolve(name)
    with pytest.raises(Stall, match="cannot find 'abcdef12'"):
        await source.resolve("abcdef12")


async def test_foreign_words_are_made_printable(person: Person, source: GitSource) -> None:
    git(person.work, "config", "user.name", "x")
    person.publish({}, "red \x1b[31m and \u202e turned" + "x" * 300)
    head = await source.fetch()
    assert head.subject.startswith("red \ufffd[31m and \ufffd turnedxxx")
    assert len(head.subject) == 200


def test_mirror_directory_that_cannot_be(base: GitSettings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Stall, match=r"cannot use the mirror directory .*: Not a directory"):
        open_access(replace(base, url="https://git.example.org/x", mirror=tmp_path / "file" / "mirror"))
