"""Write again what is made from the models: schemas/*.json, the tables of docs/manifests.md, the expected messages.

    python -m tests.manifests.regenerate

The difference is for a person to read: an expected message is right only when somebody agreed with it.
"""

from __future__ import annotations

from controller.manifests.schema import rendered
from tests.manifests.support import CROSS, DRAFTS, ROOT, SINGLE, verdict
from tests.manifests.tables import filled


def main() -> None:
    for name, text in rendered().items():
        (ROOT / "schemas" / name).write_text(text)
    page = ROOT / "docs" / "manifests.md"
    page.write_text(filled(page.read_text()))
    for case in (*SINGLE, *CROSS, *DRAFTS):
        case.with_suffix(".txt").write_text(verdict(case))


if __name__ == "__main__":
    main()
