"""Why an image's generation is another one than before: which inputs differ, and which commit made each of them so.

In: the Git source, the statuses of the last pass (which hold the manifests of complete generations). Out: `Explained`.
Asks no machine and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from controller.drivers.inputs import differences, flat, inputs
from controller.errors import Stall
from controller.graph import Desired, resolve
from controller.model import Ref
from controller.reconcile import with_builders
from controller.revision import Revisions
from controller.source import Snapshot
from controller.store import Store

_COMMITS = 500
"""How far back commits are looked through."""
_OURS = {
    "toolchain": "the build VM compiles with another compiler",
    "recipe.world": "this version of jailops makes worlds in another way",
    "recipe.packages": "this version of jailops installs packages in another way",
    "recipe.configuration": "this version of jailops makes generations in another way",
}
"""Inputs that no commit changes."""


@dataclass(frozen=True)
class Reason:
    """One input that differs. Texts are empty where there is nothing: an input that came, one that went."""

    field: str
    before: str
    after: str
    revision: str = ""
    """The commit that made it so; empty when none did."""
    author: str = ""
    subject: str = ""
    why: str = ""
    """What else made it so."""


@dataclass(frozen=True)
class Explained:
    image: str
    wanted: str
    complete: bool
    before: str
    """The newest other generation that is complete; empty when there is none."""
    reasons: tuple[Reason, ...] = ()
    known: bool = True
    """False when that generation does not say what it was made of."""
    refused: tuple[str, ...] = ()
    """Why a newer commit is not in force, and so not what this is about."""


async def explain(image: str, revisions: Revisions, store: Store) -> Explained:
    """Raises Stall for an image that is not there or was not looked at yet."""
    in_force = await revisions.wanted()
    if image not in in_force.desired.images:
        known = ", ".join(sorted(in_force.desired.images)) or "none"
        raise Stall(f"cannot explain image/{image}: there is no such image", hint=f"there is {known}")
    desired = _with_builders(in_force.desired, store)
    made_of = inputs(desired, image)
    if made_of.missing:
        raise Stall(f"cannot explain image/{image}: {made_of.missing}", hint="have it looked at: jailops apply")
    complete = _generations(store, image)
    others = {name: manifest for name, manifest in complete.items() if name != made_of.generation}
    before = max(others, key=lambda one: (others[one].get("finished", 0), one), default="")
    found = Explained(
        image, made_of.generation, made_of.generation in complete, before, refused=tuple(in_force.refused)
    )
    if not before:
        return found
    if "inputs" not in others[before]:
        return replace(found, known=False)
    changed = differences(others[before]["inputs"], flat(made_of))
    reasons = await _with_commits(changed, image, in_force.revision, desired, revisions)
    return replace(found, reasons=reasons)


async def _with_commits(
    changed: list[tuple[str, str, str]], image: str, newest: str, desired: Desired, revisions: Revisions
) -> tuple[Reason, ...]:
    """The last commit that changed each input to what it is: going back until every one is found."""
    git = desired.images[image].spec.source.git
    others = {**_OURS, **({"source.git.commit": f"{git.ref} has moved"} if git and git.ref else {})}
    left = {field for field, _, _ in changed if field not in others}
    did: dict[str, Snapshot] = {}
    child: Snapshot | None = None
    values: Mapping[str, str] = {}
    async for snapshot, objects in revisions.history(newest, _COMMITS):
        here = _values(resolve(objects), image, desired)
        if child is not None:
            for field in [one for one in left if here.get(one, "") != values.get(one, "")]:
                did[field] = child
                left.remove(field)
        if not left:
            break
        child, values = snapshot, here
    else:
        did |= dict.fromkeys(left, child) if child is not None else {}  # it was so from the first commit on
    return tuple(_reason(field, before, after, did.get(field), others) for field, before, after in changed)


def _reason(field: str, before: str, after: str, did: Snapshot | None, others: Mapping[str, str]) -> Reason:
    if did is None:
        return Reason(field, before, after, why=others.get(field, "it was not found in the last commits"))
    return Reason(field, before, after, did.revision, did.author, did.subject)


def _values(desired: Desired, image: str, builders: Desired) -> Mapping[str, str]:
    if image not in desired.images:
        return {}
    return flat(inputs(replace(desired, toolchains=builders.toolchains, tips=builders.tips), image))


def _with_builders(desired: Desired, store: Store) -> Desired:
    return with_builders(desired, {ref: one.facts for ref, one in store.objects().items() if one.facts is not None})


def _generations(store: Store, image: str) -> Mapping[str, Mapping[str, Any]]:
    """Complete generations and their manifests, as the last pass saw them."""
    for status, _ in store.statuses():
        if Ref(**status["ref"]) == Ref("image", image) and "generations" in status["detail"]:
            found: Mapping[str, Mapping[str, Any]] = status["detail"]["generations"]
            return found
    raise Stall(
        f"cannot explain image/{image}: its generations were not seen in the last pass",
        hint="jailops status says why; have it looked at: jailops apply",
    )
