"""Long work that outlives our connection: scripts that start, look at, stop and forget it, and what a look answered.

In: a directory, a job's name, a script. Out: POSIX sh text, and `Job`. Never runs anything itself. A job is a folder:

    script  started  pid  log  result      and two lock files

`start.lock` is held while a job is started, looked at, stopped or forgotten; `lock` is held by the job for as long as
it lives, so that a pid used again by somebody else is never taken for it. A job with a result is done, one that holds
its lock is running, any other that was started is lost. A name is run once: `start` of a job that exists in any state
changes nothing, and `forget` of an ended one makes room for the next run.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from controller.encode.sh import raw, sh
from controller.errors import Retry
from controller.model import Answer, Script

State: TypeAlias = Literal["absent", "running", "done", "lost"]

TAIL_MOST: Final = 65_536
"""Bytes of the log that one look brings."""

LOCKED: Final = Script("""\
locked() {
  jailops_wait=$1 jailops_file=$2; shift 2
  if command -v lockf >/dev/null 2>&1; then lockf -k -s -t "$jailops_wait" "$jailops_file" "$@"
  elif command -v flock >/dev/null 2>&1; then flock -o -E 75 -w "$jailops_wait" "$jailops_file" "$@"
  else echo 'jailops: neither lockf(1) nor flock(1) on this machine' >&2; return 69; fi
}""")
"""``locked SECONDS FILE COMMAND…``: run a command under a lock; 75 when it is not free in time. The command does not
inherit the lock: flock(1) -o, and lockf(1) always, or a daemon that it starts would hold it for ever."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

# $1 job directory. Runs as the job's first process: its pid is its group's where setsid(1) or daemon(8) made one.
_RUNNER: Final = """\
trap '' HUP
echo $$ >"$1/pid.new"
if command -v lockf >/dev/null 2>&1; then exec lockf -k -s -t 0 "$1/lock" /bin/sh -c "$2" jailops-job "$1"; fi
exec flock -E 75 -w 0 "$1/lock" /bin/sh -c "$2" jailops-job "$1"
"""

# $1 job directory. The trap keeps this shell alive when the group is told to end: it must say how the script did.
_BODY: Final = """\
trap : TERM INT
cd /
mv -f "$1/pid.new" "$1/pid"
( umask 022; exec /bin/sh "$1/script" )
code=$?
echo "$code $(date +%s)" >"$1/result.new" && sync && mv -f "$1/result.new" "$1/result"
"""

# $1 job directory, $2 the new script's temporary file, $3 runner, $4 body. Under start.lock until the job has its own.
_LAUNCH: Final = """\
if [ -e "$1/result" ] || [ -e "$1/started" ]; then exit 0; fi
mv -f "$2" "$1/script" && : >"$1/log" && rm -f "$1/pid" || exit 73
date +%s >"$1/started.new" && mv -f "$1/started.new" "$1/started" || exit 73
(
  if command -v setsid >/dev/null 2>&1; then exec setsid /bin/sh -c "$3" jailops-job "$1" "$4"
  elif command -v daemon >/dev/null 2>&1; then exec daemon /bin/sh -c "$3" jailops-job "$1" "$4"
  else exec /bin/sh -c "$3" jailops-job "$1" "$4"; fi
) </dev/null >>"$1/log" 2>&1 &
tries=0
until [ -e "$1/pid" ]; do
  tries=$((tries + 1))
  if [ $tries -gt 100 ]; then echo "jailops: the job did not start, see $1/log" >&2; exit 69; fi
  sleep 0.05
done
"""

# The lock is tried before the result is looked for: a job writes its result before it lets go.
_STATE: Final = """\
state() {
  if [ ! -e "$1/started" ]; then echo absent; return 0; fi
  if [ -e "$1/result" ]; then echo done; return 0; fi
  locked 0 "$1/lock" true
  case $? in
    0) if [ -e "$1/result" ]; then echo done; else echo lost; fi ;;
    75) echo running ;;
    *) return 1 ;;
  esac
}"""

# $1 job directory, $2 offset (negative: from the end), $3 most bytes
_LOOK: Final = """\
now=$(state "$1") || exit 1
echo "state $now"
[ "$now" = absent ] && exit 0
read -r at <"$1/started" && echo "started $at"
if [ -e "$1/pid" ]; then read -r pid <"$1/pid" && echo "pid $pid"; fi
if [ -e "$1/result" ]; then read -r result <"$1/result" && echo "result $result"; fi
size=0
if [ -e "$1/log" ]; then size=$(($(wc -c <"$1/log"))) || exit 1; fi
from=$2
if [ "$from" -lt 0 ]; then from=$((size + from)); fi
if [ "$from" -lt 0 ]; then from=0; fi
if [ "$from" -gt "$size" ]; then from=$size; fi
echo "log $size $from"
echo
if [ "$from" -lt "$size" ]; then tail -c +$((from + 1)) "$1/log" | head -c "$3"; fi
"""

# $1 job directory. TERM first; KILL after ten seconds; then the result is ours to write.
_STOP: Final = """\
now=$(state "$1") || exit 1
[ "$now" = running ] || exit 0
read -r pid <"$1/pid" || exit 1
tell() { kill -s "$1" -- "-$pid" 2>/dev/null || kill -s "$1" "$pid" 2>/dev/null; }
tell TERM
tries=0
while [ $tries -lt 100 ] && [ ! -e "$1/result" ] && tell 0; do tries=$((tries + 1)); sleep 0.1; done
[ -e "$1/result" ] && exit 0
tell KILL
echo "137 $(date +%s)" >"$1/result.new" && mv -f "$1/result.new" "$1/result"
"""

# $1 job directory
_FORGET: Final = """\
now=$(state "$1") || exit 1
if [ "$now" = running ]; then echo "jailops: cannot forget $1: it is running" >&2; exit 75; fi
rm -f "$1/started" && rm -f "$1/script" "$1/pid" "$1/pid.new" "$1/log" "$1/result" "$1/result.new"
"""


@dataclass(frozen=True, slots=True)
class Job:
    """How a job stands. Times are Unix times in seconds of the machine's own clock."""

    state: State
    exit: int | None = None
    """The script's exit status: known when done. 143 or 137 when it was stopped."""
    pid: int | None = None
    started: float | None = None
    finished: float | None = None
    log_size: int = 0
    """Bytes of the whole log."""
    offset: int = 0
    """Where `tail` begins in the log; the next look goes on at ``offset + len(tail)``."""
    tail: bytes = b""


def job_start_script(directory: str, name: str, script: str) -> Script:
    """Start a job unless one of that name exists. Exit 0: it exists now, and runs or has run.

    `script` may hold secret holes: it travels in a here-document, so that its quoting is not nested, and is kept in a
    file that only its owner can read.
    """
    return sh(
        "{locked}\n"
        "umask 077\n"
        "mkdir -p {job} && cat >{job}/script.$$ <<'{end}' || exit 73\n"
        "{script}\n"
        "{end}\n"
        "locked 30 {job}/start.lock /bin/sh -c {launch} jailops {job} {job}/script.$$ {runner} {body}\n"
        "code=$?\n"
        "rm -f {job}/script.$$\n"
        "exit $code",
        locked=raw(LOCKED),
        job=_path(directory, name),
        end=raw(Script(f"end-{hashlib.sha256(script.encode('utf-8', 'surrogateescape')).hexdigest()}")),
        script=raw(Script(script)),
        launch=_LAUNCH,
        runner=_RUNNER,
        body=_BODY,
    )


def job_look_script(directory: str, name: str, offset: int = 0) -> Script:
    """Ask how a job stands, with at most 64 KiB of its log from `offset` on; a negative one counts from the end."""
    return sh(
        "if [ ! -d {job} ]; then\n"
        "  if [ -e {directory} ]; then ls {directory}/. >/dev/null || exit 1; fi\n"
        "  echo 'state absent'; exit 0\n"
        "fi\n"
        "{under_lock}",
        job=_path(directory, name),
        directory=directory,
        under_lock=raw(_under_lock(directory, name, 5, _LOOK, str(offset), str(TAIL_MOST))),
    )


def job_stop_script(directory: str, name: str) -> Script:
    """End a running job: TERM to its process group, KILL after 10 s. It is done then, with 143 or 137."""
    return _if_any(directory, name, _under_lock(directory, name, 15, _STOP))


def job_forget_script(directory: str, name: str) -> Script:
    """Make room for another run of that name. Exit 75 while it runs, 0 when it is absent now."""
    return _if_any(directory, name, _under_lock(directory, name, 5, _FORGET))


def parse_job(answer: Answer) -> Job:
    """Read a look's answer. Raises Retry for whatever is not one: unknown is never absent."""
    if answer.exit != 0:
        raise Retry(f"cannot look at a job: exit status {answer.exit}: {answer.err.strip()[:300]}")
    head, _, tail = answer.stdout.partition(b"\n\n")
    try:
        fields = dict(line.split(" ", 1) for line in head.decode("ascii").splitlines())
        return _job(fields, tail)
    except (ValueError, KeyError) as exc:
        raise Retry(f"cannot understand what a look at a job answered: {answer.out[:300]!r}") from exc


def _job(fields: dict[str, str], tail: bytes) -> Job:
    state = fields["state"]
    if state == "absent":
        return Job("absent")
    if state not in ("running", "done", "lost"):
        raise ValueError(state)
    size, offset = map(int, fields["log"].split(" "))
    code, finished = map(int, fields["result"].split(" ")) if state == "done" else (None, None)
    return Job(
        state=cast(State, state),
        exit=code,
        pid=int(fields["pid"]) if "pid" in fields else None,
        started=float(fields["started"]),
        finished=None if finished is None else float(finished),
        log_size=size,
        offset=offset,
        tail=tail,
    )


def _under_lock(directory: str, name: str, seconds: int, program: str, *arguments: str) -> Script:
    job = _path(directory, name)
    return sh(
        "{locked}\nlocked {seconds} {job}/start.lock /bin/sh -c {program} jailops {job} {arguments}",
        locked=raw(LOCKED),
        seconds=seconds,
        job=job,
        program=f"{LOCKED}\n{_STATE}\n{program}",
        arguments=arguments,
    )


def _if_any(directory: str, name: str, then: Script) -> Script:
    return sh("[ -d {job} ] || exit 0\n{then}", job=_path(directory, name), then=raw(then))


def _path(directory: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a job's name: {name!r}")
    return f"{directory.rstrip('/')}/{name}"
