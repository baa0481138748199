"""Services of a running node: how they stand, and telling them. What rc.d scripts exit with is never believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from controller.drivers.base import last_words
from controller.drivers.effects import SERVICES, SSHD, SSHD_CONFIG
from controller.encode.sh import put_file, raw, sh
from controller.errors import Retry, Stall
from controller.model import Answer, Script

_NOBODY_CAN_LOG_IN: Final = 10


OUTDATED: Final = "runs with settings from before"


def states(services: Sequence[str]) -> Script:
    """For each of these, and each that the node's rc.conf names: ``service TAB what onestatus says TAB outdated or not``."""
    return sh(
        """text=$(cat /etc/rc.conf /etc/rc.conf.local 2>/dev/null)
for s in {all}; do
  case " "{asked}" " in *" $s "*) ;; *) case "
$text" in *"
${{s}}_"*) ;; *) continue ;; esac ;; esac
  said=$(service "$s" onestatus 2>&1 | tr '\n' ' ')
  before=$(cat "/var/run/jailops.$s" 2>/dev/null)
  if test "$said" = "$before"; then age=outdated; else age=; fi
  printf '%s\t%s\t%s\n' "$s" "$said" "$age"
done""",
        all=(*SERVICES, SSHD) if SSHD in services else tuple(SERVICES),
        asked=" ".join(services),
    )


def read_states(answer: Answer, host: str) -> dict[str, str]:
    """Service -> running, stopped, absent or `OUTDATED`. Raises Retry for any other answer."""
    if answer.exit != 0:
        raise Retry(f"cannot see the services of {host}: {last_words(answer)}")
    found = {}
    for line in answer.out.splitlines():
        service, said, age = [*line.split("\t"), "", ""][:3]
        if " is running as pid " in said:
            found[service] = OUTDATED if age == "outdated" else "running"
        elif " is not running" in said:
            found[service] = "stopped"
        elif f"{service} does not exist in " in said:
            found[service] = "absent"
        else:
            raise Retry(f"cannot see whether {service} of {host} runs: {said.strip() or 'no answer'}")
    return found


def remember(service: str) -> Script:
    """Which process runs before its settings are changed: as long as it is the same one, it does not know them. Written
    first, so that whatever ends in between leaves a difference to be seen."""
    return sh(
        "service {service} onestatus 2>&1 | tr '\\n' ' ' > {mark}", service=service, mark=f"/var/run/jailops.{service}"
    )


def enabled(service: str, settings: Mapping[str, str]) -> bool:
    """Whether rc.conf(5) starts a service, as rc.subr's checkyesno reads it."""
    value = settings.get(f"{service}_enable", "YES" if SERVICES[service] else "NO")
    return value.lower() in ("yes", "true", "on", "1")


def tell(service: str, verb: str) -> Script:
    """What it says is kept for the message; whether it worked is seen by looking (rc scripts lie with exit 0)."""
    return sh("service {service} {verb} >&2 || :", service=service, verb=verb)


def sshd_test(path: str, text: str) -> Script:
    """Have sshd read a candidate beside the file: it must be valid, and let root in with a key. Nothing is left behind."""
    return sh(
        """{put} || exit 4
/usr/sbin/sshd -t -f {new} >&2; status=$?
if test $status = 0; then
  said=$(/usr/sbin/sshd -T -f {new} -C user=root,host=localhost,addr=127.0.0.1) || status=1
  case "$said" in *'permitrootlogin no'*|*'permitrootlogin forced'*|*'pubkeyauthentication no'*) status={nobody} ;; esac
fi
rm -f {new}
exit $status""",
        put=raw(put_file(f"{path}.jailops-test", text, 0o600)),
        new=f"{path}.jailops-test",
        nobody=_NOBODY_CAN_LOG_IN,
    )


def sshd_refuses(answer: Answer, host: str) -> Stall:
    why = "root could not log in with a key any more" if answer.exit == _NOBODY_CAN_LOG_IN else last_words(answer)
    return Stall(
        f"cannot apply {SSHD_CONFIG} to {host}: sshd -t refuses it: {why}; nothing was changed",
        hint="mend it in the manifest before anything boots it: after a reboot nobody could log in",
    )
