from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controller.source import GitSettings, GitSource
from tests.source.remotes import Https, Person, Ssh, https_remote, new_person, ssh_remote

Opener = Callable[..., GitSource]


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return new_person(tmp_path)


@pytest.fixture
def mirror(tmp_path: Path) -> Path:
    return tmp_path / "state" / "mirror"


@pytest.fixture
def settings(person: Person, mirror: Path) -> GitSettings:
    """A local remote; the other fixtures turn it into one that is reached over a network."""
    return GitSettings(url=f"file://{person.remote}", mirror=mirror, allow_local=True, deadline=20.0)


@pytest.fixture
def source(settings: GitSettings) -> GitSource:
    return GitSource(settings)


@pytest.fixture
def https(person: Person, tmp_path: Path) -> Iterator[Https]:
    with https_remote(tmp_path, person.remote.parent) as remote:
        yield remote


@pytest.fixture
def ssh(person: Person, tmp_path: Path) -> Iterator[Ssh]:
    with ssh_remote(tmp_path, person.remote) as remote:
        yield remote


@pytest.fixture
def https_settings(settings: GitSettings, https: Https) -> GitSettings:
    return replace(settings, url=https.url, allow_local=False, token_file=https.token_file, ca_file=https.ca_file)


@pytest.fixture
def ssh_settings(settings: GitSettings, ssh: Ssh) -> GitSettings:
    return replace(settings, url=ssh.url, allow_local=False, ssh_key_file=ssh.key_file, host_keys=(ssh.host_key,))


@pytest.fixture(params=["file", "ssh", "https"])
def any_settings(request: pytest.FixtureRequest, settings: GitSettings) -> Any:
    """The same repository over each of the three transports."""
    return settings if request.param == "file" else request.getfixturevalue(f"{request.param}_settings")
