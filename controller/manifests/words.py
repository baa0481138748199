"""The scalar types of names, texts, paths, sizes and durations.

Identifiers are ASCII and matched whole. Values that will stand in a shell file, a kernel configuration or an exports
line have the narrow character set that makes every encoder's work possible. Pure.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, TypeAlias

from controller.manifests.scalar import NAME, STRING, TEXT, Refused, Scalar, parsed, text, whole

_DNS = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_SEGMENT = r"[A-Za-z0-9._@+:=-]+"

RESERVED_JAILS: Final = ("basejail", "newjail", "fulljail", "flavours", "ezjailtemp", "ezjail_archives")
"""Directories that ezjail keeps beside the jails' own (ezjail-admin 3.4.2)."""


def _jail_name(value: str) -> str:
    if value.isdigit():
        raise Refused("a name that is not only digits (the kernel takes a number for a jail id)")
    if value.lower() in RESERVED_JAILS:
        raise Refused(f"a name other than ezjail's own {', '.join(RESERVED_JAILS)}")
    return value


NAME_TEXT: Final = "a name of a-z, 0-9, '.' and '-', at most 63 characters, a letter or digit at both ends"
Name: TypeAlias = Annotated[str, text(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?", NAME_TEXT, "node1", base=NAME)]

_jail_text = text(
    r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
    "a jail name of letters, digits, '.', '_' and '-', at most 63 characters, a letter or digit at both ends",
    "web",
)
JailName: TypeAlias = Annotated[str, parsed(_jail_text, _jail_name)]

Hostname: TypeAlias = Annotated[
    str,
    text(
        rf"{_DNS}(\.{_DNS})*",
        "a host name of letters, digits, '-' and '.'",
        "node1.example.org",
        base=NAME,
        longest=253,
    ),
]
JailHostname: TypeAlias = Annotated[
    str,
    text(
        r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?",
        "a host name of letters, digits, '.', '_' and '-'",
        "www.example.org",
        base=NAME,
    ),
]
Domain: TypeAlias = Annotated[str, text(rf"{_DNS}(\.{_DNS})*", "a domain name", "example.org", longest=253)]
Word: TypeAlias = Annotated[
    str, text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", "a word of letters, digits, '.', '_' and '-'", "example", base=NAME)
]
Login: TypeAlias = Annotated[
    str, text(r"[a-z_][a-z0-9_-]{0,30}", "a user name of a-z, 0-9, '_' and '-' that begins with a letter", "admin")
]
Service: TypeAlias = Annotated[
    str,
    text(
        r"[A-Za-z0-9][A-Za-z0-9@._-]{0,62}",
        "a service's name of letters, digits, '@', '.', '_' and '-'",
        "isc-dhcp-server",
    ),
]
Interface: TypeAlias = Annotated[
    str, text(r"[a-z]+[0-9]+", "a FreeBSD interface: letters and a number", "em0", longest=15)
]
LinuxInterface: TypeAlias = Annotated[
    str,
    text(
        r"[A-Za-z][A-Za-z0-9._-]{0,14}",
        "a Linux interface of at most 15 letters, digits, '.', '_' and '-'",
        "br0",
        longest=15,
    ),
]
VirtUri: TypeAlias = Annotated[
    str,
    text(
        r"[a-z]+(?:\+[a-z]+)?://(?:[A-Za-z0-9][A-Za-z0-9@._:-]*)?(?:/[A-Za-z0-9._-]+)+",
        "a libvirt URI",
        "qemu:///system",
        longest=200,
    ),
]
VolumeLabel: TypeAlias = Annotated[
    str, text(r"[A-Za-z0-9_-]{1,31}", "a label of 1 to 31 letters, digits, '_' and '-'", "jails", base=NAME)
]
Iqn: TypeAlias = Annotated[
    str,
    text(
        r"iqn\.[0-9]{4}-(0[1-9]|1[0-2])\.[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[a-z0-9.:-]+)?",
        "an iSCSI name: iqn.YEAR-MONTH.reversed.domain, with an optional :name (RFC 3720)",
        "iqn.2026-11.org.example",
        longest=200,
    ),
]
ChapUser: TypeAlias = Annotated[
    str,
    text(
        r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?",
        "a CHAP user of letters, digits, '.', '_' and '-', a letter or digit at both ends",
        "node1",
        base=NAME,
    ),
]
LabelKey: TypeAlias = Annotated[
    str,
    text(
        r"[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?", "a key of letters, digits, '.', '_', '-' and '/'", base=NAME
    ),
]
LabelValue: TypeAlias = Annotated[
    str, text(r"[A-Za-z0-9._-]{0,63}", "a value of at most 63 letters, digits, '.', '_' and '-'", base=TEXT)
]
Note: TypeAlias = Annotated[str, text(r"[\s\S]*", "text of at most 4096 characters", base=TEXT, longest=4096)]

# FreeBSD files and knobs -------------------------------------------------------------------------------------------

RcName: TypeAlias = Annotated[str, text(r"[A-Za-z_][A-Za-z0-9_]*", "an rc.conf(5) variable of letters, digits and '_'")]
ShellValue: TypeAlias = Annotated[
    str,
    text(r"[ !#%-\[\]^_a-~]*", 'one line of printable ASCII without ", $, ` and \\', "YES", base=TEXT),
]
LoaderName: TypeAlias = Annotated[
    str, text(r"[A-Za-z_][A-Za-z0-9_.]*", "a loader.conf(5) variable of letters, digits, '_' and '.'")
]
MakeName: TypeAlias = Annotated[str, text(r"[A-Z_][A-Z0-9_]*", "a make variable of A-Z, 0-9 and '_'")]
MakeValue: TypeAlias = Annotated[
    str, text(r"[A-Za-z0-9 ._/+=,:-]*", "a value of letters, digits, space and . _ / + = , : -", "i586", base=TEXT)
]
PackageName: TypeAlias = Annotated[
    str, text(r"[A-Za-z0-9][A-Za-z0-9._+-]*", "a package's name, such as nginx", "nginx", longest=128)
]
Release: TypeAlias = Annotated[
    str, text(r"[0-9]+\.[0-9]+-[A-Z0-9][A-Z0-9.-]*", "a release such as 13.2-RELEASE", "13.2-RELEASE", longest=40)
]
KernelName: TypeAlias = Annotated[
    str, text(r"[A-Z][A-Z0-9_]*", "a kernel's name of A-Z, 0-9 and '_'", "MYKERNEL", longest=40)
]

_BREAKING: Final = {
    "RESCUE": "/rescue/tar unpacks /conf/base at boot",
    "BOOT": "pxeboot and the loader come from it",
    "ISCSI": "the jail disk is attached with it",
    "JAIL": "it is what the node is for",
    "OPENSSH": "the controller works through sshd",
    "OPENSSL": "sshd and pkg need it",
    "CRYPT": "sshd needs it",
    "PKGBOOTSTRAP": "packages come into the image through it",
    "FREEBSD_UPDATE": "ezjail-admin install calls it",
    "INET": "the root comes over NFS",
}


def _knob(value: str) -> str:
    knob = value.removeprefix("WITHOUT_")
    if knob != value and knob in _BREAKING:
        raise Refused(f"a world with {knob} ({_BREAKING[knob]})")
    return value


def _capitals(value: str) -> str:
    try:
        return str(_knob_text.parse(value))
    except ValueError:
        upper = value.upper()
        raise Refused(suggestion=upper if re.fullmatch("WITH(OUT)?_[A-Z0-9_]+", upper) else "") from None


_knob_pattern = rf"WITH_[A-Z0-9_]+|WITHOUT_(?!(?:{'|'.join(_BREAKING)})$)[A-Z0-9_]+"
_knob_text = text(
    r"WITH(OUT)?_[A-Z0-9_]+", "a src.conf(5) knob: WITH_… or WITHOUT_… in capitals", "WITHOUT_ZFS", longest=60
)
Knob: TypeAlias = Annotated[
    str,
    Scalar(
        _knob_text.expected,
        lambda value: _knob(_capitals(value)),
        {**STRING, "pattern": f"^(?:{_knob_pattern})$", "maxLength": 60},
        _knob_text.examples,
    ),
]

# Paths, URLs, references --------------------------------------------------------------------------------------------

_PATH = rf"(?:/(?!\.\.?(?:/|$)){_SEGMENT})+"
_path = text(
    _PATH,
    "an absolute path of letters, digits and . _ @ + : = -, without '..' and without a '/' at the end",
    "/export/jailops",
)
Path: TypeAlias = Annotated[str, _path]

_WHOLLY_SYSTEM: Final = (
    *("/bin", "/boot", "/conf", "/dev", "/etc", "/lib", "/lib64", "/libexec"),
    *("/proc", "/rescue", "/run", "/sbin", "/sys"),
)
"""Nothing of ours belongs anywhere below these."""

_SYSTEM_DIRS: Final = frozenset(
    (*_WHOLLY_SYSTEM, "/compat", "/home", "/opt", "/root", "/srv", "/tmp", "/usr", "/usr/home", "/usr/local", "/var")
)


def _data_dir(value: str) -> str:
    if value != "/":
        _path.parse(value)
    if value == "/" or value in _SYSTEM_DIRS or value.startswith(tuple(f"{name}/" for name in _WHOLLY_SYSTEM)):
        raise Refused("a directory of its own, not one of the operating system's")
    return value


DataDir: TypeAlias = Annotated[str, Scalar(_path.expected, _data_dir, _path.schema, _path.examples)]
"""A directory that jailops fills: never ``/`` and never a directory of the operating system."""


_served = text(
    r"(?:/\.?[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+",
    "an absolute path of letters, digits and . _ + -, without '..' and without a '/' at the end",
    "/export/jailops",
)


def _served_dir(value: str) -> str:
    return _data_dir(value if value == "/" else str(_served.parse(value)))


ServedDir: TypeAlias = Annotated[str, Scalar(_served.expected, _served_dir, _served.schema, _served.examples)]
"""A DataDir that stands in exports(5), in DHCP's root-path and in what iSCSI targets are made of."""


def _volume_dir(value: str) -> str:
    return str(_served.parse(value)) if value.startswith("/dev/") else _served_dir(value)


VolumeDir: TypeAlias = Annotated[str, Scalar(_served.expected, _volume_dir, _served.schema, _served.examples)]
"""A directory of volume files, or one below /dev whose devices somebody made: a volume group, a pool of ZFS volumes."""

RelativePath: TypeAlias = Annotated[
    str,
    text(
        rf"(?!\.\.?(?:/|$)){_SEGMENT}(?:/(?!\.\.?(?:/|$)){_SEGMENT})*",
        "a path relative to the jail's root, without '..'",
        "usr/local/www",
    ),
]
SecretFile: TypeAlias = Annotated[
    str,
    text(
        r"(?!(?:.*/)?\.\.(?:/|$))[A-Za-z0-9][A-Za-z0-9_./-]*",
        "the name of a file below the secrets directory, without '..' (the secret itself never stands in a manifest)",
        "node1/chap",
        longest=200,
    ),
]
SecretVariable: TypeAlias = Annotated[
    str,
    text(r"[A-Z][A-Z0-9_]*", "the end of a variable's name, of A-Z, 0-9 and '_'", "NODE1_CHAP", base=NAME, longest=100),
]
MAX_AGE: Final = 16_384
"""Characters of an age file: a private key takes a tenth of it."""
_AGE = re.compile(
    r"-----BEGIN AGE ENCRYPTED FILE-----\n"
    r"((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{1,64}={0,2}\n)-----END AGE ENCRYPTED FILE-----\n*"
)
_AGE_BEGINS: Final = "YWdlLWVuY3J5cHRpb24ub3JnL3Yx"
"""``age-encryption.org/v1``, with which every age file begins."""


def _age(value: str) -> str:
    """Its base64 alone, without line ends."""
    if len(value) > MAX_AGE:
        raise Refused(f"an age file of at most {MAX_AGE} characters")
    found = _AGE.fullmatch(value)
    body = found[1].replace("\n", "") if found else ""
    if not body.startswith(_AGE_BEGINS) or len(body) % 4:
        raise ValueError
    return body


AgeFile: TypeAlias = Annotated[
    str,
    Scalar(
        "a whole file that age --armor wrote, from -----BEGIN AGE ENCRYPTED FILE----- on",
        _age,
        {
            **STRING,
            "pattern": "^-----BEGIN AGE ENCRYPTED FILE-----\n[A-Za-z0-9+/=\n]+\n-----END AGE ENCRYPTED FILE-----\n*$",
        },
        (
            "-----BEGIN AGE ENCRYPTED FILE-----\n"
            "YWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSBRWjJ2R2luWE10QTZuMjhB\n"
            "-----END AGE ENCRYPTED FILE-----\n",
        ),
    ),
]
_URL_TAIL = r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%+-]+)*/?"
_FILE = r"file://(?:/(?!\.\.?(?:/|$))[A-Za-z0-9._~+-]+)+/?"
GitUrl: TypeAlias = Annotated[
    str,
    text(
        rf"https://{_URL_TAIL}|ssh://(?:[a-z_][a-z0-9_-]*@)?{_URL_TAIL}|{_FILE}",
        "a git URL (https://…, ssh://… or file:///…) without a password",
        "https://git.freebsd.org/src.git",
    ),
]
SvnUrl: TypeAlias = Annotated[
    str,
    text(
        rf"(?:https?|svn)://{_URL_TAIL}",
        "a Subversion URL (https://…, http://… or svn://…) without a password",
        "https://svn.freebsd.org/base/releng/10.4",
    ),
]
PackageUrl: TypeAlias = Annotated[
    str,
    text(
        r"(?:pkg\+)?https://(?:[A-Za-z0-9._~%+:/-]|\$\{ABI\})+|file://(?:/(?:[A-Za-z0-9._~:+-]|\$\{ABI\})+)+",
        "a package repository's URL (https://… or file:///…)",
        "https://pkg.FreeBSD.org/${ABI}/latest",
    ),
]
SetsUrl: TypeAlias = Annotated[
    str,
    text(
        rf"(?:https?|ftp)://{_URL_TAIL}|{_FILE}",
        "where base.txz lies (file:///…, https://…, http://… or ftp://…)",
        "file:///dist",
    ),
]
Commit: TypeAlias = Annotated[
    str,
    text(
        r"[0-9a-f]{40}",
        "a full commit id of 40 hexadecimal digits (a branch or a tag may move)",
        "525ecfdad597980ea4cd59238e24c8530dbcd31d",
        base=NAME,
    ),
]
Sha256: TypeAlias = Annotated[
    str,
    text(r"[0-9a-f]{64}", "a SHA-256 of 64 hexadecimal digits", "0" * 64, base=NAME),
]
SetPlace: TypeAlias = Annotated[
    str,
    text(
        rf"(?:https?|ftp)://{_URL_TAIL}|{_FILE}|{_PATH}",
        "where a set lies: https://…, http://…, ftp://…, file:///…, or a path on the build VM",
        "https://download.freebsd.org/releases/amd64/13.2-RELEASE/base.txz",
    ),
]
_REF: Final = r"(?!.*(?:\.\.|//|\.lock(?:/|$)|/$|\.$))[A-Za-z0-9][A-Za-z0-9._/-]*"
Branch: TypeAlias = Annotated[str, text(_REF, "a branch's name", "releng/13.2", longest=200)]
Tag: TypeAlias = Annotated[str, text(_REF, "a tag's name", "release/13.2.0", longest=200)]

# Quantities ---------------------------------------------------------------------------------------------------------

_SIZE_UNITS: Final = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_UNIT_OF: Final = {unit[0]: unit for unit in _SIZE_UNITS if unit}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


def size(low: int, low_text: str, *examples: str) -> Scalar:
    """A size in bytes, written ``3GiB``; a multiple of 512, the block of md(4) and of the disks, and at least `low`."""
    what = f"a size such as {examples[0]} (KiB, MiB, GiB or TiB), at least {low_text} and a multiple of 512 bytes"

    def parse(value: str) -> int:
        match = re.fullmatch(r"([1-9][0-9]{0,14})([A-Za-z]*)", value, re.ASCII)
        if not match:
            raise ValueError
        if match[2] not in _SIZE_UNITS:
            unit = _UNIT_OF.get(match[2][0].upper(), "")
            raise Refused(what, suggestion=unit and match[1] + unit)
        result = int(match[1]) * _SIZE_UNITS[match[2]]
        if result < low or result % 512 or result > 2**50:
            raise ValueError
        return result

    number = {"type": "integer", "minimum": low, "multipleOf": 512}
    written = {"type": "string", "pattern": "^[1-9][0-9]*([KMGT]iB)?$"}
    return Scalar(what, parse, {"anyOf": [number, written]}, examples)


def _duration(value: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([smh])", value, re.ASCII)
    if value.isdecimal():
        raise Refused(suggestion=f"{value[:9]}s")
    if not match or (seconds := int(match[1]) * _SECONDS[match[2]]) > 86_400:
        raise ValueError
    return seconds


Duration: TypeAlias = Annotated[
    int,
    Scalar(
        "a duration such as 90s, 5m or 8h, at most 24h",
        _duration,
        {"type": "string", "pattern": "^[1-9][0-9]*[smh]$"},
        ("60s",),
    ),
]
"""Seconds."""

Port: TypeAlias = Annotated[int, whole(1, 65535, 22, expected="a port from 1 to 65535")]


def _mode(value: str) -> int:
    if not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
        raise ValueError
    return int(value, 8)


Mode: TypeAlias = Annotated[
    int,
    Scalar(
        'permissions of three octal digits such as "0644", without set-id bits',
        _mode,
        {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 777}, {"type": "string", "pattern": "^0?[0-7]{3}$"}]},
        ("0644",),
    ),
]
Content: TypeAlias = Annotated[
    str, text(r"[\s\S]*", "text of at most 65536 characters", "Welcome.\n", base=TEXT, longest=65536)
]
