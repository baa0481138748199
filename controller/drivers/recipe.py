"""What the jobs of all layers have in common: the place, the lock, the stages, and lists of files with their hashes.

A layer is made beside the others under a name that no listing shows (`unfinished`) and renamed into place as the very last
act, with its manifest inside: what is visible under its own name is complete, and never written to again. A layer on top of
another one is a clone of hard links, so a file may belong to several: it is never opened for writing, only replaced. Pure text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.encode.job import LOCKED
from controller.encode.sh import lines, raw, sh
from controller.encode.space import Needs, room_script
from controller.graph import Desired
from controller.manifests import BuildVMSpec, ImageSpec
from controller.model import Script

STAGE = "--- jailops: "
"""How our own stage lines in a build's log begin; make's begin with ``>>>``."""

_SKEW = 60
"""Seconds by which two clocks may differ: make(1) compares times of files on the share with its own."""

_FILES = Script(r"""entries() { # DIRECTORY LIST: path, mode, inode, owner, group, size and target of every file and link below it
  ( cd "$1"
    timed find . ! -path './.jailops/*' \( -type f -o -type l \) -print0 > "$2.names"
    timed xargs -0 -r stat -f '%N%t%Sp%t%i%t%u%t%g%t%z%t%Y' < "$2.names" > "$2.unsorted" )
  timed sort "$2.unsorted" > "$2"
}
hashes() { # DIRECTORY ENTRIES HASHES [ENTRIES HASHES of the layer below]: what is the same file as there is not read again
  : > "$W/links"; : > "$W/same"; : > "$W/other"; : > "$W/first"
  awk -F '\t' -v d="$W" '
    FILENAME == ARGV[1] { if (substr($0, 1, 5) != "link ") sum[substr($0, 67)] = substr($0, 1, 64); next }
    FILENAME == ARGV[2] { inode[$1] = $3; next }
    substr($2, 1, 1) == "l" { print "link " $7 "  " $1 > (d "/links"); next }
    ($1 in sum) && inode[$1] == $3 { print sum[$1] "  " $1 > (d "/same"); next }
    { if (!($3 in first)) { first[$3] = $1; print $1 > (d "/first") }
      print first[$3] "\t" $1 > (d "/other") }' "${5:-/dev/null}" "${4:-/dev/null}" "$2"
  tr '\n' '\0' < "$W/first" > "$W/read"
  ( cd "$1"; timed xargs -0 -r sha256 -r < "$W/read" > "$W/sums" )
  awk -F '\t' 'FILENAME == ARGV[1] { sum[substr($0, 66)] = substr($0, 1, 64); next }
    { if (!($1 in sum)) { print "jailops: cannot read " $2; exit 1 } print sum[$1] "  " $2 }' "$W/sums" "$W/other" > "$W/hashed"
  timed sort "$W/links" "$W/same" "$W/hashed" > "$3"
}
own() { # LIST LIST: what is in the first list of hashes and not in the second, and a line ``gone PATH`` for each path that is not
  comm -23 "$1" "$2"
  awk 'function path(line) { return substr(line, index(line, "  ") + 2) }
    FILENAME == ARGV[1] { have[path($0)] = 1; next } !(path($0) in have) { print "gone " path($0) }' "$1" "$2"
}
whole() { # GENERATION: its list of hashes, from its own lines and those of the layer below
  awk 'function path(line) { return substr(line, index(line, "  ") + 2) }
    FILENAME != ARGV[1] { if (!(path($0) in own)) print; next }
    sub(/^gone /, "") { own[$0] = 1; next } { own[path($0)] = 1; print }' "$1/.jailops/own" "$1/.jailops/below"
}
templates() { # what rc.initdiskless copies into the memory disks
  timed rm -rf "$D/conf/default"
  mkdir -p "$D/conf/default"
  for d in etc var; do timed cp -al "$D/$d" "$D/conf/default/$d"; done
}
takes() { # BYTES LIST: with what no layer shares with another: its list, its manifest, and directories of 4 KiB each
  jo_folders=$(timed find "$D" -type d | wc -l)
  echo "$(($1 + $(wc -c < "$2") + ${#said} + 4096 * (jo_folders + 1)))"
}
bytes() { # ENTRIES [ENTRIES of the layer below]: how many bytes of files are not shared with it
  awk -F '\t' 'FILENAME == ARGV[1] { seen[$3] = 1; next }
    substr($2, 1, 1) == "-" && !($3 in seen) { seen[$3] = 1; sum += $6 } END { printf "%.0f", sum }' "${2:-/dev/null}" "$1"
}""")
"""``.jailops/files`` of a layer: ``SHA256  PATH`` per file, ``link TARGET  PATH`` per link, sorted (FreeBSD's stat(1)). A
generation has a link to that of the layer below as ``below``, and in ``own`` the lines that differ."""


@dataclass(frozen=True)
class BuildPlace:
    """Where on the build VM an image is built, and where its share comes from (``address:/path``)."""

    name: str
    vm: BuildVMSpec
    share_source: str
    images: int
    """How many images are built on this VM."""
    needs: Needs | None = None
    """What must be free on the share; None when that cannot be told."""

    @property
    def share(self) -> str:
        return self.vm.share

    @property
    def layers(self) -> str:
        return f"{self.share}/layers"

    @property
    def wait(self) -> int:
        """Seconds after which the builds before one, all within their limits, are over: two, or one of every image."""
        return self.vm.timeouts.build * max(2, self.images)


def build_place(desired: Desired, image: str, needs: Needs | None = None) -> BuildPlace:
    spec = desired.images[image].spec
    san = desired.sans[spec.san].spec
    images = sum(one.spec.build_vm == spec.build_vm for one in desired.images.values())
    vm = desired.build_vms[spec.build_vm].spec
    return BuildPlace(spec.build_vm, vm, f"{san.nfs.address}:{san.nfs.root}", images, needs)


def unfinished(name: str, build_vm: str) -> str:
    """What a layer is called while a build VM makes it. The VM's lock keeps its own builds apart, and nobody else's: an image
    may move to another VM in the middle of a build."""
    return f".building-{name}.{build_vm}"


def job(place: BuildPlace, directory: str, name: str, *steps: Script) -> Script:
    """The whole script of one layer: ``$D`` is what is made, ``$W`` a private directory of the VM that goes at the end.
    When it fails, ``$D`` is removed; only what was stopped or killed leaves it, for the next build or for retention."""
    return lines(
        _one_at_a_time(place),
        _preamble(place, directory, name),
        *steps,
        sh(
            """stage publish
cd /
rm -rf "$W"
F={final}
timed sync
test -e "$F" || timed mv "$D" "$F"
# Another VM may have been quicker, even after that test: mv(1) moves into what is there. Equal name is equal content.
test ! -e "$F/${{D##*/}}" || timed mv "$F/${{D##*/}}" "$D"
if test -e "$D"; then
  test -f "$F/.jailops/manifest.json" || {{ echo "jailops: $F is there and not complete; remove it on the SAN"; exit 1; }}
  remove || echo "$D stays: it cannot be removed"
  echo 'it is there already: another build VM has made it meanwhile'
fi
stage complete""",
            final=f"{directory}/{name}",
        ),
    )


def manifest(facts: Mapping[str, Any], more: Script) -> Script:
    """What the layer is. Its presence says: complete. `more` prints further fields, each with a comma before it."""
    head = json.dumps(facts, sort_keys=True, separators=(",", ":"))[:-1]
    return sh(
        """stage manifest
said={head}
more=$({more})
printf '%s,"finished":%s%s}}\\n' "$said" "$(date -u +%s)" "$more" > "$D/.jailops/manifest.new"
timed sync
mv "$D/.jailops/manifest.new" "$D/.jailops/manifest.json\"""",
        head=head,
        more=raw(more),
    )


def clone(place: BuildPlace, below: str) -> Script:
    """A layer begins as the one below it: new directories, the very same files (cp(1), 10 to 15 and coreutils)."""
    return sh(
        """stage clone {most}
L={below}
test -f "$L/.jailops/manifest.json" && test -f "$L/.jailops/files" || {{ echo "jailops: $L is not complete"; exit 1; }}
rmdir "$D"
timed cp -al "$L" "$D"
rm -rf "$D/.jailops"
mkdir "$D/.jailops"
entries "$L" "$W/below\"""",
        below=f"{place.layers}/{below}",
        most=place.vm.timeouts.clone,
    )


def _one_at_a_time(place: BuildPlace) -> Script:
    """Builds share the source and the object tree: the VM itself lets one run after the other (lockf(1)). It says 75 when
    it was not given the lock, and the job itself never does."""
    work = place.vm.work_dir
    return sh(
        """{locked}
if test -z "${{JAILOPS_BUILD-}}"; then
  JAILOPS_BUILD=1; export JAILOPS_BUILD
  mkdir -p {work}
  jo_code=0
  locked 0 {lock} /bin/sh "$0" || jo_code=$?
  test "$jo_code" -eq 75 || exit "$jo_code"
  printf '%s\\n' '--- jailops: waiting for the build before it'
  locked {wait} {lock} /bin/sh "$0" && exit
  jo_code=$?
  test "$jo_code" -ne 75 ||
    echo "jailops: waited "{wait}" s for other builds of this VM, longer than their timeouts let them take; end what holds "{lock}
  exit "$jo_code"
fi""",
        locked=raw(LOCKED),
        work=work,
        wait=place.wait,
        lock=f"{work}/build.lock",
    )


def _preamble(place: BuildPlace, directory: str, name: str) -> Script:
    return sh(
        """set -eu
umask 022
PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin
LC_ALL=C
export PATH LC_ALL
stage() {{ # NAME [SECONDS]: what `timed` runs from now on shares its time
  jo_stage=$1 jo_most=${{2:-{most}}} jo_began=$(date +%s)
  printf '%s\\n' "--- jailops: $1"
}}
timed() {{ # COMMAND…: with an end that is said (timeout(1), from 10.3 on; in our process group)
  jo_code=124 jo_left=$((jo_began + jo_most - $(date +%s)))
  if test "$jo_left" -gt 0; then
    jo_code=0
    timeout --foreground -k 60 "$jo_left" "$@" || jo_code=$?
  fi
  if test "$jo_code" -ne 0 && test "$(($(date +%s) - jo_began))" -ge "$jo_most"; then
    echo "jailops: $jo_stage took longer than $jo_most s; see the timeouts of the BuildVM" >&2
  fi
  return "$jo_code"
}}
{files}
stage prepare
mounted() {{ mount -p | while read -r d m rest; do test "$m" = "$1" && echo "$d"; done; }}
test "$(mounted {share})" = {source} || timed mount -t nfs {source} {share}
test "$(mounted {share})" = {source} || {{ echo "jailops: "{share}" is not mounted from "{source}; exit 1; }}
clock={share}/.jailops-clock
: > "$clock"
ahead=$(($(date +%s) - $(stat -f %m "$clock")))
rm -f "$clock"
differ=
test "$ahead" -le {skew} || differ="$ahead s ahead of"
test "$ahead" -ge -{skew} || differ="$((-ahead)) s behind"
if test -n "$differ"; then
  echo "jailops: the clock of the build VM is $differ the SAN's: make takes new files for old ones; let NTP keep both"
  exit 1
fi
mkdir -p {directory}
W={work}
D={building}
below() {{ mount -p | while read -r d m rest; do case $m in "$1"/*) echo "$m" ;; esac; done; }}
devices_off() {{ test -z "$(mounted "$W/root/dev")" || umount "$W/root/dev"; }}
devices_off && test -z "$(below "$W")" || {{
  echo "jailops: cannot remove $W, left by a build that was cut short; is something mounted below it?"
  exit 1
}}
rm -rf "$W"
mkdir -m 700 "$W"
remove() {{ # what is unfinished; never what is mounted below it
  test -z "$(below "$D")" || return 1
  timed chflags -R noschg "$D" 2>/dev/null || :
  timed rm -rf "$D"
}}
ended() {{ # What fails leaves nothing on the share. Who stops a build waits seconds for its end, too few for a removal.
  jo_end=$?
  trap - EXIT
  set +e
  cd /
  jo_most={most} jo_began=$(date +%s)
  devices_off
  if test -n "$stopped"; then :
  elif test "$jo_end" -ne 0 && test -e "$D"; then remove 2>/dev/null || echo "$D stays: it cannot be removed"; fi
  test "$jo_end" -ne 75 || jo_end=1
  exit "$jo_end"
}}
test ! -e "$D" || remove || {{
  echo "jailops: cannot remove $D, left by a build that was cut short; is something mounted below it?"
  exit 1
}}
{room}
stopped=
trap ended EXIT
trap 'stopped=yes; exit 143' TERM INT
mkdir "$D\"""",
        most=place.vm.timeouts.other,
        files=raw(_FILES),
        share=place.share,
        source=place.share_source,
        skew=_SKEW,
        directory=directory,
        work=f"{place.vm.work_dir}/stage",
        building=f"{directory}/{unfinished(name, place.name)}",
        room=raw(_room(place)),
    )


def _room(place: BuildPlace) -> Script:
    """Others may have filled the share since the job was started: while it waited for them, it was not asked again."""
    if place.needs is None:
        return Script(":")
    return sh(
        """{lacks}
test -z "$lacks" || {{ echo "jailops: $lacks; make room or lower keep"; exit 1; }}""",
        lacks=raw(room_script(place.share, place.needs)),
    )


def world_facts(spec: ImageSpec) -> dict[str, Any]:
    return {"release": spec.release, "architecture": spec.architecture}
