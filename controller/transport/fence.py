"""The guard that a host itself keeps around everything that writes on it.

In: a script, its deadline, and the number of the controller that sends it. Out: a script that runs it only while no higher
number was seen there, never two of one lane at once, and never past the deadline; and what its answer meant. Built of sh,
mkdir(1), mv(1), sleep(1), flock(1) and setsid(1) on Linux, or lockf(1) and daemon(8) on FreeBSD: the kernel lets such a lock go
when its holder dies, so that nothing stale can be left.

The number lives in memory (/var/run): after a reboot of the host the first controller that comes is believed.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Final, get_args

from controller.encode.job import LOCKED, SESSION
from controller.encode.sh import lines, raw, sh
from controller.errors import Retry, Stall
from controller.model import Answer, Lane, Script
from controller.transport.translate import plain

REFUSED: Final = 77
BUSY: Final = 75
ENDED: Final = 124
"""How the guard exits. It counts only together with its token: a script may exit with the same."""

ENDING: Final = 15.0
"""Seconds past its deadline in which an act is ended by its host (5 s from TERM to KILL) and that is told."""

_LAST_WORDS: Final = 300
"""Bytes of what an ended act had printed that are told."""

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")

# $1 the fence's file, $2 number, $3 id, $4 files of this lane, $5 of the other. Who takes over waits for the act that an older
# one was let in for. The lock of its lane alone does not say that: its holder may still wait to be judged, and will be refused.
_CHECK: Final = """\
file=$1 number=$2 id=$3 lane=$4 other=$5 have= who=
umask 077
if [ -e "$file" ]; then
  read -r have who <"$file"
  case $have in
    ''|*[!0-9]*|????????????????????*) echo "jailops: cannot read the fence number in $file" >&2; exit 77 ;;
  esac
  if [ "$have" -gt "$number" ] || { [ "$have" -eq "$number" ] && [ "$who" != "$id" ]; }; then
    echo "jailops: fence $have of $who stands before $number of $id" >&2
    exit 77
  fi
fi
[ "$have $who" = "$number $id" ] || { echo "$number $id" >"$file.new" && mv -f "$file.new" "$file"; } || exit 73
if { read -r by <"$other.by"; } 2>/dev/null && [ "$by" != "$number $id" ]; then
  locked 0 "$other.lock" true || { code=$?; echo "that of $by in lane ${other##*.}" >&2; exit $code; }
fi
echo "$number $id" >"$lane.by" || exit 73
"""

# The right side of a pipe. Its left side, the act, is in a process group of its own: it says which one, and at its end how it
# went. A timer that was not ended by then has run out. Nothing of this outlives the act, however that ends.
_WATCH: Final = """\
watch() {
  exec 3<&0
  read -r group || { cat "$lane.err" >&2; exit 69; }
  sleep "$seconds" 3<&- & timer=$!
  { read -r code || code=137; kill "$timer"; exit "$code"; } <&3 2>/dev/null & end=$!
  if wait "$timer" 2>/dev/null; then
    kill "$end"; end_all 2>/dev/null; code=124
  else
    wait "$end"; code=$?; late=
  fi
  cat "$lane.out"; cat "$lane.err" >&2; [ -z "$late" ] || echo "$late" >&2
  rm -f "$lane.out" "$lane.err" "$lane.by" "$lane.hangs"
  exit $code
}
end_all() {
  kill -s TERM -- "-$group"
  for pause in 0.1 0.4 0.5 1 1 1 1; do
    kill -s 0 -- "-$group" || return 0
    sleep $pause
  done
  kill -s KILL -- "-$group" || return 0
  rm -f "$lane.by"
  sleep 0.2
  while kill -s KILL -- "-$group"; do
    echo "its deadline of $seconds s has passed, and SIGKILL has not ended process group $group yet" >"$lane.hangs"
    sleep 1
  done
}
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


def guard(script: str, fence: Fence, *, lane: Lane, seconds: float, state_dir: str, token: str) -> Script:
    """The guarded script, which its host ends `seconds` after it was let in.

    It travels in a here-document: an argument could be seen by everybody on the host. What it prints is kept in a file until it
    ends. Were it the connection itself, a command that prints after we are gone would be killed by SIGPIPE in the middle of its
    work.
    """
    (other,) = (one for one in get_args(Lane) if one != lane)
    inside = sh(
        "{functions}\n"
        "lane={lane} seconds={seconds}\n"
        "late={late}\n"
        "( umask 077; : >{lane}.out && : >{lane}.err && : >{lane}.by ) && rm -f {lane}.hangs || exit 73\n"
        "locked 5 {fence}.lock /bin/sh -c {check} fence {fence} {number} {id} {lane} {other} || exit $?\n"
        "echo {token} >&2\n"
        # What this shell itself says of processes that were killed is nobody's.
        "{{ session /bin/sh -s 2>{lane}.err 3>&- | watch 2>&3; }} 3>&2 2>/dev/null <<'{end}'\n"
        "echo $$\n"
        "( eval {script} ) </dev/null >{lane}.out\n"
        "echo $?\n"
        "{end}\n",
        functions=raw(lines(LOCKED, SESSION, Script(_WATCH))),
        fence=f"{state_dir}/fence",
        lane=f"{state_dir}/act.{lane}",
        other=f"{state_dir}/act.{other}",
        seconds=f"{seconds:g}",
        late=f"{token} its deadline of {seconds:g} s",
        check=lines(LOCKED, Script(_CHECK)),
        number=fence.number,
        id=fence.id,
        token=token,
        end=raw(Script(f"{token}-act")),
        script=" " + script,
    )
    return sh(
        "{locked}\n"
        "( umask 077; mkdir -p {state} ) || exit 73\n"
        "locked 0 {lane}.lock /bin/sh -s <<'{end}'\n"
        "{inside}"
        "{end}\n"
        "code=$?\n"
        "if [ $code -eq 75 ] && [ -e {lane}.hangs ]; then cat {lane}.hangs >&2; fi\n"
        "exit $code\n",
        locked=raw(LOCKED),
        state=state_dir,
        lane=f"{state_dir}/act.{lane}",
        end=raw(Script(f"{token}-end")),
        inside=raw(inside),
    )


def admitted(answer: Answer, *, host: str, token: str) -> Answer:
    """The script's own answer. Raises Stall or Retry when the guard did not let it in, and Retry when it ended it."""
    before, mark, after = answer.stderr.partition(f"{token}\n".encode())
    if mark:
        return _unless_ended(Answer(answer.exit, answer.stdout, after, answer.seconds), host=host, token=token)
    said = plain(before.decode("utf-8", "backslashreplace"))
    if answer.exit == REFUSED:
        raise Stall(
            f"cannot act on {host}: refused there: {said}",
            hint="another controller has taken over: let exactly one run. If there is no other, one whose clock was ahead has "
            f"been there: remove /var/run/jailops/fence on {host}",
        )
    if answer.exit == BUSY:
        raise Retry(f"cannot act on {host}: an earlier act still runs there{f': {said}' if said else ''}")
    raise Retry(f"cannot act on {host}: its guard failed with status {answer.exit}: {said}")


def _unless_ended(answer: Answer, *, host: str, token: str) -> Answer:
    said, mark, deadline = answer.stderr.partition(f"{token} ".encode())
    if not mark:
        return answer
    last = plain((answer.stdout + said)[-_LAST_WORDS:].decode("utf-8", "backslashreplace"))
    raise Retry(
        f"cannot finish an act on {host}: it was ended there at {plain(deadline.decode())}, with all that it had started; "
        f"{f'its last words: {last}' if last else 'it had said nothing'}"
    )
