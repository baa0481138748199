"""Write every ``expected.txt`` anew, to be read before it is believed: python -m tests.drivers.regenerate"""

from __future__ import annotations

from .report import report
from .scene import folders, scene


def main() -> None:
    for folder in folders():
        (folder / "expected.txt").write_text(report(scene(folder)))


if __name__ == "__main__":
    main()
