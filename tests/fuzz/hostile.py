"""Hostile repositories: the examples, changed in bytes, as trees or in single values. Made again from seed and number."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml
from yaml import CBaseLoader

from tests.drivers.scene import CASES, edited, edits_of
from tests.encode_servers.values import INJECTIONS
from tests.manifests.test_manifest_yaml import BOMBS

HOSTILE = (
    *INJECTIONS,
    *("$(canary)", "`canary`", ";canary;", "|canary", "&canary&", "\ncanary\n", "'canary'", '"canary"', "x'$(canary)'"),
    *("fe80::1%$(canary)", "fe80::1%em0", "::ffff:198.51.100.9", "198.51.100.50/24%x", "0x7f.1", "198.051.100.050"),
    *("!!python/object/apply:os.system [canary]", "{{canary}}", "${canary}", "%(canary)s", "{0.__class__}", "%n%s"),
    *("-rf", "--", "/", "//", "/../..", "..", ".", "~", "*", "?", "[a-z]", "\\", "\\\\", "'", '"', "#", " ", "\t", ""),
    *("a" * 200, "/" + "a" * 200, "é" * 200, "a." * 100, "9" * 200, "-" * 200, "%" * 200),
    *("no", "NO", "null", "~", "true", "0o17", "0x1f", "1e9", "12:30:45", ".nan", "-1", "0", "1.0", "2026-11-29"),
    *(
        "\u202e",
        "\u200b",
        "\ufeff",
        "\u2028",
        "\x7f",
        "\x1b[31m",
        "\0",
        "\ud7ff",
        "\U0001f600",
        "ａｄｍｉｎ",
        "аdmin",
        "ﬁ",
    ),
)

TWINS = str.maketrans("aceopxyABCEHKMOPTX0123456789", "асеорхуАВСЕНКМОРТХ０１２３４５６７８９")
"""Letters and digits that look the same and are others."""

ENDS = (
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    ";",
    "$(canary)",
    "`canary`",
    "'",
    '"',
    "\\",
    "#",
    "%em0",
    "/..",
    "\u200b",
    "!",
    ",",
)


@cache
def bases() -> tuple[Mapping[str, str], ...]:
    """The examples as they are, and as the cases of the drivers have them: with every backend and manager."""
    found = [edited(())]
    for path in sorted((CASES / "drivers").glob("*/*/manifests.txt")):
        files = edited([one for half in edits_of(path) for one in half])
        if files not in found:
            found.append(files)
    return tuple(found)


def repository(seed: str, number: int) -> dict[str, bytes]:
    """One hostile repository: mostly a single change of one file, now and then several."""
    random = Random(f"{seed}:{number}")
    files = {name: text.encode() for name, text in random.choice(bases()).items()}
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        name = random.choice(sorted(files))
        files[name] = random.choice(LEVELS)(random, files[name], files[random.choice(sorted(files))])
    return files


def _bytes(random: Random, data: bytes, other: bytes) -> bytes:
    """Cut, doubled, flipped, or spliced with another file."""
    for _ in range(random.randint(1, 4)):
        start, end = sorted(random.randrange(len(data) + 1) for _ in "ab")
        piece = random.choice(
            (b"", data[start:end] * 2, random.randbytes(random.randint(1, 4)), other[start:end], b"\n---\n", b"\0",
             random.choice(HOSTILE).encode("utf-8", "surrogatepass"))
        )  # fmt: skip
        data = data[:start] + piece + data[random.choice((start, start + 1, end)) :]
    return data[:300_000]


def _bomb(random: Random, data: bytes, _other: bytes) -> bytes:
    bomb = BOMBS[random.choice(sorted(BOMBS))]
    return random.choice((bomb, data + b"---\n" + bomb, bomb + b"\n---\n" + data))[
        : random.choice((len(bomb), 260_000))
    ]


def _tree(random: Random, data: bytes, other: bytes) -> bytes:
    """Keys gone, renamed or unknown; values of one place in another, deeper, listed, or nothing."""
    documents = _documents(data)
    strangers = list(_places(_documents(other))) or [(None, None, "x")]
    for _ in range(random.randint(1, 3)):
        places = list(_places(documents))
        if not places:
            break
        holder, key, value = random.choice(places)
        stranger = deepcopy(random.choice(strangers)[2])
        change = random.choice(("gone", "renamed", "unknown", "stranger", "deep", "listed", "nothing", "again"))
        if change == "gone":
            del holder[key]
        elif change == "renamed" and isinstance(holder, dict):
            holder[_turned(random, str(key))] = holder.pop(key)
        elif change == "unknown" and isinstance(value, dict):
            value[random.choice((*HOSTILE, "host", "path", "name"))] = stranger
        elif change == "deep":
            holder[key] = json.loads("[" * 30 + "1" + "]" * 30) if random.random() < 0.5 else {"x": value}
        elif change == "again" and isinstance(holder, list):
            holder.append(value)
        else:
            holder[key] = {"stranger": stranger, "listed": [value], "nothing": None}.get(change, {})
    return _written(documents)


def _value(random: Random, data: bytes, other: bytes) -> bytes:
    """One value that is hostile, nearly right, or somebody else's."""
    documents = _documents(data)
    scalars = [place for place in _places(documents) if isinstance(place[2], str)]
    if scalars:
        holder, key, value = random.choice(scalars)
        strangers = [str(place[2]) for place in _places(_documents(other)) if isinstance(place[2], str)] or [""]
        holder[key] = random.choice(
            (random.choice(HOSTILE), _turned(random, value), _turned(random, value), random.choice(strangers))
        )
    return _written(documents)


def _turned(random: Random, value: str) -> str:
    """Nearly the same text."""
    at = random.randrange(len(value) + 1)
    sign = random.choice((*ENDS, *"-._/:@0aZ9", chr(random.randrange(0x20, 0x2FF))))
    return random.choice(
        (
            value[:at] + sign + value[at:],
            value[:at] + sign + value[at + 1 :],
            value[:at] + value[at + 1 :],
            value + sign,
            sign + value,
            value.translate(TWINS),
            value.upper(),
            value * random.randint(2, 20),
        )
    )


LEVELS: tuple[Callable[[Random, bytes, bytes], bytes], ...] = (*[_value] * 10, *[_tree] * 5, *[_bytes] * 4, _bomb)


def _documents(data: bytes) -> list[Any]:
    """As plain text, lists and maps; nothing of a file that is broken already, or that an alias would make grow here."""
    if len(data) > 20_000 or b"&" in data:
        return []
    try:
        return list(yaml.load_all(data, Loader=CBaseLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return []


def _places(tree: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Every (holder, key, value) in it."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key, value
        yield from _places(value)


def _written(documents: list[Any]) -> bytes:
    """JSON is YAML, and tells every sign apart."""
    text = "".join(f"---\n{json.dumps(one, ensure_ascii=False)}\n" for one in documents)
    return text.encode("utf-8", "surrogatepass")


def in_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Keep a repository for a person to look at."""
    for name, data in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
