"""The job that turns source into one generation on the share: the article's procedure with its errors corrected.

Pure text. The generation is made beside the others in ``.building-GENERATION`` and renamed into place as the very last
act, with its manifest inside: what is visible under its own name is complete. Nothing that a node may have booted is
ever written to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from controller.drivers.generations import Inputs
from controller.encode import rcconf, srcconf
from controller.encode.job import LOCKED
from controller.encode.sh import lines, put_file, raw, secret, sh
from controller.graph import Desired
from controller.manifests import ImageSpec
from controller.model import Script

STAGE = "--- jailops: "
"""How our own stage lines in a build's log begin; make's begin with ``>>>``."""

DISK_RC = """\
#!/bin/sh
#
# Made by jailops. Waits for the jail disk, because "iscsictl -Aa" returns before the login is done, and checks its file
# system, because boot-time fsck runs before iSCSI: a late mount of a missing device fails for good.
#
# PROVIDE: jailops_disk
# REQUIRE: iscsictl
# BEFORE: mountlate
# KEYWORD: nojail

. /etc/rc.subr

name="jailops_disk"
rcvar="jailops_disk_enable"
start_cmd="jailops_disk_start"
stop_cmd=":"

jailops_disk_start()
{
    _device="/dev/ufs/${jailops_disk_label}"
    _left=${jailops_disk_wait}
    _attached=0
    while [ ! -e "${_device}" ]; do
        # A disk that is attached and shows no label for some seconds is a new one: the controller will see to it.
        case $(iscsictl -L) in *"Connected: da"*) _attached=$((_attached + 1)) ;; esac
        if [ "${_left}" -le 0 ] || [ "${_attached}" -gt 3 ]; then
            echo "jailops_disk: no ${_device}: the SAN is away, or the disk is new"
            return 1
        fi
        _left=$((_left - 1))
        sleep 1
    done
    fsck -t ufs -p "${_device}"
}

load_rc_config $name
: ${jailops_disk_enable:="NO"}
: ${jailops_disk_label:="jails"}
: ${jailops_disk_wait:="60"}
run_rc_command "$1"
"""

RC_CONF: Mapping[str, str] = {
    "sshd_enable": "YES",
    "root_rw_mount": "NO",
    "iscsid_enable": "YES",
    "iscsictl_enable": "YES",
    "iscsictl_flags": "-Aa -w 30",
    "jailops_disk_enable": "YES",
    "dumpdev": "NO",
}
"""What every generation needs to bring its node up without anybody (seen working on 13.2)."""


@dataclass(frozen=True)
class BuildPlace:
    """Directories on the build VM, and where its share comes from (``address:/path``)."""

    source: str
    objects: str
    work: str
    share: str
    share_source: str
    jobs: int


def build_script(desired: Desired, image: str, place: BuildPlace, made_of: Inputs) -> Script:
    """The whole job. It may hold secret holes (password hashes), so its file is private."""
    spec = desired.images[image].spec
    generation = made_of.generation
    images = f"{place.share}/images/{image}"
    root = f"{images}/.building-{generation}"
    return lines(
        _one_at_a_time(place),
        _preamble(place, images, root),
        _sources(spec, place),
        _settings(spec, image, place),
        _compile(spec, image, place, made_of.world_key),
        _install(spec, image, place, root),
        _jail_sets(root),
        _packages(spec, desired, image, root),
        _system_files(spec, desired, image, root),
        _users(spec, root),
        _ezjail(desired, image, root),
        _own_directories(made_of, root),
        _archives(spec, root),
        _manifest(made_of, image, desired),
        sh(
            "stage publish\ncd /\ntest ! -e {final} || {{ echo 'the generation is there already'; exit 1; }}\n"
            "mv {root} {final}\nstage complete",
            root=root,
            final=f"{images}/{generation}",
        ),
    )


def _one_at_a_time(place: BuildPlace) -> Script:
    """Builds share the source and the object tree: the VM itself lets one run after the other (lockf(1))."""
    return sh(
        """{locked}
if test -z "${{JAILOPS_BUILD-}}"; then
  JAILOPS_BUILD=1; export JAILOPS_BUILD
  printf '%s\\n' '--- jailops: waiting for the build before it'
  mkdir -p {work}
  locked 86400 {lock} /bin/sh "$0"
  exit $?
fi""",
        locked=raw(LOCKED),
        work=place.work,
        lock=f"{place.work}/build.lock",
    )


def _preamble(place: BuildPlace, images: str, root: str) -> Script:
    return sh(
        """set -eu
umask 022
PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin
export PATH
stage() {{ printf '%s\\n' "--- jailops: $1"; }}
stage prepare
mounted() {{ mount -p | while read -r d m rest; do test "$m" = "$1" && echo "$d"; done; }}
test "$(mounted {share})" = {from} || mount -t nfs {from} {share}
test "$(mounted {share})" = {from} || {{ echo "cannot build: "{share}" is not mounted from "{from}; exit 1; }}
mkdir -p {images} {work}
D={root}
if test -e "$D"; then
  # Left by a build that was cut short. Nothing may be mounted below it before it goes.
  test -z "$(mounted "$D/dev")" || umount "$D/dev"
  chflags -R noschg "$D" 2>/dev/null || :
  rm -rf "$D"
fi
mkdir "$D"
""",
        share=place.share,
        images=images,
        work=place.work,
        root=root,
        **{"from": place.share_source},
    )


def _sources(spec: ImageSpec, place: BuildPlace) -> Script:
    git, svn = spec.source.git, spec.source.svn
    if git is not None:
        refs = [git.branch] if git.branch else []
        return sh(
            """stage source
if test ! -d {src}/.git; then git clone --no-checkout -- {url} {src}; fi
if test "$(git -C {src} rev-parse HEAD 2>/dev/null)" != {commit}; then
  git -C {src} cat-file -e {commit}'^{{commit}}' 2>/dev/null || git -C {src} fetch -- {url} {refs}
fi
git -C {src} checkout --force --detach {commit}
test "$(git -C {src} rev-parse HEAD)" = {commit}""",
            src=place.source,
            url=git.url,
            commit=git.commit,
            refs=refs,
        )
    assert svn is not None
    return sh(
        """stage source
if test -d {src}/.svn; then svnlite cleanup {src}; svnlite update -r {rev} {src}
else svnlite checkout -r {rev} {url} {src}; fi
test "$(svnliteversion {src})" = {rev}""",
        src=place.source,
        url=svn.url,
        rev=svn.revision,
    )


def _settings(spec: ImageSpec, image: str, place: BuildPlace) -> Script:
    own = f"{place.work}/{image}"
    return lines(
        sh("mkdir -p {dir}", dir=f"{own}/kernconf"),
        put_file(f"{own}/src.conf", srcconf.render_src(spec.src_conf)),
        put_file(f"{own}/make.conf", srcconf.render_make(spec.make_options)),
        *([put_file(f"{own}/kernconf/{spec.kernel.name}", spec.kernel.config)] if spec.kernel.config else []),
    )


def _make(spec: ImageSpec, image: str, place: BuildPlace) -> tuple[Script, Script]:
    """How make is called for world and for the kernel: the same settings for build and install (build(7))."""
    own = f"{place.work}/{image}"
    world = sh("SRCCONF={src} __MAKE_CONF={make} $T", src=f"{own}/src.conf", make=f"{own}/make.conf")
    where = sh("KERNCONFDIR={dir} ", dir=f"{own}/kernconf") if spec.kernel.config else Script("")
    kernel = sh("KERNCONF={name} {where}{world}", name=spec.kernel.name, where=raw(where), world=raw(world))
    return world, kernel


def _compile(spec: ImageSpec, image: str, place: BuildPlace, world_key: str) -> Script:
    """Compile world and kernel, unless the object tree holds exactly these already."""
    world, kernel = _make(spec, image, place)
    return sh(
        """MAKEOBJDIRPREFIX={obj}
export MAKEOBJDIRPREFIX
T=
test "$(uname -m)" = {arch} || T={target}
cd {src}
if test "$(cat {stamp} 2>/dev/null)" != {key}; then
  rm -f {stamp}
  stage buildworld
  make -s {jobs} buildworld {world}
  stage buildkernel
  make -s {jobs} buildkernel {kernel}
  printf '%s\\n' {key} > {stamp}
fi""",
        obj=place.objects,
        arch=spec.architecture,
        target=f"TARGET={spec.architecture} TARGET_ARCH={_target_arch(spec.architecture)}",
        src=place.source,
        stamp=f"{place.work}/world.stamp",
        key=world_key,
        jobs=f"-j{place.jobs}",
        world=raw(world),
        kernel=raw(kernel),
    )


def _install(spec: ImageSpec, image: str, place: BuildPlace, root: str) -> Script:
    """NFS stores no file flags, so none are attempted; installs run without -j (not safe on 10)."""
    world, kernel = _make(spec, image, place)
    return sh(
        """stage installworld
make -s installworld DESTDIR={root} -DNO_FSCHG -DDB_FROM_SRC {world}
stage distribution
make -s distribution DESTDIR={root} -DNO_FSCHG {world}
stage installkernel
make -s installkernel DESTDIR={root} -DNO_FSCHG {kernel}
stage check
test -x "$D/rescue/tar"
test -f "$D/boot/pxeboot"
test -f "$D/boot/kernel/kernel"
grep -q {release} "$D/bin/freebsd-version" || {{ echo "the source is not "{release}; exit 1; }}""",
        root=root,
        world=raw(world),
        kernel=raw(kernel),
        release=f'USERLAND_VERSION="{spec.release}',
    )


def _jail_sets(root: str) -> Script:
    """The jails' base comes from the very world that the node runs (ezjail-admin install -h file:///dist)."""
    return sh(
        """stage base.txz
mkdir -p {dist}
tar -cJf {sets} -C {root} --exclude ./dist --exclude ./boot/kernel .""",
        root=root,
        dist=f"{root}/dist",
        sets=f"{root}/dist/base.txz",
    )


def _packages(spec: ImageSpec, desired: Desired, image: str, root: str) -> Script:
    wanted = list(spec.packages)
    if _managers(desired, image) & {"ezjail"} and "ezjail" not in wanted:
        wanted.append("ezjail")
    if not wanted:
        return Script(":")
    repository = []
    if spec.package_repository is not None:
        text = f'jailops: {{ url: "{spec.package_repository.url}", enabled: yes }}\nFreeBSD: {{ enabled: no }}\n'
        repository = [
            sh("mkdir -p {dir}", dir=f"{root}/usr/local/etc/pkg/repos"),
            put_file(f"{root}/usr/local/etc/pkg/repos/jailops.conf", text),
        ]
    return lines(
        Script("stage packages"),
        *repository,
        sh(
            """cp /etc/resolv.conf "$D/etc/resolv.conf"
mount -t devfs devfs {dev}
trap "umount $D/dev" EXIT
env ASSUME_ALWAYS_YES=yes pkg -c "$D" install -y {wanted}
for p in {wanted}; do pkg -c "$D" info -e "$p" || {{ echo "package $p is not installed"; exit 1; }}; done
pkg -c "$D" clean -ay
rm -f "$D"/var/db/pkg/repo-* "$D/etc/resolv.conf"
umount {dev}
trap - EXIT""",
            dev=f"{root}/dev",
            wanted=wanted,
        ),
    )


def _system_files(spec: ImageSpec, desired: Desired, image: str, root: str) -> Script:
    """/etc as it will lie in the archive. What is one host's own comes from its share at boot."""
    keyed = bool(spec.root_authorized_keys)
    parts = [
        Script("stage configuration"),
        put_file(f"{root}/etc/rc.conf", rcconf.render({**RC_CONF, **spec.rc_conf})),
        put_file(f"{root}/etc/rc.d/jailops_disk", DISK_RC, 0o555),
        put_file(f"{root}/boot/loader.conf", rcconf.render_loader(spec.loader_conf)),
        put_file(f"{root}/etc/fstab", "# The jail disk's line comes with the host's own files.\n"),
        sh("pw -R {root} usermod root -h -", root=root),
    ]
    if keyed:
        keys = "".join(f"{key}\n" for key in spec.root_authorized_keys)
        parts += [
            sh("mkdir -p {dir} && chmod 700 {dir}", dir=f"{root}/root/.ssh"),
            put_file(f"{root}/root/.ssh/authorized_keys", keys, 0o600),
            Script("""printf '%s\\n' 'PermitRootLogin without-password' >> "$D/etc/ssh/sshd_config\""""),
        ]
    for file in spec.files:
        target = f"{root}{file.path}"
        parts += [
            sh("mkdir -p {dir}", dir=target.rpartition("/")[0]),
            put_file(target, file.content, file.mode),
        ]
    mounts = sorted({host.spec.jail_disk.mount for host in desired.hosts_of_image(image)})
    parts += [sh("mkdir -p {dir}", dir=f"{root}{mount}") for mount in mounts]
    return lines(*parts)


def _users(spec: ImageSpec, root: str) -> Script:
    return lines(Script(":"), *(step for user in spec.users for step in _user(user, root)))


def _user(user: Any, root: str) -> Iterable[Script]:
    home = user.home or f"/home/{user.name}"
    groups = sh(" -G {groups}", groups=",".join(user.groups)) if user.groups else Script("")
    add = sh(
        "pw -R {root} useradd -n {name} -u {uid}{groups} -d {home} -s {shell} -m",
        root=root,
        name=user.name,
        uid=user.uid,
        groups=raw(groups),
        home=home,
        shell=user.shell,
    )
    if user.password_hash is None:
        yield Script(f"{add} -h -")
    else:
        yield Script(f"printf '%s\\n' '{secret(user.password_hash.file)}' | {add} -H 0")
    if user.authorized_keys:
        keys = "".join(f"{key}\n" for key in user.authorized_keys)
        directory = f"{root}{home}/.ssh"
        yield sh("mkdir -p {dir} && chmod 700 {dir}", dir=directory)
        yield put_file(f"{directory}/authorized_keys", keys, 0o600)
        yield sh("chown -R {uid} {dir}", uid=user.uid, dir=directory)


def _ezjail(desired: Desired, image: str, root: str) -> Script:
    """ezjail's own directory moves to the jail disk, the only place of the node that remembers."""
    hosts = [host.spec for host in desired.hosts_of_image(image) if host.spec.jails.manager == "ezjail"]
    if not hosts:
        return Script(":")
    first = hosts[0]
    directory = first.jails.directory or f"{first.jail_disk.mount}/jails"
    settings = {"ezjail_jaildir": directory}
    if first.jails.devfs_ruleset is not None:
        settings["ezjail_devfs_ruleset"] = str(first.jails.devfs_ruleset)
    return lines(
        sh(
            'cd "$D/usr/local/etc"\nrm -rf ezjail\nln -s {target} ezjail\ncd /',
            target=f"{directory}/etc/ezjail",
        ),
        put_file(f"{root}/usr/local/etc/ezjail.conf", rcconf.render(settings)),
    )


def _own_directories(made_of: Inputs, root: str) -> Script:
    """Where each host's own files come from at boot: only that host can mount its share (rc.initdiskless)."""
    parts = [Script(":")]
    for own in made_of.hosts.values():
        directory = f"{root}/conf/ip/{own['address']}/etc"
        parts += [
            sh("mkdir -p {dir}", dir=directory),
            put_file(f"{directory}/diskless_remount", f"{own['share']}\n"),
        ]
    return lines(*parts)


def _archives(spec: ImageSpec, root: str) -> Script:
    """The memory /etc and /var, made after the last change in them, with a size: the default is 5 MB (rc.initdiskless)."""
    return lines(
        Script("stage archives"),
        sh("mkdir -p {etc} {var}", etc=f"{root}/conf/base/etc", var=f"{root}/conf/base/var"),
        put_file(f"{root}/conf/base/etc/md_size", f"{spec.memory.etc // 512}\n"),
        put_file(f"{root}/conf/base/var/md_size", f"{spec.memory.var // 512}\n"),
        Script(
            """cd "$D"
rm -rf var/db/pkg/repo-* var/cache/pkg var/tmp/* var/run/*
tar -cf conf/base/etc.cpio.gz --format cpio --gzip etc
tar -cf conf/base/var.cpio.gz --format cpio --gzip var
cd /"""
        ),
    )


def _manifest(made_of: Inputs, image: str, desired: Desired) -> Script:
    """What the generation is and the digests of its boot files. Its presence says: complete."""
    known = {
        "generation": made_of.generation,
        "image": image,
        "release": desired.images[image].spec.release,
        "world": made_of.world_key,
        "hosts": {host: made_of.host_key(host) for host in made_of.hosts},
    }
    head = json.dumps(known, sort_keys=True, separators=(",", ":"))[:-1]
    return lines(
        sh(
            """stage manifest
mkdir "$D/.jailops"
cd "$D"
files=
for f in boot/pxeboot boot/loader.efi; do
  test -f "$f" || continue
  files="$files${{files:+,}}\\"$f\\":\\"$(sha256 -q "$f")\\""
done
printf '%s,"finished":%s,"bootFiles":{{%s}}}}\\n' {head} "$(date -u +%s)" "$files" > .jailops/manifest.new
sync
mv .jailops/manifest.new .jailops/manifest.json""",
            head=head,
        ),
    )


def _managers(desired: Desired, image: str) -> set[str]:
    return {host.spec.jails.manager for host in desired.hosts_of_image(image)}


def _target_arch(architecture: str) -> str:
    return "aarch64" if architecture == "arm64" else architecture
