"""What the stand-ins of one machine were told, for tests that count effects: a line each with exit status and words.

The list is kept only while there is a file for it, `/lab/effects`, which a test makes.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FILE = "/lab/effects"


def note(argv: Sequence[str], status: int) -> None:
    try:
        file = os.open(FILE, os.O_WRONLY | os.O_APPEND)
    except FileNotFoundError:
        return
    words = " ".join([os.path.basename(argv[0]), *argv[1:]]).replace("\n", " ")
    os.write(file, f"{status} {words}\n".encode())
    os.close(file)
