"""What happens to a jail, in a person's words, whatever manages it."""

from __future__ import annotations

from controller.drivers.base import Explanation
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
    changed = [field for field, value in want.items() if have.get(field) != value]
    return Explanation(
        f"restart jail {name} on {host} with its new settings", f"{', '.join(changed)} differ", "restart"
    )
