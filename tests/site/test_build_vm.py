"""The build VM's stand-ins: a build that works, five that fail as real ones did, archives, users, packages, checkouts."""

from __future__ import annotations

import gzip
import io
import json
import stat
import subprocess
from pathlib import Path

import pytest

from controller.encode.buildlog import first_error, progress
from controller.lab.servers import archive, rcorder, rootfs, source
from controller.lab.servers.kit import Box
from controller.lab.servers.run import run

SETTINGS = ["SRCCONF=/var/db/src.conf", "__MAKE_CONF=/dev/null"]
KERNEL = ["KERNCONF=MYKERNEL", "KERNCONFDIR=/var/db/kernconf"]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    for name in ("lab", "usr/src/.git", "var/db/kernconf", "mnt", "etc"):
        (tmp_path / name).mkdir(parents=True)
    for path, text in source.tree("13.2", "RELEASE").items():
        file = tmp_path / "usr/src" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "usr/src/.git/HEAD").write_text(f"{source.COMMIT_13_2}\n")
    (tmp_path / "var/db/src.conf").write_text("WITHOUT_ZFS=\nWITHOUT_INET6=\n")
    (tmp_path / "var/db/kernconf/MYKERNEL").write_text("include GENERIC\nident MYKERNEL\n")
    (tmp_path / "lab/build.json").write_text('{"seconds": 0}')
    return Box(tmp_path, "/usr/src")


def make(box: Box, *words: str) -> int:
    return run(["make", *words, *SETTINGS], box)


def build(box: Box) -> list[int]:
    return [
        make(box, "-j4", "buildworld"),
        make(box, "-j4", "buildkernel", *KERNEL),
        make(box, "installworld", "DESTDIR=/mnt/r", "-DNO_FSCHG", "-DDB_FROM_SRC"),
        make(box, "distribution", "DESTDIR=/mnt/r"),
        make(box, "installkernel", "DESTDIR=/mnt/r", *KERNEL),
    ]


def test_five_targets_make_a_root_that_is_structurally_true(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert build(box) == [0, 0, 0, 0, 0]
    root = box.at("/mnt/r")
    version = subprocess.run(["sh", root / "bin/freebsd-version", "-k", "-u"], env={"ROOT": str(root), "PATH": "/usr/bin:/bin"},
                             capture_output=True, text=True, check=True)  # fmt: skip
    assert version.stdout == "13.2-RELEASE\n13.2-RELEASE\n"
    assert b"@(#)FreeBSD 13.2-RELEASE" in (root / "boot/kernel/kernel").read_bytes()
    assert b" MYKERNEL\n" in (root / "boot/kernel/kernel").read_bytes()
    assert "__FreeBSD_version 1302001" in (root / "usr/include/sys/param.h").read_text()
    assert (root / "etc/master.passwd").read_text().startswith("root::0:0::0:0:Charlie &:/root:/bin/csh\n")
    assert stat.S_IMODE((root / "etc/master.passwd").stat().st_mode) == 0o600
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert (root / "rescue/tar").exists()
    assert (root / "boot/pxeboot").exists()
    assert box.load("counters", {}) == dict.fromkeys(
        ("buildworld", "buildkernel", "installworld", "distribution", "installkernel"), 1
    )
    log = capsys.readouterr().out
    assert ">>> World built in 0 seconds, ncpu: 2, make -j4" in log
    assert ">>> Kernel build for MYKERNEL completed on" in log
    assert first_error(log) is None


def test_the_log_moves_the_progress_from_stage_to_stage(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    make(box, "-j4", "buildworld")
    lines = capsys.readouterr().out.splitlines(keepends=True)
    ratios = [progress("".join(lines[: index + 1])).ratio or 0 for index in range(len(lines))]
    assert ratios == sorted(ratios)
    assert ratios[-1] > ratios[0]


@pytest.mark.parametrize(
    ("failure", "target"),
    [
        ("link", "buildworld"),
        ("compile", "buildworld"),
        ("install", "buildworld"),
        ("early", "buildworld"),
        ("kernel", "buildkernel"),
    ],
)
def test_the_five_real_failures(box: Box, failure: str, target: str, capsys: pytest.CaptureFixture[str]) -> None:
    if target == "buildkernel":
        make(box, "-j4", "buildworld")
        capsys.readouterr()
    (box.lab / "build.json").write_text(json.dumps({"seconds": 0, "fail": failure}))
    assert make(box, "-j4", target, *KERNEL) == 2
    log = capsys.readouterr().out
    assert "*** [" in log
    assert first_error(log) is not None
    assert make(box, "installworld", "DESTDIR=/mnt/r") == (0 if target == "buildkernel" else 1)


def test_a_missing_kernel_configuration(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    make(box, "-j4", "buildworld")
    assert make(box, "buildkernel", "KERNCONF=NOSUCH", "KERNCONFDIR=/var/db/kernconf") == 1
    assert "Missing KERNCONF /var/db/kernconf/NOSUCH" in capsys.readouterr().out


def test_only_a_checkout_can_be_built(box: Box) -> None:
    assert make(box.chdir("/mnt"), "buildworld") == 2
    box.at("/usr/src/.git/HEAD").unlink()
    box.at("/usr/src/.git").rmdir()
    assert make(box, "buildworld") == 2


def test_distribution_wants_a_destination_and_overwrites(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(box, "distribution") == 1
    assert 'set DESTDIR before running "make distribution"' in capsys.readouterr().out
    build(box)
    (box.at("/mnt/r") / "etc/group").write_text("mine\n")
    make(box, "distribution", "DESTDIR=/mnt/r")
    assert (box.at("/mnt/r") / "etc/group").read_text() == rootfs.GROUP


def test_installkernel_deletes_what_was_there(box: Box) -> None:
    build(box)
    (box.at("/mnt/r") / "boot/kernel/mine.ko").write_text("x")
    make(box, "installkernel", "DESTDIR=/mnt/r", *KERNEL)
    assert not (box.at("/mnt/r") / "boot/kernel/mine.ko").exists()


def test_a_knob_that_takes_the_rescue_programs_away(box: Box) -> None:
    box.at("/var/db/src.conf").write_text("WITHOUT_RESCUE=\n")
    build(box)
    assert not (box.at("/mnt/r") / "rescue").exists()


def tree(box: Box) -> None:
    top = box.at("/mnt")
    (top / "etc/ssh").mkdir(parents=True)
    (top / "etc/ssh/key").write_text("secret\n")
    (top / "etc/ssh/key").chmod(0o600)
    (top / "etc/link").symlink_to("ssh/key")
    (top / "etc/tmp").mkdir()


@pytest.mark.parametrize(
    "form", [["--format", "cpio", "--gzip"], ["--format=newc", "-z"], ["-J"], ["--format", "ustar"]]
)
def test_what_goes_into_an_archive_comes_out_exactly(box: Box, form: list[str]) -> None:
    tree(box)
    there = box.chdir("/mnt")
    assert run(["tar", "-cf", "/mnt/a", *form, "--exclude", "etc/tmp", "etc"], there) == 0
    members = {one.name: one for one in archive.entries(box.at("/mnt/a").read_bytes())}
    assert {name.rstrip("/") for name in members} == {"etc", "etc/ssh", "etc/ssh/key", "etc/link"}
    box.at("/mnt/out").mkdir()
    assert run(["tar", "-xpf", "/mnt/a", "-C", "/mnt/out"], there) == 0
    key = box.at("/mnt/out/etc/ssh/key")
    assert (key.read_text(), stat.S_IMODE(key.stat().st_mode)) == ("secret\n", 0o600)
    assert box.at("/mnt/out/etc/link").readlink() == Path("ssh/key")


def test_the_cpio_archive_is_odc_and_reproducible(box: Box) -> None:
    tree(box)
    there = box.chdir("/mnt")
    form = ["--format", "cpio", "--gzip", "--options", "gzip:!timestamp", "etc"]
    run(["tar", "-c", "-v", "-f", "/mnt/a", *form], there)
    run(["tar", "-c", "-v", "-f", "/mnt/b", *form], there)
    assert box.at("/mnt/a").read_bytes() == box.at("/mnt/b").read_bytes()
    assert gzip.decompress(box.at("/mnt/a").read_bytes()).startswith(b"070707")


@pytest.mark.parametrize("content", [b"\x1f\x8bbroken", b"070707" + b"0" * 70, b"hello"])
def test_a_broken_archive_is_an_error(box: Box, content: bytes) -> None:
    box.at("/mnt/a").write_bytes(content)
    assert run(["tar", "-xpf", "/mnt/a", "-C", "/mnt"], box) == 1


@pytest.mark.parametrize(
    ("name", "pattern", "out"),
    [
        ("./dist", "./dist", True),
        ("./dist/base.txz", "./dist", True),
        ("./boot/kernel/kernel", "./boot/kernel", True),
        ("etc/tmp/x", "tmp", True),
        ("etc/tmpx", "tmp", False),
        ("var/run/x", "var/run/*", True),
        ("etc/tmp", "^tmp", False),
    ],
)
def test_exclusion_patterns_match_whole_components(name: str, pattern: str, out: bool) -> None:
    from controller.lab.servers.tar import excluded

    assert excluded(name, [pattern]) is out


def test_a_hash_is_read_and_locked_again(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    build(box)
    etc = box.at("/mnt/r/etc")
    monkeypatch.setattr("sys.stdin", io.StringIO("$6$salt$hash/of.root\n"))
    assert run(["pw", "-R", "/mnt/r", "usermod", "root", "-H", "0"], box) == 0
    assert (etc / "master.passwd").read_text().startswith("root:$6$salt$hash/of.root:0:0:")
    assert "$6$" not in (etc / "passwd").read_text()
    assert run(["pw", "-R", "/mnt/r", "usermod", "root", "-h", "-"], box) == 0
    assert (etc / "master.passwd").read_text().startswith("root:*:0:0:")


def test_users_of_a_root(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    build(box)
    capsys.readouterr()
    assert run(["pw", "-R", "/mnt/r", "usermod", "root", "-h", "-"], box) == 0
    assert (
        run(
            [
                "pw",
                "-R",
                "/mnt/r",
                "useradd",
                "-n",
                "op",
                "-u",
                "1001",
                "-G",
                "wheel",
                "-s",
                "/bin/sh",
                "-m",
                "-h",
                "-",
            ],
            box,
        )
        == 0
    )
    assert run(["pw", "-R", "/mnt/r", "useradd", "-n", "op", "-h", "-"], box) == 65
    assert run(["pw", "-R", "/mnt/r", "usermod", "nosuch", "-h", "-"], box) == 67
    err = capsys.readouterr().err
    assert err == "pw: login name `op' already exists\npw: no such user `nosuch'\n"
    etc = box.at("/mnt/r/etc")
    assert (etc / "master.passwd").read_text().startswith("root:*:0:0:")
    assert "op:*:1001:1001:User &:/home/op:/bin/sh\n" in (etc / "passwd").read_text()
    assert "wheel:*:0:root,op\n" in (etc / "group").read_text()
    assert box.at("/mnt/r/home/op/.profile").exists()
    assert run(["pw", "-R", "/nowhere", "useradd", "-n", "op"], box) == 1


def test_owners_are_accepted_although_a_machine_without_privileges_cannot_keep_them(box: Box) -> None:
    tree(box)
    assert run(["chown", "-R", "1001:1001", "/mnt/etc"], box) == 0
    assert run(["chown", "root:wheel", "/mnt/nosuch"], box) == 1
    assert run(["chown", "somebody", "/mnt/etc"], box) == 70


def test_a_package_needs_what_a_chroot_needs(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    build(box)
    capsys.readouterr()
    sure = Box(box.root, box.cwd, {"ASSUME_ALWAYS_YES": "yes"})
    install = ["pkg", "-c", "/mnt/r", "install", "-y", "ezjail"]
    assert run(install, box) == 1
    assert "not yet installed on your system" in capsys.readouterr().err
    assert run(install, sure) == 1
    assert "Host does not resolve" in capsys.readouterr().err
    box.at("/mnt/r/etc/resolv.conf").write_text("nameserver 198.51.100.1\n")
    assert run(install, sure) == 70
    assert run(["mount", "-t", "devfs", "devfs", "/mnt/r/dev"], box) == 0
    assert run(install, sure) == 0
    assert run(["pkg", "-c", "/mnt/r", "info", "-e", "ezjail"], box) == 0
    assert run(["pkg", "-c", "/mnt/r", "info", "-e", "bash"], box) == 1
    assert run([*install[:-1], "nosuch"], sure) == 1
    assert run(["umount", "/mnt/r/dev"], box) == 0
    assert box.at("/mnt/r/usr/local/etc/rc.d/ezjail").exists()
    capsys.readouterr()
    run(["pkg", "-r", "/mnt/r", "query", "%n %v %o"], box)
    assert "ezjail 3.4.2 sysutils/ezjail\n" in capsys.readouterr().out


def test_an_interrupted_checkout_is_mended_by_cleanup_and_update(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    source.make_svn(box.lab)
    (box.lab / "svn.json").write_text('{"interrupt": true}')
    assert run(["svnlite", "checkout", "-r", "324094", source.SVN_URL, "/usr/svn"], box) == 1
    assert run(["svnlite", "update", "-r", "324094", "/usr/svn"], box) == 1
    assert run(["svnlite", "cleanup", "/usr/svn"], box) == 0
    assert run(["svnlite", "update", "-r", "324094", "/usr/svn"], box) == 0
    capsys.readouterr()
    run(["svnliteversion", "/usr/svn"], box)
    box.at("/usr/svn/Makefile").write_text("changed\n")
    run(["svnliteversion", "/usr/svn"], box)
    run(["svnliteversion", "/mnt"], box)
    assert capsys.readouterr().out == "324094\n324094M\nUnversioned directory\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-r", "1", source.SVN_URL], "svn: E160006: No such revision 1\n"),
        ([f"{source.SVN_URL}x"], f"svn: E170000: URL '{source.SVN_URL}x' doesn't exist\n"),
        (
            ["https://svn.example.org/base"],
            "svn: E170013: Unable to connect to a repository at URL 'https://svn.example.org/base'\n",
        ),
    ],
)
def test_what_subversion_does_not_have(
    box: Box, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source.make_svn(box.lab)
    assert run(["svnlite", "checkout", *words, "/usr/svn"], box) == 1
    assert capsys.readouterr().err == said


def test_a_module_is_loaded_once(box: Box) -> None:
    asked, load = ["kldstat", "-q", "-m", "filemon"], ["kldload", "filemon"]
    assert [run(words, box) for words in (asked, load, asked, load)] == [1, 0, 0, 70]


def test_the_git_repository_has_the_same_commits_everywhere(tmp_path: Path) -> None:
    assert source.make_git(tmp_path / "src.git") == [source.COMMIT_12_1, source.COMMIT_13_2, source.COMMIT_13_2_P1]


@pytest.mark.parametrize(
    "words",
    [
        ["make", "-j4", "release"], ["make", "installworld"], ["tar", "-cf", "x", "--format", "shar", "etc"],
        ["pkg", "-c", "/mnt", "autoremove"], ["svnlite", "commit"], ["mount", "-t", "msdosfs", "/dev/da0", "/mnt"],
    ],
)  # fmt: skip
def test_what_the_reference_does_not_cover_is_refused_and_noted(box: Box, words: list[str]) -> None:
    if words[0] == "make":
        make(box, "-j4", "buildworld")
    if words[0] == "pkg":
        box = Box(box.root, box.cwd, {"ASSUME_ALWAYS_YES": "yes"})
    assert run(words, box) == 70
    assert words[0] in (box.lab / "uncovered").read_text()


ORDER = [
    ("/etc/rc.d/DAEMON", "# PROVIDE: DAEMON\n# REQUIRE: NETWORK\n"),
    ("/etc/rc.d/LOGIN", "# PROVIDE: LOGIN\n# REQUIRE: DAEMON\n"),
    ("/etc/rc.d/iscsictl", "#!/bin/sh\n#\n# PROVIDE: iscsictl\n# REQUIRE: NETWORK iscsid\n# BEFORE: DAEMON\n"),
    ("/etc/rc.d/iscsid", "# PROVIDE: iscsid\n# REQUIRE: NETWORK\n# BEFORE: DAEMON\n"),
    ("/etc/rc.d/mountlate", "# PROVIDE: mountlate\n# REQUIRE: DAEMON\n# BEFORE: LOGIN\n"),
    ("/etc/rc.d/network", "# PROVIDE: NETWORK\n"),
    ("/etc/rc.d/never", "# PROVIDE: never\n# KEYWORD: nostart\n"),
    ("/usr/local/etc/rc.d/disk", "# PROVIDE: disk\n# REQUIRE: iscsictl\n# BEFORE: mountlate\n\n# REQUIRE: not this\n"),
]


def test_start_scripts_run_behind_what_they_require_and_before_what_they_say() -> None:
    names = [path.rpartition("/")[2] for path in rcorder.ordered([rcorder.header(*row) for row in ORDER])]
    assert names == ["network", "iscsid", "iscsictl", "DAEMON", "disk", "mountlate", "LOGIN"]


def test_a_cycle_of_start_scripts_ends() -> None:
    both = [rcorder.header("a", "# PROVIDE: a\n# REQUIRE: b\n"), rcorder.header("b", "# PROVIDE: b\n# REQUIRE: a\n")]
    assert sorted(rcorder.ordered(both)) == ["a", "b"]
