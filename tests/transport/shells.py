"""Scripts on this machine, run by any shell that is here: proof that they are POSIX and not dash's."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

from controller.model import Answer

SHELLS = tuple(name for name in ("dash", "bash", "busybox", "mksh", "yash") if shutil.which(name))
"""dash and bash are on every Debian; the others count where they are."""

LOCKF = """\
#!/bin/sh
# FreeBSD's lockf(1), its options as in the manual page, on flock(1): the command never inherits the lock.
keep=no wait=
while getopts kst: option; do
  case $option in k) keep=yes ;; s) ;; t) wait=$OPTARG ;; *) exit 64 ;; esac
done
shift $((OPTIND - 1))
[ $# -ge 2 ] && [ $keep = yes ] && [ -n "$wait" ] || exit 64
exec flock -o -E 75 -w "$wait" "$@"
"""

DAEMON = """\
#!/bin/sh
# FreeBSD's daemon(8) without options: a session of its own, streams as they are, the caller does not wait.
exec 3<&0
/usr/bin/setsid "$@" <&3 3<&- &
"""


class Place:
    """A shell that is called /bin/sh, and its PATH."""

    def __init__(self, directory: Path, shell: str, *, freebsd: bool = False) -> None:
        self._bin = directory / "bin"
        self._bin.mkdir()
        self._sh = self._bin / "sh"
        self._sh.symlink_to(shutil.which(shell) or shell)
        self.path = f"{self._bin}:/usr/bin:/bin"
        if freebsd:
            self._only_freebsd()

    def run(self, script: str, timeout: float = 30) -> Answer:
        """Run a script as the far side would: on standard input, with every inner /bin/sh this shell too."""
        text = script.replace("/bin/sh", str(self._sh))
        done = subprocess.run(
            [str(self._sh), "-s"],
            input=text.encode(),
            capture_output=True,
            check=False,
            timeout=timeout,
            env={"PATH": self.path},
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def left(self) -> list[str]:
        """What still runs of all that was started here, known by its PATH."""
        found = []
        for environment in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if f"PATH={self.path}\0".encode() in environment.read_bytes():
                    found.append(environment.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    def _only_freebsd(self) -> None:
        """A PATH that holds lockf and daemon, and neither flock nor setsid by that name."""
        for tool in (
            "cat",
            "chmod",
            "date",
            "head",
            "ls",
            "mkdir",
            "mv",
            "rm",
            "sleep",
            "sync",
            "tail",
            "true",
            "wc",
            "touch",
        ):
            (self._bin / tool).symlink_to(shutil.which(tool) or tool)
        for name, text in (("lockf", LOCKF.replace("exec flock", "exec /usr/bin/flock")), ("daemon", DAEMON)):
            (self._bin / name).write_text(text)
            (self._bin / name).chmod(0o755)
        self.path = str(self._bin)
