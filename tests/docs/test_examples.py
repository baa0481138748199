"""The examples in the docs are true: manifests and settings load, commands print what stands there, links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import pytest
import yaml

from controller import settings
from controller.manifests import BootServerSpec, BuildVMSpec, HostSpec, JailSpec, SanSpec
from controller.manifests.load import Blob, parse_blob
from controller.model import State
from tests.docs.pages import PAGES, ROOT, Block, anchors, blocks, code, commands, filled, links

SHORTENED = "…"
MADE_BY_US = (*PAGES, ROOT / "examples" / "repo" / "README.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_made_parts_are_fresh(page: Path) -> None:
    assert filled(page.read_text()) == page.read_text(), "run: python -m tests.docs.regenerate"


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_manifests_load(block: Block) -> None:
    """Whole documents; pieces of a spec are put into the example of their kind."""
    text = block.text if "apiVersion" in block.text else _whole(block.text)
    loaded = parse_blob(Blob(str(block), "1", text.encode()))
    assert ([str(one) for one in loaded.problems], len(loaded.objects) > 0) == ([], True)


def _whole(piece: str) -> str:
    """A document of the example with some of its spec's fields replaced by the piece's."""
    fields = next(yaml.load_all(piece, yaml.BaseLoader))
    owner = next(kind for kind, spec in _SPECS.items() if fields.keys() <= _fields(spec))
    document = next(one for one in _example() if one["kind"] == owner)
    return yaml.safe_dump(document | {"spec": document["spec"] | fields})


_SPECS: Mapping[str, Any] = {
    "BuildVM": BuildVMSpec,
    "San": SanSpec,
    "BootServer": BootServerSpec,
    "Host": HostSpec,
    "Jail": JailSpec,
}


def _fields(spec: Any) -> set[str]:
    return {str(one.alias or name) for name, one in spec.model_fields.items()}


def _example() -> list[dict[str, Any]]:
    files = sorted((ROOT / "examples" / "repo").rglob("*.yaml"))
    return [one for file in files for one in yaml.load_all(file.read_text(), yaml.BaseLoader) if one]


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_settings_load(block: Block, tmp_path: Path) -> None:
    path = tmp_path / "jailops.toml"
    path.write_text(block.text)
    loaded = settings.load(path)
    written = tomllib.loads(block.text)
    assert loaded.git.url == written["git"]["url"]
    assert loaded.ssh.key_file == tmp_path / written["ssh"]["key_file"]


CONSOLES = {page: found for page in PAGES if (found := blocks("console", page))}


@pytest.mark.parametrize("page", CONSOLES, ids=lambda page: page.name)
def test_commands_print_what_stands_there(page: Path, tmp_path: Path) -> None:
    """The blocks of a page run one after the other in one empty directory."""
    place = _place(tmp_path)
    for block in CONSOLES[page]:
        for command, expected in _turns(block.text):
            assert _fits(expected, _run(command, place)), f"{block}: $ {command}\n{_run(command, place)}"


def _turns(text: str) -> list[tuple[str, list[str]]]:
    turns = [turn.splitlines() for turn in re.split(r"^\$ ", text, flags=re.MULTILINE) if turn]
    return [(lines[0], lines[1:]) for lines in turns]


def _place(directory: Path) -> Path:
    (directory / "bin").mkdir()
    shim = directory / "bin" / "jailops"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m controller "$@"\n')
    shim.chmod(0o755)
    (directory / "work").mkdir()
    return directory


def _run(command: str, place: Path) -> list[str]:
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("JAILOPS_")},
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=place / "work",
        env=env,
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout.splitlines()


def _fits(expected: list[str], seen: list[str]) -> bool:
    """The same lines; one that holds nothing but … stands for any number of them."""
    parts = [".*" if line == SHORTENED else re.escape(line) for line in expected]
    return re.fullmatch(r"\n".join(parts), "\n".join(seen), re.DOTALL) is not None


@pytest.mark.parametrize("page", MADE_BY_US, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in links(page):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_the_picture_is_whole_and_tells_itself_in_words() -> None:
    picture = ElementTree.parse(ROOT / "docs" / "picture.svg").getroot()
    told = {one.tag.rpartition("}")[2] for one in picture}
    assert {"title", "desc"} <= told


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {(ROOT / "README.md").resolve()}
    todo = list(reached)
    while todo:
        page = todo.pop()
        for link in links(page):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in reached:
                reached.add(target)
                todo.append(target)
    assert {page.resolve() for page in PAGES} - reached == set()


SAID = (
    *(path for path in sorted((ROOT / "controller").rglob("*.py")) if "lab" not in path.parts),
    *(path for path in sorted((ROOT / "deploy").rglob("*")) if path.is_file() and path.suffix != ".json"),
)
"""Where else people are told what to type."""

_TYPED = re.compile(r"(?:[:;] |example\.org |/bin/|`)jailops ([a-z]+)\b([^`\n|;()\"']*)")
_PROSE = {"writes", "tries", "acted", "does", "never", "leaves"}
"""Words that follow the product's name in a sentence behind a colon."""


@pytest.mark.parametrize("page", MADE_BY_US, ids=lambda page: page.name)
def test_every_command_on_a_page_exists(page: Path) -> None:
    assert _unknown(code(page)) == []


def test_every_command_that_is_recommended_elsewhere_exists() -> None:
    told = {
        (path.relative_to(ROOT), _in_full(name, rest))
        for path in SAID
        for name, rest in _TYPED.findall(path.read_text())
    }
    assert len(told) > 10
    assert {(path, name) for path, name in told if name not in {*commands(), *_PROSE}} == set()


def _in_full(name: str, rest: str) -> str:
    """A command of a group has two words."""
    words = " ".join([name, *rest.split()[:1]])
    return words if words in commands() else name


def _unknown(typed: Iterable[str]) -> list[str]:
    known = commands()
    wrong = []
    for line in typed:
        for name, rest in re.findall(r"^(?:\$ |.*@\S+ )?jailops ([a-z]+)([^|;()#&]*)", line):
            name = _in_full(name, rest)
            options = re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest)
            wrong += [line] * (name not in known or not set(options) <= set(known[name]))
    return wrong


def test_every_state_has_a_section() -> None:
    assert {one.lower() for one in get_args(State)} <= anchors(ROOT / "docs" / "operating.md")


def test_every_alert_has_a_section() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "jailops.rules.yml").read_text())
    alerts = {rule["alert"].lower() for group in rules["groups"] for rule in group["rules"] if "alert" in rule}
    assert alerts <= anchors(ROOT / "docs" / "alerts.md")


def test_the_readme_names_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        assert set(re.findall(r"(?:`| {4})make ([a-z]+)", page.read_text())) <= targets, page


@pytest.mark.parametrize("page", MADE_BY_US, ids=lambda page: page.name)
def test_no_page_names_a_place_of_ours(page: Path) -> None:
    text = page.read_text()
    here = [str(ROOT), str(Path.home()) + "/" if str(Path.home()) != "/root" else str(ROOT), "/tmp/", "/work/"]
    registries = re.findall(r"[\w.-]*(?:pypi|pythonhosted|npmjs|artifactory|nexus|devpi)[\w.-]*", text, re.I)
    assert ([one for one in here if one in text], registries) == ([], [])
