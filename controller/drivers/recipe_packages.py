"""The job that installs packages on top of a world.

Scripts of packages write where they like, and file by file nobody can tell before what they touch. So they get a copy of the
world on the VM's own disk, and only what differs then is brought over the clone: no file of the world is within their reach.
Pure text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controller.drivers.inputs import Inputs
from controller.drivers.recipe import BuildPlace, clone, job, manifest, world_facts
from controller.drivers.recipe_apply import apply
from controller.encode.sh import lines, put_file, raw, sh
from controller.manifests import ImageSpec
from controller.model import Script

STAGES: Final[Mapping[str, float]] = {
    "prepare": 2,
    "clone": 30,
    "copy": 30,
    "packages": 120,
    "files": 10,
    "hashes": 20,
    "manifest": 1,
    "publish": 2,
}
"""Of its job in their order, with the seconds that shape the bar."""


def packages_script(spec: ImageSpec, place: BuildPlace, made_of: Inputs) -> Script:
    return job(
        place,
        place.layers,
        f"packages-{made_of.packages_key}",
        clone(place, f"world-{made_of.world_key}"),
        _COPIED,
        _install(spec, place, made_of.packages["packages"]),
        apply((".",), Script("P=")),
        Script(
            """stage hashes
templates
entries "$D" "$W/own"
hashes "$D" "$W/own" "$D/.jailops/files" "$W/below" "$L/.jailops/files\""""
        ),
        manifest(
            {
                "layer": "packages",
                "key": made_of.packages_key,
                "world": made_of.world_key,
                "packages": made_of.packages["packages"],
                **world_facts(spec),
            },
            Script("""printf ',"bytes":%s' "$(takes "$(bytes "$W/own" "$W/below")" "$D/.jailops/files")\""""),
        ),
    )


_COPIED = Script("""stage copy
S=$W/root
mkdir "$S"
# tar(1), because cp(1) of FreeBSD makes a file of every hard link, and /rescue is one of a hundred and forty names.
{ timed tar -cf - -C "$L" . && : > "$W/copied"; } | timed tar -xpf - -C "$S"
test -e "$W/copied" || { echo "jailops: cannot read all of $L"; exit 1; }
rm -rf "$S/.jailops" "$S/conf/default" "$D/conf/default\"""")
"""``$S``: the world, to be written to. The templates of the memory disks are made anew at the end."""


def _install(spec: ImageSpec, place: BuildPlace, wanted: list[str]) -> Script:
    """With what a chroot on the build VM needs (pkg(8))."""
    return lines(
        sh("stage packages {most}", most=place.vm.timeouts.packages),
        *_repository(spec),
        sh(
            """cp /etc/resolv.conf "$S/etc/resolv.conf"
mount -t devfs devfs "$S/dev"
timed env ASSUME_ALWAYS_YES=yes pkg -c "$S" install -y {wanted}
for p in {wanted}; do timed pkg -c "$S" info -e "$p" || {{ echo "jailops: package $p is not installed"; exit 1; }}; done
timed pkg -c "$S" clean -ay
rm -f "$S"/var/db/pkg/repo-* "$S/etc/resolv.conf"
umount "$S/dev\"""",
            wanted=wanted,
        ),
    )


def _repository(spec: ImageSpec) -> list[Script]:
    if spec.package_repository is None:
        return []
    text = f'jailops: {{ url: "{spec.package_repository.url}", enabled: yes }}\nFreeBSD: {{ enabled: no }}\n'
    put = put_file("usr/local/etc/pkg/repos/jailops.conf", text)
    return [sh('( cd "$S" && mkdir -p usr/local/etc/pkg/repos && {put} )', put=raw(put))]
