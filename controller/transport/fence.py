"""The guard that a host itself keeps around everything that writes on it.

In: a script and the number of the controller that sends it. Out: a script that runs it only while no higher number was
seen there, and never two of one lane at once; and what its answer meant. Built of sh, mkdir(1), mv(1) and flock(1) on
Linux or lockf(1) on FreeBSD: the kernel lets such a lock go when its holder dies, so that nothing stale can be left.

The number lives in memory (/var/run): after a reboot of the host the first controller that comes is believed.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Final

from controller.encode.job import LOCKED
from controller.encode.sh import raw, sh
from controller.errors import Retry, Stall
from controller.model import Answer, Lane, Script
from controller.transport.translate import plain

REFUSED: Final = 77
BUSY: Final = 75

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")

_CHECK: Final = """\
file=$1 number=$2 id=$3
umask 077
if [ -e "$file" ]; then
  have= who=
  read -r have who <"$file"
  case $have in
    ''|*[!0-9]*|????????????????????*) echo "jailops: cannot read the fence number in $file" >&2; exit 77 ;;
  esac
  if [ "$have" -gt "$number" ] || { [ "$have" -eq "$number" ] && [ "$who" != "$id" ]; }; then
    echo "jailops: fence $have of $who stands before $number of $id" >&2
    exit 77
  fi
  [ "$have" -lt "$number" ] || exit 0
fi
echo "$number $id" >"$file.new" && mv -f "$file.new" "$file" || exit 73
"""


@dataclass(frozen=True, slots=True)
class Fence:
    """Who acts: `number` grows with every controller that takes over, `id` names it."""

    number: int
    id: str

    def __post_init__(self) -> None:
        if not 0 <= self.number < 2**62:
            raise ValueError(f"not a fence number: {self.number}")
        if not _ID.fullmatch(self.id):
            raise ValueError(f"not a controller's id: {self.id!r}")


def new_token() -> str:
    """What the guard prints when it lets a script in: nothing else can print it."""
    return secrets.token_hex(16)


def guard(script: str, fence: Fence, *, lane: Lane, state_dir: str, token: str) -> Script:
    """The guarded script. It travels in a here-document: an argument could be seen by everybody on the host.

    What the script prints is kept in a file until it ends. Were it the connection itself, a command that prints after we
    are gone would be killed by SIGPIPE in the middle of its work.
    """
    inside = sh(
        "{locked}\n"
        "locked 5 {state}/fence.lock /bin/sh -c {check} fence {state}/fence {number} {id} || exit $?\n"
        "echo {token} >&2\n"
        "( umask 077; : >{out} && : >{err} ) || exit 73\n"
        "( eval {script} ) </dev/null >{out} 2>{err}\n"
        "jailops_code=$?\n"
        "cat {out}; cat {err} >&2; rm -f {out} {err}\n"
        "exit $jailops_code\n",
        locked=raw(LOCKED),
        state=state_dir,
        check=_CHECK,
        number=fence.number,
        id=fence.id,
        token=token,
        out=f"{state_dir}/act.{lane}.out",
        err=f"{state_dir}/act.{lane}.err",
        script=" " + script,
    )
    return sh(
        "{locked}\n"
        "( umask 077; mkdir -p {state} ) || exit 73\n"
        "locked 0 {state}/{lock} /bin/sh -s <<'{end}'\n"
        "{inside}"
        "{end}\n",
        locked=raw(LOCKED),
        state=state_dir,
        lock=f"act.{lane}.lock",
        end=raw(Script(f"{token}-end")),
        inside=raw(inside),
    )


def admitted(answer: Answer, *, host: str, token: str) -> Answer:
    """The script's own answer. Raises Stall or Retry when the guard did not let it in."""
    before, mark, after = answer.stderr.partition(f"{token}\n".encode())
    if mark:
        return Answer(answer.exit, answer.stdout, after, answer.seconds)
    said = plain(before.decode("utf-8", "backslashreplace"))
    if answer.exit == REFUSED:
        raise Stall(
            f"cannot act on {host}: refused there: {said}",
            hint="another controller has taken over, or two share one number: let exactly one of them run",
        )
    if answer.exit == BUSY:
        raise Retry(f"cannot act on {host}: an earlier act still runs there")
    raise Retry(f"cannot act on {host}: its guard failed with status {answer.exit}: {said}")
