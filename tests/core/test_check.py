"""`jailops check DIR`: every problem of every file and between files, and no green light for nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from controller.show import check_directory

EXAMPLE = Path(__file__).parents[2] / "examples" / "repo"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "site"))


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


def told(site: Path, addresses: frozenset[str] = frozenset()) -> list[str]:
    return [str(problem) for problem in check_directory(site, addresses)[1]]


def test_the_example_is_clean(site: Path) -> None:
    assert told(site) == []


def test_a_bad_field_does_not_hide_what_objects_get_wrong_among_each_other(site: Path) -> None:
    edit(site / "infrastructure" / "san.yaml", "iqn.2026-11.org.example", "not an iqn")
    edit(site / "jails" / "jailbox2.yaml", "198.51.100.72", "198.51.100.61")
    problems = told(site)
    assert len(problems) == 2
    assert problems[0].startswith("infrastructure/san.yaml:")
    assert "198.51.100.61" in problems[1]


def test_names_that_lead_to_an_object_that_could_not_be_read_are_not_blamed(site: Path) -> None:
    edit(site / "images" / "freebsd13.yaml", "release: 13.2-RELEASE", "release: thirteen")
    problems = told(site)
    assert len(problems) == 1
    assert "spec.release" in problems[0]


def test_a_typing_error_is_told_beside_an_object_that_could_not_be_read(site: Path) -> None:
    edit(site / "images" / "freebsd13.yaml", "release: 13.2-RELEASE", "release: thirteen")
    edit(site / "hosts" / "jailbox2.yaml", "bootServer: boot-server", "bootServer: bootserver")
    problems = told(site)
    assert ["spec.release" in problems[0], 'did you mean "boot-server"' in problems[1], len(problems)] == [
        True,
        True,
        2,
    ]


def test_what_stands_in_a_file_that_cannot_be_read_is_not_known(site: Path) -> None:
    (site / "hosts" / "link.yaml").symlink_to("jailbox2.yaml")
    (site / "hosts" / "jailbox2.yaml").write_text("kind: [\n")
    assert [problem.partition(":")[0] for problem in told(site)] == ["hosts/jailbox2.yaml", "hosts/link.yaml"]


def test_a_link_is_a_problem_as_in_a_revision(site: Path) -> None:
    (site / "hosts" / "link.yaml").symlink_to("jailbox2.yaml")
    assert told(site) == [
        "hosts/link.yaml:1:1: found a symbolic link, expected the file itself: links are never followed"
    ]


def test_nothing_is_not_fine(tmp_path: Path) -> None:
    assert told(tmp_path) == [f"{tmp_path}:1:1: found no manifest at all, expected *.yaml files with manifests"]


def test_the_controllers_own_address_is_nobodys_else(site: Path) -> None:
    assert "198.51.100.61" in told(site, frozenset({"198.51.100.61"}))[0]


def test_a_slip_is_told_beside_a_file_that_cannot_be_read(site: Path) -> None:
    (site / "hosts" / "jailbox2.yaml").write_bytes(b"kind: Host\0\n")
    jail = next(path for path in sorted((site / "jails").iterdir()) if "host: disklessfreebsdbox" in path.read_text())
    edit(jail, "host: disklessfreebsdbox", "host: disklesfreebsdbox")
    problems = told(site)
    assert [problem.partition(":")[0] for problem in problems] == ["hosts/jailbox2.yaml", f"jails/{jail.name}"]
    assert problems[1].endswith('did you mean "disklessfreebsdbox"?')
