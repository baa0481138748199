"""The job that installs packages on top of a world. Pure text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controller.drivers.inputs import Inputs
from controller.drivers.recipe import BuildPlace, clone, job, manifest, world_facts
from controller.encode.sh import lines, put_file, raw, sh
from controller.manifests import ImageSpec
from controller.model import Script

COPIED = ("etc", "var", "root", "boot", "usr/local")
"""What scripts of packages edit in place is no hard link but a copy."""

STAGES: Final[Mapping[str, float]] = {
    "prepare": 2,
    "clone": 30,
    "packages": 120,
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
        sh(
            """for d in {copied}; do
  test -d "$L/$d" || continue
  timed rm -rf "$D/$d"
  timed cp -a "$L/$d" "$D/$d"
done""",
            copied=COPIED,
        ),
        _install(spec, place, made_of.packages["packages"]),
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


def _install(spec: ImageSpec, place: BuildPlace, wanted: list[str]) -> Script:
    """With what a chroot on the build VM needs (pkg(8)). A package that wrote through a file of the world is not let pass."""
    return lines(
        sh("stage packages {most}", most=place.vm.timeouts.packages),
        *_repository(spec),
        sh(
            """cp /etc/resolv.conf "$D/etc/resolv.conf"
mount -t devfs devfs "$D/dev"
timed env ASSUME_ALWAYS_YES=yes pkg -c "$D" install -y {wanted}
for p in {wanted}; do timed pkg -c "$D" info -e "$p" || {{ echo "jailops: package $p is not installed"; exit 1; }}; done
timed pkg -c "$D" clean -ay
rm -f "$D"/var/db/pkg/repo-* "$D/etc/resolv.conf"
umount "$D/dev"
timed find "$L" -type f -newer "$L/.jailops/manifest.json" > "$W/spoiled"
if test -s "$W/spoiled"; then
  echo "jailops: $L cannot be used any more: a package has changed $(head -n 1 "$W/spoiled") in it; remove $L on the SAN"
  exit 1
fi""",
            wanted=wanted,
        ),
    )


def _repository(spec: ImageSpec) -> list[Script]:
    if spec.package_repository is None:
        return []
    text = f'jailops: {{ url: "{spec.package_repository.url}", enabled: yes }}\nFreeBSD: {{ enabled: no }}\n'
    put = put_file("usr/local/etc/pkg/repos/jailops.conf", text)
    return [sh('( cd "$D" && mkdir -p usr/local/etc/pkg/repos && {put} )', put=raw(put))]
