"""What a renamed host keeps: everything that servers hold of it, and all that is remembered. And what a rename may not do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.drivers import DRIVERS, resources_of
from controller.drivers.inputs import inputs
from controller.drivers.renamed import OF_HOSTS, as_kept, as_now, memory_now
from controller.graph import Desired, resolve
from controller.manifests import Blob, check, load
from controller.model import Ref
from controller.removal import lost_disks, protected, removal, renamed
from controller.starter import repository

OLD, NEW = "jailbox2", "newbox"
HOST, JAILS = f"hosts/{OLD}.yaml", f"jails/{OLD}.yaml"


def desired(files: dict[str, str]) -> Desired:
    loaded = load([Blob(path, path, text.encode()) for path, text in files.items() if path.endswith(".yaml")])
    assert not loaded.problems
    assert not check(loaded.objects)
    return replace(resolve(loaded.objects), toolchains={"build-vm": "cc 1.0"})


def called(name: str, previous: str = "", *, protect: bool = False) -> Desired:
    """The example, whose second host has this name."""
    files = repository()
    said = f"  previous: {previous}\n" * bool(previous) + "  protect: true\n" * protect
    files[HOST] = files[HOST].replace(f"name: {OLD}\n", f"name: {name}\n").replace("\nspec:\n", f"\nspec:\n{said}")
    files[JAILS] = files[JAILS].replace(f"host: {OLD}\n", f"host: {name}\n")
    return desired(files)


BEFORE, MOVED, OTHER = called(OLD), called(NEW, OLD), called(NEW)


def test_M8_servers_are_told_of_a_renamed_host_what_they_were_told_before() -> None:
    """Volume, target, share, memory of boots, exports and generation; only what people are shown has the new name."""
    for kind in ("lun", "exports", "hostshare", "session", "filesystem", "boot", "retention"):
        old = [one.spec for one in DRIVERS[kind].resources(BEFORE)]
        new = [
            replace(one.spec, host=OLD) if getattr(one.spec, "host", "") == NEW else one.spec
            for one in DRIVERS[kind].resources(MOVED)
        ]
        assert sorted(map(repr, new)) == sorted(map(repr, old)), kind
    assert MOVED.hosts[NEW].spec.initiator == BEFORE.hosts[OLD].spec.initiator
    assert inputs(MOVED, "freebsd13").generation == inputs(BEFORE, "freebsd13").generation


def test_M8_without_previous_it_is_another_host() -> None:
    def luns(one: Desired) -> set[str]:
        return {lun.spec.volume for lun in DRIVERS["lun"].resources(one)}

    assert luns(OTHER) - luns(BEFORE) == {f"/srv/iscsi/jailops/{NEW}"}
    assert MOVED.hosts[NEW].spec.initiator != OTHER.hosts[NEW].spec.initiator


def test_M8_what_is_remembered_follows_the_host() -> None:
    names = {MOVED.kept_as(name): name for name in MOVED.hosts}
    before = {one.ref for one in resources_of(BEFORE)}
    now = {one.ref for one in resources_of(MOVED)}
    assert {as_now(ref, names) for ref in before} == now
    assert {as_kept(ref, MOVED) for ref in now} == before
    assert as_now(Ref("jail", f"{OLD}/gone"), names) == Ref("jail", f"{NEW}/gone")
    assert memory_now({"host": OLD, "iqn": "x"}, Ref("jail", f"{NEW}/web")) == {"host": NEW, "iqn": "x"}


def test_every_kind_that_is_called_after_hosts_is_known() -> None:
    found = {one.ref.kind for one in resources_of(BEFORE) if one.ref.name.partition("/")[0] in BEFORE.hosts}
    assert found == OF_HOSTS


def test_M8_a_rename_removes_nothing() -> None:
    assert removal(BEFORE.names(), MOVED.names()).names == ()
    gone = removal(BEFORE.names(), OTHER.names()).names
    jails = (f"Jail/{OLD}/{name}" for name in ("build.example.org", "db", "web"))
    assert gone == (f"Host/{OLD}", *jails)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (BEFORE, MOVED, ""),
        (MOVED, MOVED, ""),
        (MOVED, called("third", OLD), ""),
        (MOVED, called(OLD), ""),
        (BEFORE, OTHER, ""),
        (MOVED, OTHER, f"its disk is kept under the name {OLD}, and it must say previous: {OLD} as before"),
        (OTHER, MOVED, f"its disk is kept under the name {NEW}, and it must say no previous as before"),
        (MOVED, called("third", NEW), f"the disk of {NEW} is kept under its first name: say previous: {OLD}"),
    ],
)
def test_M8_no_disk_is_lost_by_a_name(before: Desired, after: Desired, told: str) -> None:
    found = list(lost_disks(before, after))
    assert len(found) == bool(told)
    assert all(one.endswith(told) and f"({HOST}:" in one for one in found)


def test_M8_a_rename_without_previous_is_asked_about() -> None:
    assert renamed(BEFORE, MOVED) == []
    assert renamed(BEFORE, BEFORE) == []
    (told,) = renamed(MOVED, called("third"))
    assert told == (
        f"Host/third has the MAC address of Host/{NEW}, which is gone: if it was renamed, say previous: {OLD} in its spec "
        f"({HOST}:4:1), or it gets an empty disk"
    )


def test_D_what_is_protected_is_named() -> None:
    before = called(OLD, protect=True)
    assert protected(removal(before.names(), OTHER.names()), before) == [f"Host/{OLD}"]
    assert protected(removal(before.names(), MOVED.names()), before) == []
    assert protected(removal(BEFORE.names(), OTHER.names()), BEFORE) == []
