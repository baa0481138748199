"""The JSON Schemas, judged by an independent library on YAML as an editor reads it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from controller.manifests.load import Blob, load
from controller.manifests.models import KINDS
from controller.manifests.schema import at, rendered, schemas
from tests.manifests.support import CASES, EXAMPLES, ROOT, SINGLE, name


class Yaml12(yaml.SafeLoader):
    """The core schema of YAML 1.2, which editors use: no sexagesimal numbers, and `no` is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


_CORE = {
    "null": (r"~|null|Null|NULL|", "~nN\0"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
}


def _decimal(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)), 10)


for _tag, (_pattern, _first) in _CORE.items():
    _starts = [sign if sign != "\0" else "" for sign in _first]
    Yaml12.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _starts)
Yaml12.add_constructor("tag:yaml.org,2002:int", _decimal)


@cache
def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator(schemas()[f"{kind.lower()}.json"])


def documents(path: Path) -> list[Any]:
    return [one for one in yaml.load_all(path.read_text(), Loader=Yaml12) if one is not None]


@pytest.mark.parametrize("kind", KINDS)
def test_a_schema_is_one(kind: str) -> None:
    Draft202012Validator.check_schema(schemas()[f"{kind.lower()}.json"])


def test_the_schemas_in_the_repository_are_fresh() -> None:
    committed = {path.name: path.read_text() for path in (ROOT / "schemas").glob("*.json")}
    assert committed == rendered(), "run: python -m tests.manifests.regenerate"


@pytest.mark.parametrize("path", [*sorted(EXAMPLES.rglob("*.yaml")), CASES / "base.yaml"], ids=lambda path: path.name)
def test_good_manifests_fit(path: Path) -> None:
    for one in documents(path):
        assert [error.message for error in validator(one["kind"]).iter_errors(one)] == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.name)
def test_the_first_line_of_an_example_leads_to_its_schema(path: Path) -> None:
    line = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", path.read_text().splitlines()[0])
    assert line
    kinds = {one["kind"].lower() for one in documents(path)}
    assert {(path.parent / line[1]).resolve()} == {ROOT / "schemas" / f"{kind}.json" for kind in kinds}


SAYS = [path for path in SINGLE if path.read_text().startswith(("# schema: refuses", "# schema: accepts"))]


@pytest.mark.parametrize("case", SAYS, ids=name)
def test_a_schema_refuses_what_it_can_express(case: Path) -> None:
    expected = case.read_text().startswith("# schema: accepts")
    verdicts = {validator(one["kind"]).is_valid(one) for one in documents(case)}
    assert verdicts == {expected}


def test_every_bad_input_of_a_kind_says_what_the_schema_thinks() -> None:
    assert {case for case in SINGLE if case.parent.name in map(str.lower, KINDS)} <= set(SAYS)


def fields(kind: str, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    part = at(kind, path)
    for key in part.get("properties", {}):
        yield (*path, key)
        yield from fields(kind, (*path, key))
    if part.get("type") == "array":
        yield from fields(kind, (*path, 0))


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_is_explained(kind: str) -> None:
    for path in fields(kind):
        part = at(kind, path)
        if "parameters" in path[:-1]:
            assert part["errorMessage"]
            continue
        assert part.get("description"), path
        block = part.get("properties") or part.get("items", {}).get("$ref")
        assert block or part.get("examples") or part.get("enum") or part.get("const"), path


def plain(value: object) -> str:
    """A value as flow YAML, scalars unquoted only where JSON has no quotes."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(plain, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def sample(kind: str, path: tuple[str | int, ...] = ()) -> Any:
    """A document made of nothing but the schema's own examples, with every field there is."""
    part = at(kind, path)
    if part.get("type") == "array" and not part.get("examples"):
        return [sample(kind, (*path, 0))]
    if part.get("properties") and "parameters" not in path:
        left_out = {
            "source": {"svn", "dist"},
            "dhcp": {"config"},
            "git": {"tag"},
            "vm": {"libvirt"},
            "power": {"wakeOnLan", "ipmi"},
            "redfish": {"ca"},
            **{
                key: {"env", "age"}
                for key in ("secret", "password", "passwordHash", "rootPasswordHash", "hostKeySecret")
            },
        }.get(str(path[-1]) if path else "", set())
        return {key: sample(kind, (*path, key)) for key in part["properties"] if key not in left_out}
    return part.get("const") or (part.get("examples") or part["enum"])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_examples_in_a_schema_are_right(kind: str) -> None:
    document = sample(kind)
    if kind == "Image":
        document["spec"]["kernel"]["name"] = "MYKERNEL"
    if kind == "BuildVM":
        document["spec"]["ssh"]["address"] = "198.51.100.20"  # not the hypervisor's
    text = "".join(f"{key}: {plain(value)}\n" for key, value in document.items())
    assert [str(problem) for problem in load([Blob("sample.yaml", "1", text.encode())]).problems] == []
    assert [error.message for error in validator(kind).iter_errors(document)] == []
