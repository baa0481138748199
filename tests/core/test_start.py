"""What keeps the controller from starting is told, with what helps, before it touches anything; and wrong usage is 2."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SETTINGS = """\
[git]
url = "{url}"
allow_local = true
[ssh]
key_file = "id_ed25519"
[store]
directory = "store"
[web]
listen = "127.0.0.1:{port}"
"""
GIT = "check [git] in jailops.toml, url and key_file or token_file, and the network from here to that host"


def jailops(directory: Path, *words: str, url: str = "/nowhere.git", port: int = 9736) -> tuple[int, str, str]:
    """Status, output and errors of a command with these settings."""
    (directory / "jailops.toml").write_text(SETTINGS.format(url=url, port=port))
    done = subprocess.run(
        [sys.executable, "-m", "controller", *words, "--config", str(directory / "jailops.toml")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a Git host that refuses every connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"https://127.0.0.1:{taken.getsockname()[1]}/site.git"


def test_a_port_that_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, out, err = jailops(tmp_path, "run", port=port)
    assert (status, out) == (1, "")
    assert err == (
        f"jailops: cannot listen on 127.0.0.1:{port}: Address already in use\n"
        "  what you can do: is another jailops at work here? Stop what listens there, or choose another [web] listen\n"
    )
    assert not (tmp_path / "store").exists(), "nothing was begun"


def test_git_that_was_never_reached_hints_at_the_way_to_it(tmp_path: Path, silent: str) -> None:
    status, out, err = jailops(tmp_path, "apply", url=silent)
    assert (status, out) == (1, "")
    refusal, hint = err.splitlines()[-2:]
    said = f"cannot fetch main from {silent}: the host refuses the connection (git says: "
    assert refusal.startswith(f"jailops: cannot begin: no revision was ever read: {said}")
    assert hint == f"  what you can do: {GIT}"


def test_git_that_says_what_is_wrong_has_a_hint_of_its_own(tmp_path: Path) -> None:
    status, _, err = jailops(tmp_path, "apply")
    assert status == 1
    assert err.endswith("\n  what you can do: check git.url in jailops.toml and what the token or key may read\n")


def test_a_revision_that_may_be_there_is_not_called_missing(tmp_path: Path, silent: str) -> None:
    status, out, err = jailops(tmp_path, "check", "0123abc", url=silent)
    assert (status, out) == (1, "")
    refusal, hint = err.splitlines()[-2:]
    missing = (
        f"cannot find '0123abc' in the mirror of {silent}, and Git cannot be asked: cannot fetch main from {silent}: "
    )
    assert refusal.startswith(f"jailops: {missing}")
    assert hint == f"  what you can do: {GIT}"


def test_neither_a_directory_nor_a_revision_is_wrong_usage(tmp_path: Path, silent: str) -> None:
    assert jailops(tmp_path, "check", "nosuch", url=silent) == (
        2,
        "",
        "jailops: cannot check nosuch: no such directory, and no such revision: cannot use 'nosuch' as a revision\n"
        "  what you can do: a commit id, HEAD, HEAD~1 or the branch's name\n",
    )


def test_a_file_alone_is_not_checked(tmp_path: Path) -> None:
    file = tmp_path / "jail.yaml"
    file.write_text("kind: Jail\n")
    told = (
        f"jailops: cannot check {file}: it is a file; give the directory of all manifests, they are judged together\n"
    )
    assert jailops(tmp_path, "check", str(file)) == (2, "", told)


def test_no_passes_are_no_history(tmp_path: Path) -> None:
    status, out, err = jailops(tmp_path, "history", "-n", "0")
    assert (status, out) == (2, "")
    assert "Invalid value for '--limit' / '-n'" in err
