"""What the jobs say to make: options that stand in the environment or on the command line, and where they may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.drivers.builds import LAYERS
from controller.drivers.inputs import differences, flat, inputs
from controller.drivers.recipe import build_place
from controller.drivers.recipe_image import image_script
from controller.drivers.recipe_world import world_script
from controller.encode.sh import holes, secret
from controller.model import Ref

from .scene import IMAGE, manifests

META = ["kldstat -q -m filemon || kldload filemon", "WITH_META_MODE=yes", "export WITH_META_MODE"]
IMAGES = "images/freebsd13.yaml"


@pytest.mark.parametrize(
    ("incremental", "world", "kernel", "meta"),
    [
        ("none", "make -s '-j4'  buildworld", "make -s '-j4'  buildkernel", False),
        ("noClean", "make -s '-j4' '-DNO_CLEAN' buildworld", "'-DNO_CLEAN' '-DNO_KERNELCLEAN' buildkernel", False),
        ("metaMode", "make -s '-j4'  buildworld", "make -s '-j4'  buildkernel", True),
    ],
)
def test_what_may_be_left_of_an_earlier_build(incremental: str, world: str, kernel: str, meta: bool) -> None:
    edit = f"{IMAGES}: release: 13.2-RELEASE => release: 13.2-RELEASE\\n  incremental: {incremental}"
    desired = manifests([edit])
    script = world_script(desired.images[IMAGE].spec, build_place(desired, IMAGE), inputs(desired, IMAGE))
    assert world in script
    assert kernel in script
    assert (all(line in script.splitlines() for line in META), "META_MODE" in script) == (meta, meta)
    assert inputs(desired, IMAGE).world["incremental"] == incremental


def test_keys_follow_their_inputs() -> None:
    """What costs hours, minutes and seconds, and what a host can tell apart."""
    before = inputs(manifests([]), IMAGE)
    rows = {
        "sendmail_enable: NONE => sendmail_enable: 'NO'": (False, False, True),
        "packages: [] => packages: [tmux]": (False, True, True),
        "- WITHOUT_WIRELESS => - WITHOUT_GAMES": (True, True, True),
        "keep: 3 => keep: 4": (False, False, False),
        "branch: releng/13.2 => branch: main": (False, False, False),
        "url: https://git.freebsd.org/src.git => url: https://mirror.example.org/src.git": (False, False, False),
    }
    for edit, changes in rows.items():
        after = inputs(manifests([f"{IMAGES}: {edit}"]), IMAGE)
        keys = [(one.world_key, one.packages_key, one.generation) for one in (before, after)]
        assert tuple(a != b for a, b in zip(*keys, strict=True)) == changes, edit
        assert bool(differences(flat(before), flat(after))) == changes[2]
    compiler = inputs(replace(manifests([]), toolchains={"build-vm": "cc 2.0 on amd64"}), IMAGE)
    assert differences(flat(before), flat(compiler)) == [("toolchain", "cc 1.0 on amd64", "cc 2.0 on amd64")]
    assert compiler.world_key != before.world_key


@pytest.mark.parametrize(
    ("edit", "without", "given"),
    [
        (
            r"  users: => \n  rootPasswordHash:\n    file: hashes/some\n  users:",
            'pw -R "$S" usermod root -h -',
            'pw -R "$S" usermod root -H 0',
        ),
        (
            r"      uid: 1001 => \n      uid: 1001\n      passwordHash:\n        file: hashes/some",
            "-s '/bin/sh' -m -h -",
            "-s '/bin/sh' -m -H 0",
        ),
    ],
)
def test_a_password_is_a_hash_that_pw_reads(edit: str, without: str, given: str) -> None:
    """Never an argument, and known by the name of its file alone."""
    scripts, made = [], []
    for desired in (manifests([]), manifests([f"{IMAGES}: {edit}"])):
        made.append(inputs(desired, IMAGE))
        scripts.append(image_script(desired, IMAGE, build_place(desired, IMAGE), made[-1]).splitlines())
    (line,) = set(scripts[1]) - set(scripts[0]) - {one for one in scripts[1] if made[1].generation in one}
    assert line == f"printf '%s\\n' '{secret('hashes/some')}' | {line.partition(' | ')[2]}"
    assert (given in line, [one for one in scripts[0] if one.endswith(without)] != []) == (True, True)
    assert not [one for one in scripts[1] if one.endswith(without)]
    assert [sorted(holes("\n".join(one))) for one in scripts] == [[], ["hashes/some"]]
    ((_, before, after),) = differences(flat(made[0]), flat(made[1]))
    assert (before, after) == ("", "hashes/some")
    assert made[0].packages_key == made[1].packages_key


def test_two_build_vms_of_one_share_make_a_layer_once() -> None:
    """One makes it, and the other one's image waits for that; two images have a generation each."""
    desired = manifests([])
    image, vm = desired.images[IMAGE], desired.build_vms["build-vm"]
    other = replace(
        image,
        metadata=image.metadata.model_copy(update={"name": "other"}),
        spec=image.spec.model_copy(update={"build_vm": "vm2"}),
    )
    desired = replace(
        desired,
        images={IMAGE: image, "other": other},
        build_vms={"build-vm": vm, "vm2": replace(vm, metadata=vm.metadata.model_copy(update={"name": "vm2"}))},
        toolchains=dict.fromkeys(("build-vm", "vm2"), "cc 1.0 on amd64"),
        hosts={},
    )
    assert inputs(desired, IMAGE).world_key == inputs(desired, "other").world_key
    made = [(one.ref, one.host) for driver in LAYERS.values() for one in driver.resources(desired)]
    assert made == [
        (Ref("world", IMAGE), "build-vm"),
        (Ref("image", IMAGE), "build-vm"),
        (Ref("image", "other"), "vm2"),
    ]
    (needs,) = {one.needs for one in LAYERS["image"].resources(desired)}
    assert needs == (Ref("world", IMAGE),)


def test_a_host_sees_only_its_own_differences() -> None:
    before = inputs(manifests([]), IMAGE)
    after = inputs(manifests(["hosts/jailbox2.yaml: 198.51.100.51/24 => 198.51.100.52/24"]), IMAGE)
    changed = [("hosts.jailbox2.address", "198.51.100.51", "198.51.100.52")]
    assert differences(flat(before), flat(after)) == changed
    assert differences(flat(before), flat(after), "jailbox2") == changed
    assert differences(flat(before), flat(after), "disklessfreebsdbox") == []
    assert before.host_key("disklessfreebsdbox") == after.host_key("disklessfreebsdbox")
    assert before.host_key("jailbox2") != after.host_key("jailbox2")


def test_a_file_s_text_is_known_by_its_digest_alone() -> None:
    edit = f"{IMAGES}:   memory:  => " + r"  files:\n    - path: /etc/token\n      content: hush\n  memory: "
    assert "hush" not in str(flat(inputs(manifests([edit]), IMAGE)))
    assert flat(inputs(manifests([edit]), IMAGE))["files./etc/token"] == "yes"
