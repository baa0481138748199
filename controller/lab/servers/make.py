"""``make`` in a FreeBSD source tree: the targets that turn a checkout into a root file system, in about a second.

In: KERNCONF, KERNCONFDIR, SRCCONF, __MAKE_CONF, DESTDIR, TARGET as the real build takes them, MAKEOBJDIRPREFIX and
WITH_META_MODE from the environment, and ``/lab/build.json`` {"seconds": how long a whole build takes, "fail": one of link,
compile, install, early (buildworld), kernel (buildkernel) or full (installworld finds no room for its last file)}. Out: the
log of a real build (markers complete, lines shortened), objects that the install targets need, a root file system in
DESTDIR. Runs are counted in ``/lab/counters.json``, those in META_MODE with filemon(4) under a name of their own as well.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controller.lab.servers import kld, rootfs
from controller.lab.servers.kit import Box, Failed, count, take, uncovered

DATA: Final = Path(__file__).parent / "data"
SHARE: Final[Mapping[str, float]] = {"buildworld": 0.5, "buildkernel": 0.25, "installworld": 0.15, "distribution": 0.05,
                                     "installkernel": 0.05}  # fmt: skip
WORLD_FAILURES: Final = ("link", "compile", "install", "early")
RULE: Final = "-" * 62


@dataclass(frozen=True, slots=True)
class Call:
    """One command line."""

    targets: tuple[str, ...]
    said: Mapping[str, str]
    jobs: int | None
    source: Box

    def get(self, name: str, default: str = "") -> str:
        return self.said.get(name) or self.source.env.get(name) or default


@dataclass(frozen=True, slots=True)
class Tree:
    """A checkout and where its objects go."""

    box: Box
    release: str
    revision: str
    objects: Path
    cpu: str
    options: frozenset[str]


def main(argv: Sequence[str], box: Box) -> int:
    call = parse(argv[1:], box)
    for name in call.targets:
        if name not in SHARE:
            uncovered(f"make {name}")
    try:
        tree = checkout(call)
        for name in call.targets:
            count(box, name)
            meta_mode(call, name)
            globals()[name](call, tree)
    except Failed as failed:
        print(failed, flush=True)
        if call.jobs is None and failed.status == 1:
            print("*** Error code 1\n\nStop.\nmake: stopped in " + call.source.cwd)
        return failed.status if call.jobs is None else 2
    return 0


def parse(words: Sequence[str], box: Box) -> Call:
    args, targets, said = list(words), [], {}
    jobs: int | None = None
    while args:
        word = args.pop(0)
        if word.startswith("-j"):
            jobs = int(word[2:] or take(args, word))
        elif word == "-C":
            box = box.chdir(take(args, word))
        elif word.startswith("-D"):
            said[word[2:] or take(args, word)] = "1"
        elif "=" in word and not word.startswith("-"):
            name, _, value = word.partition("=")
            said[name] = value
        elif word.startswith("-"):
            if word not in ("-s", "-k"):
                uncovered(f"make {word}")
        else:
            targets.append(word)
    if not targets:
        uncovered("make without a target")
    return Call(tuple(targets), said, jobs, box)


def checkout(call: Call) -> Tree:
    """The source tree in the working directory; it must be one that git or svn made."""
    box = call.source
    versions = box.at("sys/conf/newvers.sh")
    if not box.at("Makefile").is_file() or not versions.is_file():
        target = call.targets[0]
        raise Failed(f"make: don't know how to make {target}. Stop\n\nmake: stopped in {box.cwd}", 2)
    text = versions.read_text()
    release = "-".join(re.search(rf'^{name}="([^"]*)"', text, re.M)[1] for name in ("REVISION", "BRANCH"))  # type: ignore[index]
    cpu = call.get("TARGET_ARCH", call.get("TARGET", "amd64"))
    prefix = call.get("MAKEOBJDIRPREFIX", "/usr/obj")
    objects = box.at(f"{prefix}{box.cwd}/{call.get('TARGET', cpu)}.{cpu}")
    return Tree(box, release, revision(box), objects, cpu, knobs(call))


def revision(box: Box) -> str:
    if box.at(".git").exists():
        head = (box.at(".git") / "HEAD").read_text().strip()
        if head.startswith("ref: "):
            ref = box.at(".git") / head[5:]
            head = ref.read_text().strip() if ref.exists() else "0" * 40
        return f"n254617-{head[:12]}"
    if box.at(".svn").exists():
        return f"r{json.loads((box.at('.svn') / 'lab.json').read_text())['revision']}"
    raise Failed(f"make: the stand-in builds only a checkout, and {box.cwd} has neither .git nor .svn", 2)


def knobs(call: Call) -> frozenset[str]:
    """The WITH_ and WITHOUT_ names of SRCCONF; only presence counts."""
    path = call.source.at(call.get("SRCCONF", "/etc/src.conf"))
    text = path.read_text() if path.is_file() else ""
    return frozenset(re.findall(r"^\s*(WITH(?:OUT)?_[A-Z0-9_]+)\s*[?:+]?=", text, re.M))


def meta_mode(call: Call, target: str) -> None:
    if not call.source.env.get("WITH_META_MODE"):
        return
    if not kld.is_loaded(call.source, "filemon"):
        print("make: The filemon module (/dev/filemon) is not loaded.", flush=True)
        return
    count(call.source, f"{target} in META_MODE")


def buildworld(call: Call, tree: Tree) -> None:
    settings = call.source.load("build", {})
    if settings.get("fail") in WORLD_FAILURES:
        play(call, f"fail-{settings['fail']}", "buildworld", {})
        raise Failed("", 2)
    play(call, "buildworld", "buildworld", {})
    keep(tree.objects / "world.json", {"release": tree.release, "revision": tree.revision,
                                       "options": sorted(tree.options)})  # fmt: skip


def buildkernel(call: Call, tree: Tree) -> None:
    name = call.get("KERNCONF", "GENERIC")
    config = call.source.at(call.get("KERNCONFDIR", f"sys/{tree.cpu}/conf")) / name
    if not config.is_file():
        where = "/" + str(config.relative_to(call.source.root))
        raise Failed(f'make[1]: "{call.source.cwd}/Makefile.inc1" line 1611: Missing KERNCONF {where}', 1)
    if not (tree.objects / "world.json").exists():
        raise Failed("ERROR: buildkernel without a prior buildworld or kernel-toolchain", 1)
    if call.source.load("build", {}).get("fail") == "kernel":
        play(call, "fail-kernel", "buildkernel", {"DISKLESS": name})
        raise Failed("", 2)
    play(call, "buildkernel", "buildkernel", {"DISKLESS": name})
    ident = re.findall(r"^\s*ident\s+(\S+)", config.read_text(), re.M)
    keep(tree.objects / "sys" / name / "kernel.json", {"release": tree.release, "revision": tree.revision,
                                                       "ident": (ident or [name])[-1]})  # fmt: skip


def installworld(call: Call, tree: Tree) -> None:
    built = kept(
        tree.objects / "world.json", "A build is required first.  You may have the wrong MAKEOBJDIRPREFIX set."
    )
    told(call, "installworld", ["Install check world", "Making hierarchy"])
    rootfs.world(destination(call), built["release"], frozenset(built["options"]))
    if call.source.load("build", {}).get("fail") == "full":
        print(f"install: {call.get('DESTDIR')}/lib/libc.so.7: No space left on device\n*** Error code 71\n\nStop.")
        raise Failed("make: stopped in " + call.source.cwd, 2)
    told(
        call,
        "installworld",
        [f"Installing everything started on {now()}", f"Installing everything completed on {now()}"],
    )


def distribution(call: Call, tree: Tree) -> None:
    if not call.get("DESTDIR"):
        raise Failed('set DESTDIR before running "make distribution"', 1)
    rootfs.distribution(destination(call), tree.release, tree.options)
    for part in ("usr.sbin/ctld", "usr.sbin/iscsid", "usr.sbin/jail", "etc"):
        print(f"===> {part} (installconfig)")
    pause(call, "distribution", 1)


def installkernel(call: Call, tree: Tree) -> None:
    name = call.get("KERNCONF", "GENERIC")
    built = kept(tree.objects / "sys" / name / "kernel.json", f'ERROR: No kernel "{name}" to install.')
    told(call, "installkernel", ["Install check kernel", f"Installing kernel {name} on {now()}"])
    folder = call.get("INSTKERNNAME", "kernel")
    what = f"{built['release']} releng/{built['revision']} {built['ident']}"
    rootfs.kernel(destination(call), folder, what, tree.cpu)
    told(call, "installkernel", [f"Installing kernel {name} completed on {now()}"])


def destination(call: Call) -> Path:
    if not call.get("DESTDIR"):
        uncovered("an install over the running system (DESTDIR is empty)")
    return call.source.at(call.get("DESTDIR"))


def keep(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def kept(path: Path, otherwise: str) -> dict[str, Any]:
    if not path.exists():
        raise Failed(otherwise, 1)
    return dict(json.loads(path.read_text()))


def told(call: Call, target: str, markers: Sequence[str]) -> None:
    for marker in markers:
        print(f"{RULE}\n>>> {marker}\n{RULE}", flush=True)
        pause(call, target, 0.25)


def play(call: Call, log: str, target: str, names: Mapping[str, str]) -> None:
    """Print a real log with today's dates and this tree's names, spread over the target's share of the time."""
    said: list[str] = json.loads((DATA / f"{log}.json").read_text())["lines"]
    # The recorded builds were given -DNO_CLEAN.
    lines = [line for line in said if call.get("NO_CLEAN") or "instead of NO_CLEAN" not in line]
    started, part = time.time(), 0.0
    for line in lines:
        if line.startswith(">>> ") and part:
            pause(call, target, part / len(lines))
            part = 0.0
        sys.stdout.write(retold(call, line, names, int(time.time() - started)) + "\n")
        sys.stdout.flush()
        part += 1
    pause(call, target, part / len(lines))


def retold(call: Call, line: str, names: Mapping[str, str], seconds: int) -> str:
    for old, new in {"/usr/src": call.source.cwd, **names}.items():
        line = line.replace(old, new)
    line = re.sub(r"(on|at) \w{3} \w{3} \d+ [\d:]{8} UTC \d{4}", lambda found: f"{found[1]} {now()}", line)
    line = re.sub(r"built in \d+ seconds, ncpu: \d+, make -j\d+", f"built in {seconds} seconds, ncpu: 2, make"
                  + (f" -j{call.jobs}" if call.jobs else ""), line)  # fmt: skip
    return line.replace("bmake", "make")


def pause(call: Call, target: str, share: float) -> None:
    time.sleep(float(call.source.load("build", {}).get("seconds", 1.0)) * SHARE[target] * share)


def now() -> str:
    return time.strftime("%a %b %e %H:%M:%S UTC %Y", time.gmtime())
