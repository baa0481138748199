"""The job that turns source into a *world*: a whole root file system with its kernel, and nothing of anybody's own.

The article's procedure with its errors corrected. Pure text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controller.drivers.inputs import Inputs
from controller.drivers.recipe import BuildPlace, job, manifest, world_facts
from controller.encode import srcconf
from controller.encode.sh import lines, put_file, raw, sh
from controller.manifests import ImageSpec
from controller.model import Script

_META = Script("""kldstat -q -m filemon || kldload filemon
WITH_META_MODE=yes
export WITH_META_MODE""")
"""make(1) reads it from the environment only; with filemon it cleans nothing by itself (Makefile.inc1)."""


COMPILED: Final[Mapping[str, float]] = {
    "prepare": 2,
    "source": 60,
    "buildworld": 151,
    "buildkernel": 234,
    "installworld": 43,
    "distribution": 12,
    "installkernel": 10,
    "base.txz": 30,
    "check": 1,
    "hashes": 20,
    "manifest": 1,
    "publish": 2,
}
UNPACKED: Final[Mapping[str, float]] = {
    "prepare": 2,
    "sets": 60,
    "unpack": 30,
    "check": 1,
    "hashes": 20,
    "manifest": 1,
    "publish": 2,
}
"""The stages of both ways to a world, with the seconds that shape the bar: make's as measured (`encode.buildlog`)."""


def world_script(spec: ImageSpec, place: BuildPlace, made_of: Inputs) -> Script:
    made = _unpacked(spec, place) if spec.source.dist is not None else _compiled(spec, place, made_of)
    return job(
        place,
        place.layers,
        f"world-{made_of.world_key}",
        made,
        _checked(spec),
        Script(
            'stage hashes\nmkdir "$D/.jailops"\ntemplates\nentries "$D" "$W/own"\nhashes "$D" "$W/own" "$D/.jailops/files"'
        ),
        manifest(
            {"layer": "world", "key": made_of.world_key, **world_facts(spec)},
            Script("""printf ',"bytes":%s' "$(takes "$(bytes "$W/own")" "$D/.jailops/files")\""""),
        ),
    )


def _compiled(spec: ImageSpec, place: BuildPlace, made_of: Inputs) -> Script:
    return lines(
        _sources(spec, place, made_of),
        _settings(spec),
        _known(spec),
        _compile(spec, place, made_of.world_key),
        _install(spec, place),
        _jail_sets(),
    )


def _sources(spec: ImageSpec, place: BuildPlace, made_of: Inputs) -> Script:
    git, svn = spec.source.git, spec.source.svn
    if git is not None:
        # A commit is asked for by its id; a server that gives none by id has it on one of its branches.
        fetched = [git.ref or git.branch or "refs/heads/*:refs/remotes/origin/*"]
        return sh(
            """stage source {most}
GIT_TERMINAL_PROMPT=0
export GIT_TERMINAL_PROMPT
if test ! -d {src}/.git; then timed git clone --no-checkout -- {url} {src}; fi
if test "$(git -C {src} rev-parse HEAD 2>/dev/null)" != {commit}; then
  git -C {src} cat-file -e {commit}'^{{commit}}' 2>/dev/null || timed git -C {src} fetch -- {url} {commit} ||
    timed git -C {src} fetch -- {url} {refs}
fi
timed git -C {src} checkout --force --detach {commit}
test "$(git -C {src} rev-parse HEAD)" = {commit}
cd {src}""",
            src=place.vm.source_dir,
            url=git.url,
            commit=made_of.world["source"]["git"]["commit"],
            refs=fetched,
            most=place.vm.timeouts.source,
        )
    assert svn is not None
    return sh(
        """stage source {most}
# svnlite(1) is in the base system up to 13; elsewhere it is the package's svn(1).
if command -v svnlite >/dev/null 2>&1; then svn=svnlite version=svnliteversion; else svn=svn version=svnversion; fi
if test -d {src}/.svn; then
  timed $svn cleanup {src}
  have=$($svn info {src} | sed -n 's/^URL: //p')
  test "$have" = {url} || {{
    echo 'jailops: '{src}" holds $have, not "{url}': move it away, or give the BuildVM another sourceDir'; exit 1
  }}
  timed $svn update -r {rev} {src}
elif test -e {src}/.git; then
  echo 'jailops: '{src}' holds a git repository, not '{url}': move it away, or give the BuildVM another sourceDir'; exit 1
else timed $svn checkout -r {rev} {url} {src}; fi
test "$($version {src})" = {rev}
cd {src}""",
        src=place.vm.source_dir,
        url=svn.url,
        rev=svn.revision,
        most=place.vm.timeouts.source,
    )


def _known(spec: ImageSpec) -> Script:
    """What make would pass over in silence, or find out after hours: knobs and a kernel that this source does not have."""
    kernel = f"sys/{spec.architecture}/conf/{spec.kernel.name}"
    own = (
        Script("")
        if spec.kernel.config
        else sh(
            "test -f {file} || {{ echo 'jailops: this source has no kernel configuration '{file}; exit 1; }}",
            file=kernel,
        )
    )
    return sh(
        """test -d tools/build/options || {{ echo 'jailops: this source does not say which knobs it has'; exit 1; }}
unknown=
for k in {knobs}; do
  case $k in WITHOUT_*) o=${{k#WITHOUT_}} ;; *) o=${{k#WITH_}} ;; esac
  test -e "tools/build/options/WITH_$o" || test -e "tools/build/options/WITHOUT_$o" || unknown="$unknown $k"
done
test -z "$unknown" || {{ echo "jailops: srcConf has what this source does not know:$unknown"; exit 1; }}
{own}""",
        knobs=spec.src_conf,
        own=raw(own),
    )


def _unpacked(spec: ImageSpec, place: BuildPlace) -> Script:
    """The sets of a release. What is not the very archive that the manifest names is not opened."""
    assert spec.source.dist is not None
    sets = [
        sh("bring {name} {url} {sha256}", name=f"{name}.txz", url=one["url"], sha256=one["sha256"])
        for name, one in spec.source.dist.model_dump(exclude_none=True).items()
    ]
    return lines(
        sh(
            """stage sets {most}
bring() {{ # NAME URL SHA256
  case $2 in
  /*) timed cp "$2" "$W/$1" ;;
  file://*) timed cp "${{2#file://}}" "$W/$1" ;;
  *) timed fetch -q -o "$W/$1" "$2" ;;
  esac
  jo_sum=$(timed sha256 -q "$W/$1")
  test "$jo_sum" = "$3" || {{ echo "jailops: $1 from $2 is another one: its SHA-256 is $jo_sum, and not $3"; exit 1; }}
}}""",
            most=place.vm.timeouts.source,
        ),
        *sets,
        Script(
            """stage unpack
for f in "$W"/*.txz; do timed tar -xpf "$f" --no-fflags -C "$D"; done
mkdir -p "$D/dist"
timed cp "$W/base.txz" "$D/dist/base.txz\""""
        ),
    )


def _settings(spec: ImageSpec) -> Script:
    """Below ``$W``: nothing of an earlier build is left in it."""
    config = [_in_work(f"kernconf/{spec.kernel.name}", spec.kernel.config)] if spec.kernel.config else []
    return lines(
        Script('mkdir "$W/kernconf"'),
        _in_work("src.conf", srcconf.render_src(spec.src_conf)),
        _in_work("make.conf", srcconf.render_make(spec.make_options)),
        *config,
    )


def _in_work(name: str, text: str) -> Script:
    return sh('( cd "$W" && {put} )', put=raw(put_file(name, text)))


def _make(spec: ImageSpec) -> tuple[Script, Script]:
    """How make is called for world and for the kernel: the same settings for build and install (build(7))."""
    world = Script('SRCCONF="$W/src.conf" __MAKE_CONF="$W/make.conf" $T')
    where = Script('KERNCONFDIR="$W/kernconf" ') if spec.kernel.config else Script("")
    return world, sh("KERNCONF={name} {where}{world}", name=spec.kernel.name, where=raw(where), world=raw(world))


def _compile(spec: ImageSpec, place: BuildPlace, world_key: str) -> Script:
    """Compile world and kernel, unless the object tree holds exactly these already."""
    world, kernel = _make(spec)
    return sh(
        """MAKEOBJDIRPREFIX={obj}
export MAKEOBJDIRPREFIX
T=
test "$(uname -m)" = {arch} || T={target}
{meta}
if test "$(cat {stamp} 2>/dev/null)" != {key}; then
  rm -f {stamp}
  stage buildworld {world_most}
  timed make -s {jobs} {clean} buildworld {world}
  stage buildkernel {kernel_most}
  timed make -s {jobs} {kernel_clean} buildkernel {kernel}
  printf '%s\\n' {key} > {stamp}
fi""",
        obj=place.vm.object_dir,
        arch=spec.architecture,
        target=f"TARGET={spec.architecture} TARGET_ARCH={spec.architecture}",
        meta=raw(_META if spec.incremental == "metaMode" else Script(":")),
        clean=["-DNO_CLEAN"] if spec.incremental == "noClean" else [],
        kernel_clean=["-DNO_CLEAN", "-DNO_KERNELCLEAN"] if spec.incremental == "noClean" else [],
        stamp=f"{place.vm.work_dir}/world.stamp",
        key=world_key,
        jobs=f"-j{place.vm.jobs}",
        world=raw(world),
        kernel=raw(kernel),
        world_most=place.vm.timeouts.buildworld,
        kernel_most=place.vm.timeouts.buildkernel,
    )


def _install(spec: ImageSpec, place: BuildPlace) -> Script:
    """NFS stores no file flags, so none are attempted; installs run without -j (not safe on 10)."""
    world, kernel = _make(spec)
    return sh(
        """stage installworld {most}
timed make -s installworld DESTDIR="$D" -DNO_FSCHG -DDB_FROM_SRC {world}
stage distribution {most}
timed make -s distribution DESTDIR="$D" -DNO_FSCHG {world}
stage installkernel {most}
timed make -s installkernel DESTDIR="$D" -DNO_FSCHG {kernel}
cd /""",
        world=raw(world),
        kernel=raw(kernel),
        most=place.vm.timeouts.install,
    )


def _checked(spec: ImageSpec) -> Script:
    """A root that boots: with what the boot needs, of the release and for the processor that the manifest names (elf(5))."""
    return sh(
        """stage check
for f in rescue/tar boot/pxeboot boot/kernel/kernel; do
  test -f "$D/$f" || {{ echo "jailops: it has no /$f"; exit 1; }}
done
case $(od -A n -t u1 -j 18 -N 1 "$D/boot/kernel/kernel" | tr -d ' ') in
  62) is=amd64 ;; 3) is=i386 ;; 183) is=arm64 ;; *) is='no processor that we know' ;;
esac
test "$is" = {arch} || {{ echo "jailops: its kernel is for $is, and not for "{arch}; exit 1; }}
grep -q {release} "$D/bin/freebsd-version" || {{
  echo "jailops: it is not "{name}" but $(grep USERLAND_VERSION= "$D/bin/freebsd-version")"; exit 1; }}""",
        arch=spec.architecture,
        release=f'USERLAND_VERSION="{spec.release}',
        name=spec.release,
    )


def _jail_sets() -> Script:
    """The jails' base comes from the very world that the node runs (ezjail-admin install -h file:///dist)."""
    return Script(
        """stage base.txz
mkdir -p "$D/dist"
timed tar -cJf "$D/dist/base.txz" -C "$D" --exclude ./dist --exclude ./boot/kernel ."""
    )
