"""The root file system that installworld, distribution and installkernel leave in DESTDIR: few files, true structure.

Whoever looks at a generation (the checks of the image driver, the network boot, a person) finds every file they would look for
at its real place with its real owner, mode and key lines; programs are one-line placeholders.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

NUMBERS: Final = {"10.4": "1004000", "12.1": "1201000", "13.2": "1302001"}
"""__FreeBSD_version of the releases that the reference names."""

HIERARCHY: Final = """
bin boot boot/defaults boot/kernel boot/loader.conf.d boot/lua boot/modules dev etc etc/X11 etc/defaults etc/devd
etc/jail.conf.d etc/mail etc/mtree etc/newsyslog.conf.d etc/ntp etc/pam.d etc/periodic etc/pkg etc/rc.conf.d
etc/rc.d etc/security etc/ssh etc/ssl etc/syslog.d lib libexec media mnt net proc rescue root sbin tmp usr usr/bin
usr/home usr/include usr/include/sys usr/lib usr/libdata usr/libexec usr/local usr/local/etc usr/obj usr/sbin
usr/share usr/src var var/account var/at var/audit var/backups var/cache var/crash var/cron var/cron/tabs var/db
var/db/entropy var/db/freebsd-update var/db/pkg var/db/portsnap var/empty var/games var/log var/mail var/msgs
var/preserve var/run var/spool var/spool/lock var/tmp var/yp
"""
MODES: Final = {
    "tmp": 0o1777,
    "var/tmp": 0o1777,
    "var/empty": 0o555,
    "var/crash": 0o750,
    "var/audit": 0o770,
    "root": 0o750,
}

PROGRAMS: Final = {
    "bin": "cat chmod cp csh date df echo expr hostname kenv kill ln ls mkdir mv ps rm sh sleep stty sync tcsh test",
    "sbin": "camcontrol fsck fsck_ffs ifconfig init kldload mount mount_nfs mount_nullfs newfs ping reboot shutdown sysctl "
    "umount",
    "usr/bin": "awk fstyp grep gzip id login logger passwd sed ssh ssh-keygen stat tar tr uname xz",
    "usr/sbin": "chown chroot daemon iscsid jail jexec jls pkg pw pwd_mkdb service sshd sysrc syslogd vipw",
    "usr/libexec": "getty sftp-server",
    "rescue": "cat cp ls mount sh tar",
}
OPTIONAL: Final = {"WITHOUT_RESCUE": ("rescue",), "WITHOUT_BOOT": ("boot/pxeboot", "boot/loader.efi"),
                   "WITHOUT_INCLUDES": ("usr/include",)}  # fmt: skip

FREEBSD_VERSION: Final = """#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
set -e
USERLAND_VERSION="{release}"
: ${{ROOT:=}}
: ${{LOADER_DIR:=$ROOT/boot}}
kernel_version() {{
	kernfile="$LOADER_DIR/kernel/kernel"
	[ -f "$kernfile" ] || {{ echo "freebsd-version: unable to locate kernel" >&2; exit 1; }}
	sed -n 's/^@(#)FreeBSD \\([^ ]*\\).*/\\1/p' "$kernfile"
}}
[ $# -gt 0 ] || set -- -u
for option; do
	case $option in
	-k) kernel_version ;;
	-r) uname -r ;;
	-u) echo "$USERLAND_VERSION" ;;
	*) echo "usage: freebsd-version [-kru] [-j jail]" >&2; exit 1 ;;
	esac
done
"""

MASTER_PASSWD: Final = """root::0:0::0:0:Charlie &:/root:/bin/csh
toor:*:0:0::0:0:Bourne-again Superuser:/root:
daemon:*:1:1::0:0:Owner of many system processes:/root:/usr/sbin/nologin
operator:*:2:5::0:0:System &:/:/usr/sbin/nologin
bin:*:3:7::0:0:Binaries Commands and Source:/:/usr/sbin/nologin
tty:*:4:65533::0:0:Tty Sandbox:/:/usr/sbin/nologin
sshd:*:22:22::0:0:Secure Shell Daemon:/var/empty:/usr/sbin/nologin
_ntp:*:123:123::0:0:NTP Daemon:/var/db/ntp:/usr/sbin/nologin
nobody:*:65534:65534::0:0:Unprivileged user:/nonexistent:/usr/sbin/nologin
"""
GROUP: Final = """wheel:*:0:root
daemon:*:1:
kmem:*:2:
sys:*:3:
tty:*:4:
operator:*:5:root
mail:*:6:
bin:*:7:
staff:*:20:
sshd:*:22:
guest:*:31:
network:*:69:
nogroup:*:65533:
nobody:*:65534:
"""
SSHD_CONFIG: Final = """#	$OpenBSD: sshd_config,v 1.104 2021/07/02 05:11:21 dtucker Exp $
#Port 22
#HostKey /etc/ssh/ssh_host_rsa_key
#HostKey /etc/ssh/ssh_host_ecdsa_key
#HostKey /etc/ssh/ssh_host_ed25519_key
#PermitRootLogin no
AuthorizedKeysFile	.ssh/authorized_keys
#PasswordAuthentication no
Subsystem	sftp	/usr/libexec/sftp-server
"""
DEFAULTS: Final = """# Defaults of the base system, the ones that a diskless node meets.
hostname=""
root_rw_mount="YES"
tmpmfs="AUTO"
tmpsize="20m"
varmfs="AUTO"
varsize="32m"
sshd_enable="NO"
iscsid_enable="NO"
iscsictl_enable="NO"
iscsictl_flags="-Aa"
jail_enable="NO"
jail_list=""
syslogd_enable="YES"
syslogd_flags="-s"
cron_enable="YES"
sendmail_enable="NO"
dumpdev="AUTO"
rc_conf_files="/etc/rc.conf /etc/rc.conf.local"
local_startup="/usr/local/etc/rc.d"
"""
RC_SUBR: Final = """# The part of rc.subr(8) that a start script of this site needs.
warn() { echo "$0: WARNING: $*" >&2; }
info() { :; }
debug() { :; }
err() { code=$1; shift; echo "$0: ERROR: $*" >&2; exit "$code"; }
checkyesno() { eval "_value=\\${$1:-NO}"; case $_value in [Yy][Ee][Ss]|[Tt][Rr][Uu][Ee]|[Oo][Nn]|1) return 0;; esac; return 1; }
load_rc_config() {
	for _file in /etc/defaults/rc.conf /etc/rc.conf /etc/rc.conf.local; do [ -r "$_file" ] && . "$_file"; done
	return 0
}
run_rc_command() {
	_how=$1; _verb=$1
	for _prefix in fast force one quiet; do _verb=${_verb#"$_prefix"}; done
	if [ -n "${rcvar:-}" ] && ! checkyesno "$rcvar"; then
		case $_how in one*|force*) ;; *)
			[ "$_how" = "$_verb" ] && echo "Cannot '$_verb' $name. Set $rcvar to YES in /etc/rc.conf or use" \\
				"'one$_verb' instead of '$_verb'."
			return 0 ;;
		esac
	fi
	eval "_command=\\${${_verb}_cmd:-}; _before=\\${${_verb}_precmd:-}; _after=\\${${_verb}_postcmd:-}"
	[ -z "$_before" ] || $_before || return 1
	[ -z "$_command" ] || $_command || return 1
	[ -z "$_after" ] || $_after
}
"""

BASE: Final = "# A start script of the base system: the simulated node acts it out itself."
"""The line that tells a base script of the simulated release from one that a generation brings."""

SCRIPTS: Final[dict[str, str]] = {
    "hostid": "REQUIRE: sysctl|KEYWORD: nojail",
    "sysctl": "",
    "fsck": "REQUIRE: hostid|KEYWORD: nojail",
    "root": "REQUIRE: fsck|KEYWORD: nojail",
    "mountcritlocal": "REQUIRE: root|KEYWORD: nojail shutdown",
    "tmp": "REQUIRE: mountcritlocal",
    "var": "REQUIRE: mountcritlocal",
    "cleanvar": "REQUIRE: var",
    "FILESYSTEMS": "REQUIRE: root mountcritlocal cleanvar tmp",
    "hostname": "REQUIRE: FILESYSTEMS|BEFORE: netif|KEYWORD: nojail",
    "netif": "REQUIRE: FILESYSTEMS sysctl|KEYWORD: nojailvnet",
    "routing": "REQUIRE: netif|KEYWORD: nojailvnet",
    "resolv": "REQUIRE: netif FILESYSTEMS|BEFORE: mountcritremote",
    "devd": "REQUIRE: netif|BEFORE: NETWORKING mountcritremote|KEYWORD: nojail",
    "NETWORKING": "PROVIDE: NETWORKING NETWORK|REQUIRE: netif routing resolv",
    "iscsid": "REQUIRE: NETWORK|BEFORE: DAEMON|KEYWORD: nojail shutdown",
    "iscsictl": "REQUIRE: NETWORK iscsid|BEFORE: DAEMON|KEYWORD: nojail",
    "mountcritremote": "REQUIRE: NETWORKING FILESYSTEMS|KEYWORD: nojail",
    "ldconfig": "REQUIRE: FILESYSTEMS mountcritremote",
    "newsyslog": "REQUIRE: FILESYSTEMS mountcritremote",
    "syslogd": "REQUIRE: mountcritremote newsyslog|BEFORE: SERVERS",
    "motd": "REQUIRE: mountcritremote FILESYSTEMS|BEFORE: LOGIN",
    "SERVERS": "REQUIRE: mountcritremote ldconfig",
    "DAEMON": "REQUIRE: NETWORKING SERVERS",
    "mountlate": "REQUIRE: DAEMON|BEFORE: LOGIN|KEYWORD: nojail",
    "LOGIN": "REQUIRE: DAEMON",
    "sshd": "REQUIRE: LOGIN FILESYSTEMS|KEYWORD: shutdown",
    "cron": "REQUIRE: LOGIN FILESYSTEMS|KEYWORD: shutdown",
    "jail": "REQUIRE: LOGIN FILESYSTEMS|BEFORE: securelevel|KEYWORD: shutdown",
    "securelevel": "REQUIRE: LOGIN sshd|KEYWORD: nojail",
    "bgfsck": "REQUIRE: cron devd syslogd|KEYWORD: nojail",
}


def world(root: Path, release: str, options: frozenset[str]) -> None:
    """installworld: programs, never the configuration below etc."""
    for name in HIERARCHY.split():
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name).chmod(MODES.get(name, 0o755))
    for folder, names in PROGRAMS.items():
        for name in names.split():
            put(root / folder / name, "a FreeBSD program of the simulated site\n", 0o555)
    put(root / "bin/freebsd-version", FREEBSD_VERSION.format(release=release), 0o555)
    put(root / "boot/pxeboot", f"pxeboot of {release}\n" + "\0" * 512, 0o444)
    put(root / "boot/loader.efi", f"loader.efi of {release}\n" + "\0" * 512, 0o555)
    put(root / "boot/defaults/loader.conf", 'autoboot_delay="10"\n')
    put(root / "boot/lua/loader.lua", "-- the loader's own\n", 0o444)
    put(root / "lib/libc.so.7", "libc\n", 0o444)
    put(root / "libexec/ld-elf.so.1", "rtld\n", 0o555)
    number = NUMBERS.get(release.split("-")[0], "1300000")
    put(root / "usr/include/sys/param.h", f"#undef __FreeBSD_version\n#define __FreeBSD_version {number}\n", 0o444)
    for option, paths in OPTIONAL.items():
        for path in paths if option in options else ():
            remove(root / path)


def distribution(root: Path, release: str, options: frozenset[str]) -> None:
    """distribution: everything below etc, written over what was there."""
    etc = root / "etc"
    shell = MASTER_PASSWD.replace("/bin/csh", "/bin/sh") if "WITHOUT_TCSH" in options else MASTER_PASSWD
    put(etc / "master.passwd", shell, 0o600)
    put(etc / "group", GROUP)
    put(etc / "ssh/sshd_config", SSHD_CONFIG)
    put(etc / "ssh/ssh_config", "# Host *\n")
    put(etc / "ssh/moduli", "# Time Type Tests Tries Size Generator Modulus\n")
    put(etc / "defaults/rc.conf", DEFAULTS)
    put(etc / "rc", "#!/bin/sh\n# System startup script run by init(8).\n")
    put(
        etc / "rc.initdiskless",
        "#!/bin/sh\n# Run by rc when the root is on NFS: fills memory file systems from /conf.\n",
    )
    put(etc / "rc.shutdown", "#!/bin/sh\n# System shutdown script run by init(8).\n")
    put(etc / "rc.subr", RC_SUBR)
    put(
        etc / "ttys",
        'console\tnone\t\t\t\tunknown\toff secure\nttyu0\t"/usr/libexec/getty 3wire"\tvt100\tonifconsole secure\n',
    )
    put(etc / "login.conf", "default:\\\n\t:path=/sbin /bin /usr/sbin /usr/bin /usr/local/sbin /usr/local/bin ~/bin:\n")
    put(etc / "shells", "/bin/sh\n/bin/csh\n/bin/tcsh\n")
    put(etc / "syslog.conf", "*.notice;authpriv.none\t\t\t\t/var/log/messages\n")
    put(etc / "newsyslog.conf", "/var/log/messages\t\t644  5\t   1000 @0101T JC\n")
    put(etc / "services", "ssh\t\t 22/tcp\n")
    put(etc / "hosts", "::1\t\t\tlocalhost\n127.0.0.1\t\tlocalhost\n")
    put(etc / "motd.template", f"Welcome to FreeBSD {release}!\n")
    put(etc / "crontab", "SHELL=/bin/sh\n")
    put(etc / "devfs.conf", "# Commonly used devices\n")
    put(
        etc / "pkg/FreeBSD.conf",
        'FreeBSD: {\n  url: "pkg+http://pkg.FreeBSD.org/${ABI}/quarterly",\n  enabled: yes\n}\n',
    )
    for name, said in SCRIPTS.items():
        put(etc / "rc.d" / name, script(name, said), 0o555)
    databases(etc)
    put(root / "boot/device.hints", 'hint.uart.0.at="isa"\n')
    put(
        root / "root/.cshrc",
        "# .cshrc\nset path = (/sbin /bin /usr/sbin /usr/bin /usr/local/sbin /usr/local/bin $HOME/bin)\n",
    )
    put(
        root / "root/.profile", "PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:~/bin; export PATH\n"
    )
    put(root / "COPYRIGHT", "The FreeBSD Project\n")


MACHINES: Final = {"amd64": 62, "i386": 3, "arm64": 183, "aarch64": 183}
"""e_machine of elf(5)."""


def kernel(root: Path, folder: str, what: str, cpu: str = "amd64") -> None:
    """installkernel: whatever kernel directory was there is deleted first."""
    remove(root / "boot" / folder)
    (root / "boot" / folder).mkdir(parents=True)
    head = bytes([*b"\x7fELF", 1 if cpu == "i386" else 2, 1, 1, 9, *[0] * 8, 2, 0, MACHINES[cpu], 0])
    put(root / "boot" / folder / "kernel", f"{head.decode('latin-1')}\n@(#)FreeBSD {what}\n", 0o555, "latin-1")
    for module in ("iscsi", "nullfs", "fdescfs", "tmpfs", "procfs"):
        put(root / "boot" / folder / f"{module}.ko", f"{module}\n", 0o555)
    put(root / "boot" / folder / "linker.hints", "hints\n")


def script(name: str, said: str) -> str:
    lines = [line for line in said.split("|") if line]
    provide = [] if any(line.startswith("PROVIDE") for line in lines) else [f"PROVIDE: {name}"]
    return "#!/bin/sh\n" + "".join(f"# {line}\n" for line in [*provide, *lines]) + f"\n{BASE}\n"


def databases(etc: Path) -> None:
    """What pwd_mkdb makes of master.passwd: passwd without the password, and two databases."""
    rows = [line.split(":") for line in (etc / "master.passwd").read_text().splitlines() if not line.startswith("#")]
    put(
        etc / "passwd",
        "".join(":".join([r[0], "*" if r[0] != "root" else r[1] and "*", r[2], r[3], *r[7:]]) + "\n" for r in rows),
    )
    put(etc / "pwd.db", "".join(":".join([r[0], "*", r[2], r[3], *r[7:]]) + "\n" for r in rows))
    put(etc / "spwd.db", "".join(":".join(r) + "\n" for r in rows), 0o600)


def put(path: Path, text: str, mode: int = 0o644, encoding: str = "utf-8") -> None:
    """Write a file as install(1) does: the old one is replaced, whatever its mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_text(text, encoding)
    path.chmod(mode)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
