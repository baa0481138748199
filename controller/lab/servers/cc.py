"""``cc`` of the build VM: only says who it is, which every look asks. What it would compile is `make`'s affair."""

from __future__ import annotations

from controller.lab.servers.kit import Box, uncovered

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

COMPILER: Final = (
    "FreeBSD clang version 14.0.5 (https://github.com/llvm/llvm-project.git llvmorg-14.0.5-0-gc12386ae247c)"
)


def main(argv: Sequence[str], box: Box) -> int:
    """``cc --version`` of the 13.2 base system; {"compiler": "…"} in ``/lab/build.json`` is another one."""
    if argv[1:] != ["--version"]:
        uncovered("cc that compiles")
    print(box.load("build", {}).get("compiler", COMPILER))
    print("Target: x86_64-unknown-freebsd13.2\nThread model: posix\nInstalledDir: /usr/bin")
    return 0
