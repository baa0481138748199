"""The stand-in of git.freebsd.org: a repository so small that a clone takes no time, with the same commits everywhere.

`make_git` writes a bare repository with branches releng/13.2 (RELEASE, then RELEASE-p1) and releng/12.1, and with the annotated
tag of the first RELEASE; `make_svn` the same for 10.4, as revisions for svnlite. Authors and dates are fixed, so the commit
names below are always right.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

URL: Final = "https://git.freebsd.org/src.git"
COMMIT_13_2: Final = "062f831e8f32ae25f6292e1365700f86a5146e45"
COMMIT_13_2_P1: Final = "0f8f2deae146563f04d5fe967daeef478ec249ba"
COMMIT_12_1: Final = "add4528e7f9f4265aeab804f68917c0859bf6254"
"""What the stand-in's branches hold; the same on every computer."""
TAG: Final = "release/13.2.0"
"""Of `COMMIT_13_2`."""
SVN_SERVER: Final = "https://svn.freebsd.org/"
SVN_URL: Final = f"{SVN_SERVER}base/releng/10.4"
SVN_REVISION: Final = 324094
SVN_REVISION_P1: Final = 324741

CONFIGS: Final = {arch: f"cpu HAMMER\nident GENERIC\noptions NFSCL\noptions NFS_ROOT\ndevice md # {arch}\n"
                  for arch in ("amd64", "i386", "arm64")}  # fmt: skip


OPTIONS: Final = (
    "WITHOUT_BLUETOOTH WITHOUT_BOOT WITHOUT_CALENDAR WITHOUT_CLANG WITHOUT_DICT WITHOUT_EXAMPLES WITHOUT_FINGER"
    " WITHOUT_FLOPPY WITHOUT_GAMES WITHOUT_HAST WITHOUT_HTML WITHOUT_INCLUDES WITHOUT_INET6 WITHOUT_KERBEROS WITHOUT_LIB32"
    " WITHOUT_LOCALES WITHOUT_LPR WITHOUT_MAIL WITHOUT_MAN WITHOUT_MAN_UTILS WITHOUT_NETGRAPH WITHOUT_NLS WITHOUT_NTP"
    " WITHOUT_PPP WITHOUT_RESCUE WITHOUT_ROUTED WITHOUT_SENDMAIL WITHOUT_SHAREDOCS WITHOUT_SVNLITE WITHOUT_TALK WITHOUT_TCSH"
    " WITHOUT_TESTS WITHOUT_TOOLCHAIN WITHOUT_UNBOUND WITHOUT_WIRELESS WITHOUT_ZFS WITH_SVN"
)
"""Files below tools/build/options that every release has; META_MODE came with 11, DEBUG_FILES with 12."""


def options(revision: str) -> list[str]:
    return [*OPTIONS.split(), *(["WITHOUT_DEBUG_FILES", "WITH_META_MODE"] if not revision.startswith("10.") else [])]


def tree(revision: str, branch: str) -> Mapping[str, str]:
    """The files of a source tree that the stand-in of make looks at."""
    return {
        "Makefile": "# The Makefile of the simulated source tree.\n.include <Makefile.inc1>\n",
        "Makefile.inc1": "# What a real one does, controller.lab.servers.make does.\n",
        "UPDATING": "Updating Information for users of FreeBSD.\n",
        "sys/conf/newvers.sh": f'TYPE="FreeBSD"\nREVISION="{revision}"\nBRANCH="{branch}"\n',
        **{f"tools/build/options/{name}": f"Set to know more about {name}.\n" for name in options(revision)},
        **{f"sys/{arch}/conf/GENERIC": text for arch, text in CONFIGS.items()},
    }


COMMITS: Final = (
    ("refs/heads/releng/12.1", "12.1", "RELEASE", 1572600000),
    ("refs/heads/releng/13.2", "13.2", "RELEASE", 1681200000),
    ("refs/heads/releng/13.2", "13.2", "RELEASE-p1", 1687300000),
)


def make_git(directory: Path) -> list[str]:
    """Create the bare repository; the commit names in the order of `COMMITS`."""
    subprocess.run(["git", "init", "--bare", "--quiet", str(directory)], check=True)
    done = subprocess.run(
        ["git", "-C", str(directory), "fast-import", "--quiet", f"--export-marks={directory}/marks"],
        input=stream(), check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert not done.stdout
    subprocess.run(["git", "-C", str(directory), "config", "uploadpack.allowAnySHA1InWant", "true"], check=True)
    marks = dict(line.split(" ") for line in (directory / "marks").read_text().splitlines())
    return [marks[f":{number}"] for number in range(1, len(COMMITS) + 1)]


def stream() -> str:
    """The input of git fast-import."""
    out = []
    for number, (ref, revision, branch, when) in enumerate(COMMITS, 1):
        said = f"{revision}-{branch}\n"
        out.append(
            f"commit {ref}\nmark :{number}\ncommitter src <src@example.org> {when} +0000\ndata {len(said)}\n{said}"
        )
        for path, text in tree(revision, branch).items():
            out.append(f"M 100644 inline {path}\ndata {len(text.encode())}\n{text}")
    said = "FreeBSD 13.2\n"
    out.append(f"tag {TAG}\nfrom {COMMIT_13_2}\ntagger re <re@example.org> 1681200000 +0000\ndata {len(said)}\n{said}")
    return "\n".join([*out, "done\n"])


def make_svn(lab: Path) -> None:
    """Put the repository of a 10.4 tree where the stand-in of svnlite finds it."""
    for revision, branch in ((SVN_REVISION, "RELEASE"), (SVN_REVISION_P1, "RELEASE-p1")):
        for path, text in tree("10.4", branch).items():
            file = lab / "svn" / SVN_URL.replace("/", "_") / str(revision) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
