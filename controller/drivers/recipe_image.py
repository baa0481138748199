"""The job that puts a configuration on top of packages (or of a world): one generation of an image.

What the configuration touches is prepared in a directory of the build VM and compared there with the layer below and with
the newest earlier generation (`recipe_apply`). Its list of files says only what differs from the layer's, of which it has a
link, so that a changed line costs about its own bytes. Nothing that a node may have booted is ever written to. Pure text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from controller.drivers.effects import SSHD_CONFIG
from controller.drivers.inputs import Inputs, flat
from controller.drivers.recipe import BuildPlace, clone, job, manifest, world_facts
from controller.drivers.recipe_apply import apply
from controller.encode import rcconf
from controller.encode.sh import lines, put_file, raw, secret, sh
from controller.graph import Desired
from controller.manifests import ImageSpec
from controller.manifests.base import SecretRef
from controller.manifests.image import User
from controller.model import Script

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

KEYS: Final = "/etc/ssh/authorized_keys.d"
"""Who may log in, one file per user: in the memory /etc, so that a running node can be told. The root itself is read-only."""

SSHD_LINES: Final = f"""\
# Made by jailops: of two lines with one keyword, sshd takes the first.
AuthorizedKeysFile {KEYS}/%u .ssh/authorized_keys
PermitRootLogin without-password
"""

TREES: Final = ("etc", "root", "var")
"""Prepared as a whole: what is not in the prepared one is not in the generation either."""


STAGES: Final[Mapping[str, float]] = {
    "prepare": 2,
    "clone": 30,
    "configuration": 5,
    "archives": 10,
    "files": 5,
    "hashes": 10,
    "manifest": 1,
    "publish": 2,
}
"""Of its job in their order, with the seconds that shape the bar."""


def image_script(desired: Desired, image: str, place: BuildPlace, made_of: Inputs) -> Script:
    """It may hold secret holes (password hashes), so its file is private."""
    spec = desired.images[image].spec
    below = f"packages-{made_of.packages_key}" if made_of.packages_key else f"world-{made_of.world_key}"
    images = f"{place.share}/images/{image}"
    return job(
        place,
        images,
        made_of.generation,
        clone(place, below),
        _stage(),
        _system_files(spec, desired, image),
        _users(spec),
        _ezjail(desired, image),
        _own_directories(made_of),
        _archives(spec),
        apply(TREES, _newest(images)),
        _LISTED,
        manifest(_facts(spec, image, made_of), _found()),
    )


def _stage() -> Script:
    """``$S``: copies of the trees, and what pw(8) reads to make a home."""
    return sh(
        """stage configuration
TZ=UTC
export TZ
S=$W/root
mkdir "$S"
cd "$S"
for d in {trees} usr/share/skel; do
  test -d "$L/$d" || continue
  mkdir -p "$(dirname "$d")"
  timed cp -a "$L/$d" "$d"
done""",
        trees=TREES,
    )


def _put(path: str, text: str, mode: int = 0o644) -> Script:
    """A file of the prepared root; the script stands in it. `path` is absolute, as the node sees it."""
    inside = path.lstrip("/")
    folder, _, _ = inside.rpartition("/")
    return sh("mkdir -p {dir} && {put}", dir=folder or ".", put=raw(put_file(inside, text, mode)))


def rc_conf(spec: ImageSpec) -> dict[str, str]:
    """What the generation's /etc/rc.conf says."""
    return {**RC_CONF, **spec.rc_conf}


def brings_sshd_config(spec: ImageSpec) -> bool:
    """Whether the manifest has an sshd_config of its own instead of the release's."""
    return any(file.path == SSHD_CONFIG for file in spec.files)


def key_files(spec: ImageSpec) -> dict[str, str]:
    """User -> the file with the keys that may log in, for sshd's own directory."""
    keys = {"root": spec.root_authorized_keys, **{user.name: user.authorized_keys for user in spec.users}}
    return {user: _lines(lines) for user, lines in keys.items() if lines}


def _system_files(spec: ImageSpec, desired: Desired, image: str) -> Script:
    """/etc as it will lie in the archive. What is one host's own comes from its share at boot."""
    parts = [
        _put("/etc/rc.conf", rcconf.render(rc_conf(spec))),
        _put("/etc/rc.d/jailops_disk", DISK_RC, 0o555),
        _put("/boot/loader.conf", rcconf.render_loader(spec.loader_conf)),
        _put("/etc/fstab", "# The jail disk's line comes with the host's own files.\n"),
        _password(Script('pw -R "$S" usermod root'), spec.root_password_hash),
    ]
    if brings_sshd_config(spec):
        # Nobody knows whether it looks into our directory: the keys lie where every sshd looks by default.
        if spec.root_authorized_keys:
            parts += [
                Script("mkdir -p root/.ssh && chmod 700 root/.ssh"),
                _put("/root/.ssh/authorized_keys", _lines(spec.root_authorized_keys), 0o600),
            ]
    else:
        parts += [
            sh("mkdir -p {dir} && chmod 755 {dir}", dir=KEYS.lstrip("/")),
            *(_put(f"{KEYS}/{user}", text) for user, text in key_files(spec).items()),
            sh(
                """cp -p etc/ssh/sshd_config etc/ssh/sshd_config.new
{{ printf %s {ours}; cat etc/ssh/sshd_config; }} > etc/ssh/sshd_config.new
mv etc/ssh/sshd_config.new etc/ssh/sshd_config""",
                ours=SSHD_LINES,
            ),
        ]
    parts += [_put(file.path, file.content, file.mode) for file in spec.files]
    mounts = sorted({host.spec.jail_disk.mount for host in desired.hosts_of_image(image)})
    return lines(*parts, *(sh("mkdir -p {dir}", dir=mount.lstrip("/")) for mount in mounts))


def _users(spec: ImageSpec) -> Script:
    at_home = brings_sshd_config(spec)
    return lines(Script(":"), *(step for user in spec.users for step in _user(user, keys=at_home)))


def _user(user: User, *, keys: bool) -> Iterable[Script]:
    home = user.home or f"/home/{user.name}"
    groups = sh(" -G {groups}", groups=",".join(user.groups)) if user.groups else Script("")
    add = sh(
        'pw -R "$S" useradd -n {name} -u {uid}{groups} -d {home} -s {shell} -m',
        name=user.name,
        uid=user.uid,
        groups=raw(groups),
        home=home,
        shell=user.shell,
    )
    yield sh("mkdir -p {dir}", dir=home.rpartition("/")[0].lstrip("/") or ".")
    yield _password(add, user.password_hash)
    if keys and user.authorized_keys:
        directory = f"{home}/.ssh".lstrip("/")
        yield sh("mkdir -p {dir} && chmod 700 {dir}", dir=directory)
        yield put_file(f"{directory}/authorized_keys", _lines(user.authorized_keys), 0o600)
        yield sh("chown -R {uid} {dir}", uid=user.uid, dir=directory)


def _password(pw: Script, password_hash: SecretRef | None) -> Script:
    """pw(8) with a hash that it reads, so that it is nobody's argument; without one nobody can log in by password."""
    if password_hash is None:
        return Script(f"{pw} -h -")
    return Script(f"printf '%s\\n' '{secret(password_hash.hole)}' | {pw} -H 0")


def _lines(values: Iterable[object]) -> str:
    return "".join(f"{one}\n" for one in values)


def _ezjail(desired: Desired, image: str) -> Script:
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
        _put("/usr/local/etc/ezjail.conf", rcconf.render(settings)),
        sh("ln -s {target} usr/local/etc/ezjail", target=f"{directory}/etc/ezjail"),
    )


def _own_directories(made_of: Inputs) -> Script:
    """Where each host's own files come from at boot: only that host can mount its share (rc.initdiskless)."""
    own = made_of.hosts.values()
    return lines(
        Script(":"), *(_put(f"/conf/ip/{one['address']}/etc/diskless_remount", f"{one['share']}\n") for one in own)
    )


FITS: Final = Script("""\
fits() { # DIRECTORY KIB: rc.initdiskless goes on with half an /etc when its memory disk is full
  have=$(du -sk "$1" | cut -f 1)
  test "$((have + have / 10))" -le "$2" || {
    echo "cannot fit /$1 into its memory disk: it holds $have KiB, and memory.$1 is $2 KiB, a tenth of which stays free"
    exit 1
  }
}""")


def _archives(spec: ImageSpec) -> Script:
    """The memory /etc and /var, made after the last change in them, with a size: the default is 5 MB (rc.initdiskless).

    What fills them lies in /conf/default as links of the very files, so that it costs nothing. A size is read in a directory of
    /conf/base only, and the archive beside that keeps it from being copied along. It holds what changes most often, rc.conf.
    The same files give the same archive, byte for byte, so that it is shared with the generation before.
    """
    return lines(
        Script("stage archives"),
        FITS,
        _put("/conf/base/etc/md_size", f"{spec.memory.etc // 512}\n"),
        _put("/conf/base/var/md_size", f"{spec.memory.var // 512}\n"),
        sh(
            """rm -rf var/db/pkg/repo-* var/cache/pkg var/tmp/* var/run/*
fits etc {etc}
fits var {var}""",
            etc=spec.memory.etc // 1024,
            var=spec.memory.var // 1024,
        ),
        Script(
            """timed find . -exec touch -h -t 200001010000 {} +
archive() { # TREE NAME
  echo "$2" > "$W/names"
  timed tar -cf "conf/base/$1.cpio.gz" --format cpio --gzip --options 'gzip:!timestamp' -n -T "$W/names"
}
archive etc etc/rc.conf
archive var var
touch -h -t 200001010000 conf/base conf/base/*.cpio.gz
cd /"""
        ),
    )


def _newest(images: str) -> Script:
    """The newest earlier generation."""
    return sh(
        """P=
for f in {images}/*/.jailops/own; do
  test -f "$f" || continue
  if test -z "$P" || test "$f" -nt "$P"; then P=$f; fi
done
P=${{P%/.jailops/own}}""",
        images=images,
    )


_LISTED: Final = Script("""stage hashes
templates
rm -f "$D/conf/default/etc/rc.conf"
entries "$D" "$W/own"
hashes "$D" "$W/own" "$W/files" "$W/below" "$L/.jailops/files"
ln "$L/.jailops/files" "$D/.jailops/below"
own "$W/files" "$L/.jailops/files" > "$D/.jailops/own"
wrote() { # how many bytes were written
  awk -F '\\t' 'FILENAME == ARGV[1] { is[$1] = 1; next } $1 in is { sum += $6 } END { printf "%.0f", sum }' "$W/write" "$W/own"
}""")
"""/etc/rc.conf lies in the archive."""


def _facts(spec: ImageSpec, image: str, made_of: Inputs) -> dict[str, Any]:
    return {
        "generation": made_of.generation,
        "image": image,
        "world": made_of.world_key,
        "packages": made_of.packages_key,
        "hosts": {host: made_of.host_key(host) for host in made_of.hosts},
        "inputs": flat(made_of),
        **world_facts(spec),
    }


def _found() -> Script:
    """The digests of the boot files, and how many bytes are this generation's alone."""
    return Script(
        """files=
for f in boot/pxeboot boot/loader.efi; do
  test -f "$D/$f" || continue
  files="$files${files:+,}\\"$f\\":\\"$(sha256 -q "$D/$f")\\""
done
printf ',"bytes":%s,"bootFiles":{%s}' "$(takes "$(wrote)" "$D/.jailops/own")" "$files\""""
    )
