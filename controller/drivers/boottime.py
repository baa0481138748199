"""A node that does not come up: what to ask boot server and SAN about its boot, and how far it came. For the node's driver.

Asked only while a node is rebooting: the answers are read from logs and cost more than other looks.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.encode import bootlog
from controller.encode.boottime import Timeline, timeline
from controller.encode.text import GrammarError
from controller.graph import Desired, host_share, rootfs
from controller.model import Answer, Probe, Unseen

__all__ = ["Timeline", "read_timeline", "timeline_probes"]


def timeline_probes(desired: Desired, host: str) -> tuple[Probe, Probe]:
    """One question to the host's boot server and one to its SAN."""
    spec, node = desired.hosts[host].spec, _node(desired, host)
    ganesha = desired.sans[spec.san].spec.nfs.backend == "ganesha"
    return (
        Probe(spec.boot_server, bootlog.question(node)),
        Probe(spec.san, bootlog.question(node, ganesha=ganesha)),
    )


def read_timeline(desired: Desired, host: str, answers: Sequence[Answer | Unseen], ago: float) -> Timeline | Unseen:
    """How far the host came in the last `ago` seconds, by the boot server's own clock, from the answers to `timeline_probes`.

    `Unseen` when neither that it began to boot nor that it did not is proved; one answer alone may be enough.
    """
    spec, node = desired.hosts[host].spec, _node(desired, host)
    servers = (spec.boot_server, spec.san)
    logs, reasons = list[bootlog.Log | None](), list[str]()
    for server, answer in zip(servers, answers, strict=True):
        log = _read(server, answer, node)
        logs.append(log if isinstance(log, bootlog.Log) else None)
        reasons += [log.reason] if isinstance(log, Unseen) else []
    now = next((log.now for log in logs if log is not None), 0.0)
    found = timeline(logs[0], logs[1], now - ago, servers)
    if found is not None:
        return found
    why = "; ".join(reasons) or f"no log of dhcpd or Kea for that time was found on {spec.boot_server}"
    return Unseen(f"cannot see how far {host} came in its boot: {why}")


def _node(desired: Desired, host: str) -> bootlog.Node:
    spec = desired.hosts[host].spec
    image = rootfs(desired, spec.image, "").rstrip("/")
    return bootlog.Node(spec.mac, desired.host_address(host), host_share(desired, host), image)


def _read(server: str, answer: Answer | Unseen, node: bootlog.Node) -> bootlog.Log | Unseen:
    if isinstance(answer, Unseen):
        return answer
    if answer.exit != 0:
        return Unseen(f"cannot read the logs of {server}: {answer.err.strip() or 'no message'} (exit {answer.exit})")
    try:
        return bootlog.parse(answer.out, node)
    except GrammarError as error:
        return Unseen(f"cannot read what {server} said about its logs: {error}")
