"""Row M3 on random graphs: every circle told is one, a graph without any has none, and the start order exists exactly then."""

from __future__ import annotations

import json
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from random import Random

from controller.graph import resolve
from controller.manifests.check import check
from controller.manifests.load import Blob, load
from controller.manifests.references import circles
from tests.fuzz.texts import VALUES
from tests.manifests.test_manifest_pairs import DOCUMENTS


def graph(random: Random) -> dict[str, list[str]]:
    """Few or many names; sparse, dense, or without a way back."""
    names = [f"j{number}" for number in range(random.choice((1, 2, 3, 8, 30)))]
    edges = random.choice((0, 1, len(names), 3 * len(names)))
    after: dict[str, list[str]] = {name: [] for name in names}
    forward = random.random() < 0.3
    for _ in range(edges):
        one, two = random.randrange(len(names)), random.randrange(len(names))
        if forward and one <= two:
            continue
        if names[two] not in after[names[one]]:
            after[names[one]].append(names[two])
    return after


def in_circles(after: dict[str, list[str]]) -> set[str]:
    """Who reaches itself, by looking at everything that everybody reaches."""
    reached = {name: set(after[name]) for name in after}
    for _ in after:
        for name, known in reached.items():
            reached[name] = known.union(*(reached[other] for other in known))
    return {name for name, known in reached.items() if name in known}


def sorts(after: dict[str, list[str]]) -> bool:
    try:
        return bool([*TopologicalSorter(after).static_order()]) or not after
    except CycleError:
        return False


def test_M3_every_circle_of_random_graphs() -> None:
    """A circle is told as a path along edges; if all that are told are cut where they close, none is left."""
    random = Random("graphs")
    kinds = set()
    for _ in range(VALUES):
        after = graph(random)
        found = list(circles(after))
        for circle in found:
            assert circle[0] == circle[-1]
            assert len({*circle}) == len(circle) - 1
            assert all(two in after[one] for one, two in pairwise(circle))
        assert bool(found) == bool(in_circles(after)) != sorts(after)
        cut = {(circle[-2], circle[-1]) for circle in found}
        rest = {name: [other for other in others if (name, other) not in cut] for name, others in after.items()}
        assert not in_circles(rest)
        kinds.add(bool(found))
    assert kinds == {True, False}


def test_M3_jails_in_random_graphs() -> None:
    """As manifests: a repository has a start order, or each circle's problem stands at a jail of it."""
    random = Random("jails")
    for _ in range(max(VALUES // 10, 20)):
        after = graph(random)
        documents = [one for file, one in DOCUMENTS.items() if not file.startswith("Jail")]
        for number, (name, others) in enumerate(after.items()):
            spec = {"host": "host1", "addresses": [f"198.51.100.{100 + number}"], "after": others}
            documents.append({**DOCUMENTS["Jail1"], "metadata": {"name": name}, "spec": spec})
        loaded = load([Blob("all.yaml", "all", "".join(f"---\n{json.dumps(one)}\n" for one in documents).encode())])
        told = [str(problem) for problem in (*loaded.problems, *check(loaded.objects, drafts=loaded.drafts))]
        assert bool(told) == bool(in_circles(after)), (after, told)
        if not told:
            order = [jail.name for jail in resolve(loaded.objects).jails_of("host1")]
            assert all(order.index(other) < order.index(name) for name, others in after.items() for other in others)
