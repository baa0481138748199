"""Long work that outlives our connection: scripts that start, look at, stop and forget it, and what a look answered.

In: a directory, a job's name, a script. Out: POSIX sh text, and `Job`. Never runs anything itself. A job is a folder:

    script  started  pid  log  result      two lock files, and attempts/ with the list and logs of earlier runs

`start.lock` is held while a job is started, looked at, stopped or forgotten; `lock` is held by the job for as long as
it lives, so that a pid used again by somebody else is never taken for it. A job with a result is done, one that holds
its lock is running, any other that was started is lost. A name is run once: `start` of a job that exists in any state
changes nothing, and `forget` of an ended one makes room for the next run: what it was is kept as an attempt.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from controller.encode.sh import raw, sh
from controller.encode.text import GrammarError
from controller.errors import Retry
from controller.model import Answer, Script

State: TypeAlias = Literal["absent", "running", "done", "lost"]

TAIL_MOST: Final = 65_536
"""Bytes of the log that one look brings."""

ATTEMPTS: Final = 5
"""How many earlier runs of a job are remembered, each with its log."""

LOCKED: Final = Script("""\
locked() {
  jailops_wait=$1 jailops_file=$2; shift 2
  if command -v lockf >/dev/null 2>&1; then lockf -k -s -t "$jailops_wait" "$jailops_file" "$@"
  elif command -v flock >/dev/null 2>&1; then flock -o -E 75 -w "$jailops_wait" "$jailops_file" "$@"
  else echo 'jailops: neither lockf(1) nor flock(1) on this machine' >&2; return 69; fi
}""")
"""``locked SECONDS FILE COMMAND…``: run a command under a lock; 75 when it is not free in time. The command does not
inherit the lock: flock(1) -o, and lockf(1) always, or a daemon that it starts would hold it for ever."""

SESSION: Final = Script("""\
session() {
  if command -v setsid >/dev/null 2>&1; then exec setsid "$@"
  elif command -v daemon >/dev/null 2>&1; then exec daemon "$@"
  else echo 'jailops: neither setsid(1) nor daemon(8) on this machine' >&2; exit 69; fi
}""")
"""``session COMMAND…``, in a subshell: a command in a session and process group of its own, whose leader it is. Its streams are
the subshell's. daemon(8) does not wait for it; timeout(1) is in no FreeBSD before 10.3."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_WORD: Final = re.compile(r"[a-z]{1,20}")
_TIME: Final = r"(?:-|[0-9]{1,12})"
_JOB: Final = re.compile(
    rf"(?P<name>\S+) (?P<state>absent|running|done|lost) (?P<started>{_TIME}) (?P<finished>{_TIME})"
)

# $1 job directory. Runs as the job's first process: its pid is its group's.
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
( session /bin/sh -c "$3" jailops-job "$1" "$4" ) </dev/null >>"$1/log" 2>&1 &
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

# $1 job directory, $2 offset (negative: from the end), $3 most bytes, $4 which log
_LOOK: Final = """\
now=$(state "$1") || exit 1
echo "state $now"
if [ -e "$1/started" ]; then read -r at <"$1/started" && echo "started $at"; fi
if [ -e "$1/pid" ]; then read -r pid <"$1/pid" && echo "pid $pid"; fi
if [ -e "$1/result" ]; then read -r result <"$1/result" && echo "result $result"; fi
echo "now $(date +%s)"
if [ -e "$1/attempts/list" ]; then while read -r line; do echo "attempt $line"; done <"$1/attempts/list"; fi
size=0
if [ -e "$1/$4" ]; then size=$(($(wc -c <"$1/$4"))) || exit 1; fi
from=$2
if [ "$from" -lt 0 ]; then from=$((size + from)); fi
if [ "$from" -lt 0 ]; then from=0; fi
if [ "$from" -gt "$size" ]; then from=$size; fi
echo "log $size $from"
echo
if [ "$from" -lt "$size" ]; then tail -c +$((from + 1)) "$1/$4" | head -c "$3"; fi
"""

# $1 job directory, $2 its name
_SUMMARY: Final = """\
now=$(state "$1") || exit 1
at=- ended=-
if [ -e "$1/started" ]; then read -r at <"$1/started"; fi
if [ -e "$1/result" ]; then read -r code ended <"$1/result"; fi
echo "job $2 $now $at $ended"
"""

# $1 job directory. TERM first; KILL after ten seconds; then the result is ours to write. A result alone is not the end:
# the next job must find nobody of this one at work.
_STOP: Final = """\
now=$(state "$1") || exit 1
[ "$now" = running ] || exit 0
read -r pid <"$1/pid" || exit 1
tell() { kill -s "$1" -- "-$pid" 2>/dev/null || kill -s "$1" "$pid" 2>/dev/null; }
tell TERM
tries=0
while tell 0; do
  if [ $tries -ge 100 ]; then tell KILL; break; fi
  tries=$((tries + 1)); sleep 0.1
done
[ -e "$1/result" ] && exit 0
echo "137 $(date +%s)" >"$1/result.new" && mv -f "$1/result.new" "$1/result"
"""

# $1 job directory, $2 why it is run again, $3 how many attempts are kept. A number is given to an attempt last of all.
_FORGET: Final = """\
now=$(state "$1") || exit 1
if [ "$now" = running ]; then echo "jailops: cannot forget $1: it is running" >&2; exit 75; fi
if [ -e "$1/started" ]; then
  mkdir -p "$1/attempts" || exit 73
  last=0
  if [ -e "$1/attempts/list" ]; then while read -r n rest; do last=$n; done <"$1/attempts/list"; else : >"$1/attempts/list"; fi
  next=$((last + 1))
  if [ -e "$1/log" ]; then mv -f "$1/log" "$1/attempts/$next.log" || exit 73; fi
  read -r at <"$1/started" || exit 1
  result='- -'
  if [ -e "$1/result" ]; then read -r result <"$1/result" || exit 1; fi
  { tail -n $(($3 - 1)) "$1/attempts/list" && echo "$next $2 $at $result"; } >"$1/attempts/list.new" &&
    mv -f "$1/attempts/list.new" "$1/attempts/list" || exit 73
  rm -f "$1/attempts/$((next - $3)).log"
fi
rm -f "$1/started" && rm -f "$1/script" "$1/pid" "$1/pid.new" "$1/log" "$1/result" "$1/result.new"
"""


_RUNNING: Final = """\
if [ "$(state "$1")" = running ]; then echo "${1##*/}"; fi
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier run of a job, and in a word why it was run again. Times as in `Job`; None when its end is unknown."""

    number: int
    why: str
    started: float
    exit: int | None = None
    finished: float | None = None


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
    """Of the run that was asked for."""
    now: float | None = None
    """What time it was on the machine when it was asked."""
    attempts: tuple[Attempt, ...] = ()
    """Earlier runs, oldest first."""


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
        launch=f"{SESSION}\n{_LAUNCH}",
        runner=_RUNNER,
        body=_BODY,
    )


def job_look_script(directory: str, name: str, offset: int = 0, attempt: int | None = None) -> Script:
    """Ask how a job stands, with at most 64 KiB of its log from `offset` on; a negative one counts from the end. The log is
    that of an earlier run, if one is asked for by its number."""
    log = "log" if attempt is None else f"attempts/{attempt}.log"
    return sh(
        "if [ ! -d {job} ]; then\n"
        "  if [ -e {directory} ]; then ls {directory}/. >/dev/null || exit 1; fi\n"
        "  echo 'state absent'; exit 0\n"
        "fi\n"
        "{under_lock}",
        job=_path(directory, name),
        directory=directory,
        under_lock=raw(_under_lock(directory, name, 5, _LOOK, str(offset), str(TAIL_MOST), log)),
    )


def jobs_script(directory: str) -> Script:
    """Ask how every job of a directory stands: one line ``job NAME STATE STARTED FINISHED`` each, ``-`` for no time.

    No such directory means no job. Exit 1 when one of them cannot be looked at.
    """
    return sh(
        """{locked}
for jailops_job in {directory}/*; do
  [ -d "$jailops_job" ] || continue
  locked 5 "$jailops_job/start.lock" /bin/sh -c {program} jailops "$jailops_job" "${{jailops_job##*/}}" || exit 1
done
:""",
        locked=raw(LOCKED),
        directory=directory.rstrip("/"),
        program=f"{LOCKED}\n{_STATE}\n{_SUMMARY}",
    )


def parse_jobs(lines: Iterable[str]) -> dict[str, Job]:
    """The lines of `jobs_script`, without their first word. Raises GrammarError for any other line."""
    found = {}
    for number, line in enumerate(lines, 1):
        match = _JOB.fullmatch(line)
        if not match:
            raise GrammarError(number, f"not the state of a job: {line!r}")
        begun, ended = (None if match[at] == "-" else float(match[at]) for at in ("started", "finished"))
        found[match["name"]] = Job(cast(State, match["state"]), started=begun, finished=ended)
    return found


def job_stop_script(directory: str, name: str) -> Script:
    """End a running job: TERM to its process group, KILL after 10 s. It is done then, with 143 or 137."""
    return _if_any(directory, name, _under_lock(directory, name, 15, _STOP))


def job_forget_script(directory: str, name: str, why: str) -> Script:
    """Make room for another run of that name, and remember this one as an attempt that ended for the reason `why`, one
    word. Exit 75 while it runs, 0 when it is absent now."""
    if not _WORD.fullmatch(why):
        raise ValueError(f"not one word: {why!r}")
    return _if_any(directory, name, _under_lock(directory, name, 5, _FORGET, why, str(ATTEMPTS)))


def jobs_running_script(directory: str) -> Script:
    """Print the name of every job that runs, one a line. Ended ones cost nothing."""
    return sh(
        """{locked}
for j in {directory}/*; do
  if [ ! -e "$j/started" ] || [ -e "$j/result" ]; then continue; fi
  locked 5 "$j/start.lock" /bin/sh -c {program} jailops "$j" || exit 1
done""",
        locked=raw(LOCKED),
        directory=directory.rstrip("/"),
        program=f"{LOCKED}\n{_STATE}\n{_RUNNING}",
    )


def parse_job(answer: Answer) -> Job:
    """Read a look's answer. Raises Retry for whatever is not one: unknown is never absent."""
    if answer.exit != 0:
        raise Retry(f"cannot look at a job: exit status {answer.exit}: {answer.err.strip()[:300]}")
    head, _, tail = answer.stdout.partition(b"\n\n")
    try:
        lines = [line.split(" ", 1) for line in head.decode("ascii").splitlines()]
        attempts = tuple(_attempt(words) for kind, words in lines if kind == "attempt")
        return _job(dict(line for line in lines if line[0] != "attempt"), attempts, tail)
    except (ValueError, KeyError) as exc:
        raise Retry(f"cannot understand what a look at a job answered: {answer.out[:300]!r}") from exc


def _attempt(words: str) -> Attempt:
    number, why, started, code, finished = words.split(" ")
    if code == "-":
        return Attempt(int(number), why, float(started))
    return Attempt(int(number), why, float(started), int(code), float(finished))


def _job(fields: dict[str, str], attempts: tuple[Attempt, ...], tail: bytes) -> Job:
    state = fields["state"]
    if state not in ("absent", "running", "done", "lost"):
        raise ValueError(state)
    if state == "absent":
        fields = {"log": "0 0", **fields}
    size, offset = map(int, fields["log"].split(" "))
    code, finished = map(int, fields["result"].split(" ")) if state == "done" else (None, None)
    return Job(
        state=cast(State, state),
        exit=code,
        pid=int(fields["pid"]) if "pid" in fields else None,
        started=None if state == "absent" else float(fields["started"]),
        finished=None if finished is None else float(finished),
        log_size=size,
        offset=offset,
        tail=tail,
        now=float(fields["now"]) if "now" in fields else None,
        attempts=attempts,
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
