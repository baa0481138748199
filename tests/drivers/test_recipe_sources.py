"""How a job comes by the commit that it is to build, with real git: the id alone says which."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from controller.drivers.inputs import inputs
from controller.drivers.recipe_world import _sources
from controller.manifests.image import Git

from .builder import Builder
from .scene import IMAGE, manifests

NAME = "world-0123456789ab"


def git(directory: Path, *words: str) -> str:
    command = ["git", "-C", str(directory), "-c", "user.name=T", "-c", "user.email=t@example.org", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(repository: Path, text: str) -> str:
    (repository / "Makefile").write_text(text)
    git(repository, "add", "Makefile")
    git(repository, "commit", "-q", "-m", text)
    return git(repository, "rev-parse", "HEAD")


@pytest.mark.parametrize("protocol", ["2", "0"], ids=["commits are given by id", "branches alone are given"])
def test_a_commit_that_is_on_no_default_branch(protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the tree was cloned before it was made."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.version")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", protocol)
    server = tmp_path / "server"
    server.mkdir()
    git(server, "init", "-q", "-b", "main")
    old = commit(server, "old")
    builder = Builder(tmp_path / "vm")
    assert builder.run(builder.script(NAME, sources(builder, server, old)))[0] == 0
    git(server, "checkout", "-q", "-b", "releng/13.2")
    new = commit(server, "new")
    git(server, "checkout", "-q", "main")
    status, log = builder.run(builder.script("world-ba9876543210", sources(builder, server, new)))
    assert (status, log[-1]) == (0, "--- jailops: complete"), log
    assert git(tmp_path / "src", "rev-parse", "HEAD") == new
    assert (tmp_path / "src" / "Makefile").read_text() == "new"


def sources(builder: Builder, server: Path, wanted: str) -> str:
    desired = manifests(())
    image = desired.images[IMAGE]
    source = image.spec.source.model_copy(update={"git": Git.model_construct(url=str(server), commit=wanted)})
    spec = image.spec.model_copy(update={"source": source})
    made_of = inputs(replace(desired, images={**desired.images, IMAGE: replace(image, spec=spec)}), IMAGE)
    there = builder.place.vm.model_copy(update={"source_dir": str(server.parent / "src")})
    return _sources(spec, replace(builder.place, vm=there), made_of)
