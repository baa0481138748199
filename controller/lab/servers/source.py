"""The stand-in of git.freebsd.org: a repository so small that a clone takes no time, with the same commits everywhere.

`make_git` writes a bare repository with branches releng/13.2 (RELEASE, then RELEASE-p1) and releng/12.1; `make_svn` the
same trees for svnlite. Authors and dates are fixed, so the commit names below are always right.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

URL: Final = "https://git.freebsd.org/src.git"
COMMIT_13_2: Final = "e3b2dd50144ac3af7d341ea28dbc801890e84d93"
COMMIT_13_2_P1: Final = "063fb0ed8a2ca618c07df185aec93519e9f2f596"
COMMIT_12_1: Final = "d50c718c0ced8213ed1130e0be6dcb5087131da4"
"""What the stand-in's branches hold; the same on every computer."""
SVN_URL: Final = "https://svn.freebsd.org/base/releng/10.4"
SVN_REVISION: Final = 324094

CONFIGS: Final = {arch: f"cpu HAMMER\nident GENERIC\noptions NFSCL\noptions NFS_ROOT\ndevice md # {arch}\n"
                  for arch in ("amd64", "i386", "arm64")}  # fmt: skip


def tree(revision: str, branch: str) -> Mapping[str, str]:
    """The files of a source tree that the stand-in of make looks at."""
    return {
        "Makefile": "# The Makefile of the simulated source tree.\n.include <Makefile.inc1>\n",
        "Makefile.inc1": "# What a real one does, controller.lab.servers.make does.\n",
        "UPDATING": "Updating Information for users of FreeBSD.\n",
        "sys/conf/newvers.sh": f'TYPE="FreeBSD"\nREVISION="{revision}"\nBRANCH="{branch}"\n',
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
    return "\n".join([*out, "done\n"])


def make_svn(lab: Path) -> None:
    """Put the repository of a 10.4 tree where the stand-in of svnlite finds it."""
    for path, text in tree("10.4", "RELEASE").items():
        file = lab / "svn" / SVN_URL.replace("/", "_") / str(SVN_REVISION) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
