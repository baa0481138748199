"""What the tests of the manifests share: where the cases lie, and how a case is judged and told."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from controller.manifests.check import check
from controller.manifests.load import Blob, Loaded, load

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "cases" / "manifests"
EXAMPLES = ROOT / "examples" / "repo"
SINGLE = sorted(path for path in CASES.glob("*/*.yaml") if path.parent.name not in ("cross", "drafts"))
CROSS = sorted((CASES / "cross").glob("*.yaml"))
DRAFTS = sorted((CASES / "drafts").glob("*.yaml"))


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def blob(path: Path, below: Path) -> Blob:
    return Blob(path.relative_to(below).as_posix(), str(path), path.read_bytes())


def load_folder(folder: Path) -> Loaded:
    return load(blob(path, folder) for path in sorted(folder.rglob("*.yaml")))


def told(problems: Iterable[object]) -> str:
    return "".join(f"{problem}\n" for problem in problems)


def verdict(case: Path) -> str:
    """What a case in files says: of the loader, for cross/ of the cross-checks beside base.yaml, for drafts/ of both."""
    if case.parent.name not in ("cross", "drafts"):
        return told(load([blob(case, case.parent)]).problems)
    loaded = load([blob(CASES / "base.yaml", CASES), blob(case, case.parent)])
    if case.parent.name == "drafts":
        assert loaded.problems, "a case of a document that is not valid"
        return told((*loaded.problems, *check(loaded.objects, drafts=loaded.drafts)))
    assert told(loaded.problems) == "", "a cross-check's case must be valid document by document"
    controller = re.search(r"^# controller: (\S+)$", case.read_text(), re.MULTILINE)
    return told(check(loaded.objects, frozenset({controller[1]} if controller else ())))
