"""Files of a node's memory /etc: what is asked of them, and how the answers read. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from controller.drivers import looks
from controller.drivers.base import last_words
from controller.drivers.hostshare import ls_mode
from controller.encode import rcconf
from controller.encode.sh import lines, sh
from controller.encode.text import GrammarError
from controller.errors import Retry
from controller.model import Answer, Script

RC_FILES: Final = ("/etc/rc.conf", "/etc/rc.conf.local")
"""As rc.conf(5) reads them: the image's, then the host's own."""


def read_settings(path: str, host: str, answer: Answer) -> dict[str, str] | None:
    """The assignments of one file, None when it is gone. Raises Retry for anything but plain assignments."""
    if answer.exit == looks.ABSENT:
        return None
    if answer.exit != 0:
        raise Retry(f"cannot read {path} of {host}: {last_words(answer)}")
    try:
        return rcconf.parse(answer.out)
    except GrammarError as error:
        raise Retry(f"cannot read {path} of {host}: {error}; it is not as jailops wrote it") from error


def merged(
    wanted: Mapping[str, str], others: Mapping[str, str] | None, is_live: Callable[[str], bool]
) -> dict[str, str]:
    """The wanted settings that are live, and all others as they stand there, in the order of the generation's file: equal
    to that byte for byte when nothing else differs. Everything as it is wanted when the file is gone."""
    if others is None:
        return dict(wanted)
    kept = {name: value if is_live(name) else others.get(name) for name, value in wanted.items()}
    return {**{name: value for name, value in kept.items() if value is not None}, **others}


def listing(folder: str, files: Sequence[str]) -> Script:
    """One line ``mode owner group digest path`` for every file of a folder, and for each of `files` that is there."""
    return lines(
        looks.SHA256,
        sh(
            """for f in {folder}/* {files}; do
  test -f "$f" || continue
  set -- $(ls -ld "$f")
  printf '%s %s %s %s %s\\n' "$(printf %s "$1" | cut -c 1-10)" "$3" "$4" "$(jo_sha "$f")" "$f"
done
:""",
            folder=folder,
            files=files,
        ),
    )


def read_listing(answer: Answer, host: str) -> dict[str, str]:
    """Path -> mode, owner, group and digest."""
    if answer.exit != 0:
        raise Retry(f"cannot look into /etc of {host}: {last_words(answer)}")
    found = {}
    for line in answer.out.splitlines():
        one = re.fullmatch(r"([-a-zA-Z]{10} \S+ \S+ [0-9a-f]{64}) (/.+)", line)
        if one is None:
            raise Retry(f"cannot read the list of files in /etc of {host}: {line!r}")
        found[one[2]] = one[1]
    return found


def as_listed(mode: int, digest: str) -> str:
    """How `listing` shows a file that we wrote."""
    return f"{ls_mode(mode)} root wheel {digest}"
