"""What a changed field takes, field by field: one that nobody classed fails here before it surprises anybody."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from pydantic import BaseModel

from controller.drivers import DRIVERS, World
from controller.drivers.effects import FIELDS, INPUTS, class_of, needs_reboot, told, what_a_reboot_would_change
from controller.drivers.inputs import differences, flat, inputs
from controller.manifests import HostSpec, ImageSpec, JailSpec
from controller.model import Change, Effect, Facts, Observed, Ref, Resource

from .scene import IMAGE, digest, manifests

FILE = "images/freebsd13.yaml"
SPECS: Mapping[str, type[BaseModel]] = {"Image": ImageSpec, "Host": HostSpec, "Jail": JailSpec}
REST = "  memory:  => "


def fields(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Every field by its name in a manifest, and those of its blocks."""
    for name, field in model.model_fields.items():
        here = f"{above}{field.alias or name}"
        yield here
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from fields(kind, f"{here}.")


@pytest.mark.parametrize("kind", SPECS)
def test_every_field_is_classed_once(kind: str) -> None:
    """Either a block as a whole, or each of its fields."""
    classed, known = FIELDS[kind], list(fields(SPECS[kind]))
    assert set(classed) <= set(known)
    for name in known:
        inside = [one for one in known if one.startswith(f"{name}.")]
        above = [one for one in classed if name == one or name.startswith(f"{one}.")]
        assert len(above) == 1 or (not above and inside), name


def test_every_input_of_a_generation_is_classed() -> None:
    """An image with everything in it: nothing falls to the class of what nobody knows."""
    rest = (
        r"  packageRepository:\n    url: https://pkg.example.org\n  makeOptions:\n    CPUTYPE: i586\n"
        r"  loaderConf:\n    kern.racct.enable: '1'\n  rootPasswordHash:\n    file: x\n"
        r"  files:\n    - path: /etc/token\n      content: hush\n  memory: "
    )
    made_of = flat(inputs(manifests([f"{FILE}: {REST}{rest}", f"{FILE}: packages: [] => packages: [tmux]"]), IMAGE))
    tops = {name.partition(".")[0] for name in made_of}
    assert tops <= INPUTS.keys()
    own = {alias.partition(".")[0] for alias in FIELDS["Image"]} - {"packageRepository"}
    assert own - tops == {"buildVM", "san", "keep", "rollout"}, "what makes no other generation"
    assert {name: FIELDS["Image"][name] for name in ("buildVM", "keep")} == dict.fromkeys(
        ("buildVM", "keep"), Effect("none", "nothing")
    )


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("source.git.commit", "rebuild", "rebuild of the world (hours), reboot"),
        ("kernel.config", "rebuild", "rebuild of the world (hours), reboot"),
        ("toolchain", "rebuild", "rebuild of the world (hours), reboot"),
        ("recipe.world", "rebuild", "rebuild of the world (hours), reboot"),
        ("packages.tmux", "rebuild", "rebuild of the packages (minutes), reboot"),
        ("repository", "rebuild", "rebuild of the packages (minutes), reboot"),
        ("recipe.configuration", "reboot", "reboot"),
        ("rcConf.cron_flags", "restart", "live, restart of cron"),
        ("rcConf.syslogd_enable", "restart", "live, restart of syslogd"),
        ("rcConf.node_exporter_args", "restart", "live, restart of node_exporter"),
        ("rcConf.ntpdate_enable", "reboot", "reboot"),
        ("rcConf.cron", "reboot", "reboot"),
        ("rcConf.root_rw_mount", "reboot", "reboot"),
        ("rcConf.iscsictl_flags", "reboot", "reboot"),
        ("rcConf.ifconfig_em0", "reboot", "reboot"),
        ("rcConf.kld_list", "reboot", "reboot"),
        ("rcConf.jailops_disk_wait", "reboot", "reboot"),
        ("rcConf.ezjail_enable", "reboot", "reboot"),
        ("rcConf.sshd_flags", "reboot", "reboot"),
        ("rcConf.sshd_enable", "reboot", "reboot"),
        ("rcConf.what_nobody_knows", "reboot", "reboot"),
        ("loaderConf.kern.racct.enable", "reboot", "reboot"),
        ("memory.etc", "reboot", "reboot"),
        ("mounts./iscsi", "reboot", "reboot"),
        ("hosts.node1.share", "reboot", "reboot"),
        ("rootAuthorizedKeys.ssh-ed25519 AAAA me@example.org", "live", "live"),
        ("rootPasswordHash.file", "reboot", "reboot"),
        ("users.admin", "reboot", "reboot"),
        ("users.admin.shell", "reboot", "reboot"),
        ("users.admin.groups.wheel", "reboot", "reboot"),
        ("users.admin.passwordHash.file", "reboot", "reboot"),
        ("users.admin.authorizedKeys.ssh-ed25519 AAAA admin", "live", "live"),
        ("files./etc/crontab", "live", "live"),
        ("files./etc/crontab.content", "live", "live"),
        ("files./etc/cron.d/backup.mode", "live", "live"),
        ("files./etc/cron.d/below/backup", "reboot", "reboot"),
        ("files./etc/ntp.conf.content", "restart", "live, restart of ntpd"),
        ("files./etc/ssh/sshd_config.content", "restart", "live, reload of sshd"),
        ("files./etc/pam.d/sshd.content", "reboot", "reboot"),
        ("files./etc/hosts.allow.content", "reboot", "reboot"),
        ("files./etc/pf.conf.content", "reboot", "reboot"),
        ("files./usr/local/etc/x.content", "reboot", "reboot"),
        ("somethingFromALaterVersion.x", "reboot", "reboot"),
    ],
)
def test_what_an_input_takes(name: str, kind: str, says: str) -> None:
    assert class_of(name) == Effect(kind, says)  # type: ignore[arg-type]


def made(*edits: str) -> dict[str, str]:
    return flat(inputs(manifests([f"{FILE}: {edit}" for edit in edits]), IMAGE))


OWN_SSHD = r"  files:\n    - path: /etc/ssh/sshd_config\n      content: CONTENT\n  memory: "
CRONTAB = r"  files:\n    - path: /etc/crontab\n      content: x\n  memory: "
ROOTS = "- ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEVz28M0cLFgVh7cm87clhaerrKV0GAXa699sHfrd4Ul controller => "
OTHER = ROOTS + "- ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDt3TvoTB7MEnEpRQwfVAyT0r4tfLXneGTQy4Gnng2fq admin"


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (made(), made(OTHER), {"live"}),
        (made(f"{REST}{CRONTAB}"), made(), {"reboot"}),
        (made(), made(f"{REST}{CRONTAB}"), {"live"}),
        (made(), made(f"{REST}{OWN_SSHD}"), {"reboot"}),
        (made(f"{REST}{OWN_SSHD}"), made(f"{REST}{OWN_SSHD.replace('CONTENT', 'other')}"), {"restart"}),
        (made(f"{REST}{OWN_SSHD}"), made(f"{REST}{OWN_SSHD}", OTHER), {"reboot"}),
        (made(), made("name: admin => name: other", "uid: 1001 => uid: 1002"), {"reboot"}),
    ],
    ids=[
        *("a key", "a file goes", "a file comes", "a first sshd_config", "another sshd_config"),
        *("a key beside an sshd_config", "another user with the same key"),
    ],
)
def test_what_is_live_depends_on_what_the_running_root_holds(
    before: Mapping[str, str], after: Mapping[str, str], kinds: set[str]
) -> None:
    found = what_a_reboot_would_change(before, after)
    assert {one.effect.kind for one in found} == kinds
    assert [one[:3] for one in found] == differences(before, after)


RUNS = {"rcConf.cron_flags": "", "rcConf.kld_list": "a", "hosts.a.address": "1", "hosts.b.address": "1"}


@pytest.mark.parametrize(
    ("running", "published", "said"),
    [
        ({"hosts": {"a": "k"}}, {"hosts": {"a": "k"}}, ""),
        ({"inputs": RUNS}, {"inputs": {**RUNS, "rcConf.cron_flags": "-s"}}, ""),
        ({"inputs": RUNS}, {"inputs": {**RUNS, "hosts.b.address": "2"}}, ""),
        ({"inputs": RUNS}, {"inputs": {**RUNS, "hosts.a.address": "2"}}, "hosts.a.address: 1 -> 2"),
        (
            {"inputs": RUNS},
            {"inputs": {**RUNS, "rcConf.cron_flags": "-s", "rcConf.kld_list": "b"}},
            "rcConf.kld_list: a -> b",
        ),
        ({"inputs": RUNS}, {"inputs": {**RUNS, "rcConf.new": "x"}}, "rcConf.new: (nothing) -> x"),
        ({}, {"inputs": RUNS}, "generation: one -> two"),
        ({"inputs": RUNS}, {}, "generation: one -> two"),
        (
            {"image": "old", "inputs": RUNS, "hosts": {"a": "k"}},
            {"image": "new", "inputs": RUNS, "hosts": {"a": "k"}},
            "image: old -> new",
        ),
        (
            {"inputs": {}},
            {"inputs": {f"loaderConf.{one}": "1" for one in "abcdefgh"}},
            "; ".join(f"loaderConf.{one}: (nothing) -> 1" for one in "abcdef") + "; and 2 more",
        ),
    ],
)
def test_what_only_a_reboot_brings(running: Mapping[str, Any], published: Mapping[str, Any], said: str) -> None:
    assert told(needs_reboot({"one": running, "two": published}, "a", "one", "two")) == said
    assert needs_reboot({"one": running, "two": published}, "a", "two", "two") == []


def test_a_generation_that_is_gone_is_not_in_sync() -> None:
    assert told(needs_reboot({"two": {"inputs": RUNS}}, "a", "one", "two")) == "generation: one -> two"


JAILS = "jails/jailbox2.yaml"
SETS = "  after: [db]  =>   after: [db]"


@pytest.mark.parametrize("manager", ["ezjail", "jail.conf"])
@pytest.mark.parametrize(
    ("field", "edit"),
    [
        ("hostname", "hostname: www.example.org => hostname: other.example.org"),
        ("addresses", "addresses: [198.51.100.71] => addresses: [198.51.100.77]"),
        ("parameters", rf"{SETS}\n  parameters:\n    sysvshm: new\n "),
        ("mounts", "options: ro => options: rw"),
        ("after", "after: [db] => after: []"),
        ("state", rf"{SETS}\n  state: stopped\n "),
        ("flavour", rf"{SETS}\n  flavour: example\n "),
    ],
)
def test_a_jail_s_plan_and_its_class_agree(manager: str, field: str, edit: str) -> None:
    """The plan's risk is what the driver does; the class is what the table says of the field."""
    before, after = (jail(manager, edits) for edits in ([], [f"{JAILS}: {edit}"]))
    kind = FIELDS["Jail"][field]
    assert isinstance(kind, Effect)
    if kind.kind == "none":
        assert before[1] == after[1]
        return
    driver, (resource, want) = DRIVERS["jail"], after
    assert driver.explain(Change(resource, want, before[1], "intent")).risk in ("restart", "disruptive")
    assert kind.kind == "restart"


def jail(manager: str, edits: list[str]) -> tuple[Resource, Facts | None]:
    desired = manifests([f"hosts/jailbox2.yaml: manager: ezjail => manager: {manager}", *edits])
    found = {one.ref: one for one in DRIVERS["jail"].resources(desired)}[Ref("jail", "jailbox2/web")]
    return found, DRIVERS["jail"].want(found, World(desired, Observed({}, {}), digest=digest))


@pytest.mark.parametrize(
    ("served", "found"),
    [
        (
            {"jailbox2": "newer", "disklessfreebsdbox": "newer"},
            [
                ("packages.tmux", "", "yes", "rebuild of the packages (minutes), reboot"),
                ("rcConf.cron_flags", "", "-s", "live, restart of cron"),
                ("rcConf.sendmail_enable", "NONE", "", "reboot"),
            ],
        ),
        ({"jailbox2": "nearly"}, [("packages.tmux", "", "yes", "rebuild of the packages (minutes), reboot")]),
        ({"jailbox2": "silent"}, []),
        ({"jailbox2": "gone"}, []),
        ({}, []),
    ],
)
def test_the_plan_of_a_generation_names_what_changed_since_the_one_that_is_served(
    served: Mapping[str, str], found: list[tuple[str, str, str, str]]
) -> None:
    setting = f"{FILE}: sendmail_enable: NONE => cron_flags: '-s'"
    desired = manifests([setting, f"{FILE}: packages: [] => packages: [tmux]"])
    (resource,) = DRIVERS["image"].resources(desired)
    nearly = flat(inputs(manifests([setting]), IMAGE))
    complete = {"nearly": {"finished": 1, "inputs": nearly}, "newer": {"finished": 2, "inputs": made()}, "silent": {}}
    change = Change(resource, {"generation": "x"}, None, "intent", {"generations": complete})
    world = World(desired, Observed({}, {}), generations=served)
    said = DRIVERS["image"].differences(change, world)
    assert [(one.input, one.before, one.after, one.effect.says) for one in said] == found
