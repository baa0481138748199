"""What happens to a jail, in a person's words, whatever manages it."""

from __future__ import annotations

from controller.drivers.base import Explanation, differing
from controller.model import Change


def explain_jail(change: Change, host: str) -> Explanation:
    """One sentence for any jail manager."""
    want, have = change.want or {}, change.have
    name = change.ref.name.partition("/")[2]
    if change.resource.retired:
        return Explanation(
            f"retire jail {name} on {host}: stop it, keep its data", "no manifest declares it", "disruptive"
        )
    if have is None:
        return Explanation(f"create jail {name} on {host}", "it does not exist")
    if not have.get("running") and want.get("running"):
        return Explanation(f"start jail {name} on {host}", "it is not running")
    if have.get("running") and not want.get("running"):
        return Explanation(f"stop jail {name} on {host}", "its manifest says stopped", "disruptive")
    reason = f"{', '.join(differing(want, have))} differ"
    if only_written(change):
        return Explanation(f"write the settings of jail {name} on {host}", reason)
    return Explanation(f"restart jail {name} on {host} with its new settings", reason, "restart")


def only_written(change: Change) -> bool:
    """Whether the files alone are mended: the jail is stopped, or what differs is nothing that it runs with.

    A file that is gone says nothing of the jail that was started from it; one that differs may be what it runs with.
    """
    want, have = change.want or {}, change.have or {}
    changed = differing(want, have)
    lost = changed == ["file"] and have.get("file") == "" and change.cause == "drift"
    stopped = not want.get("running") and not have.get("running")
    return stopped or changed == ["atBoot"] or lost
