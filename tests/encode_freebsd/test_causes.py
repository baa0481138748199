"""What passes and what does not: the last words of fetches that failed, as git, svn, pkg and fetch say them."""

from __future__ import annotations

import pytest

from controller.encode.causes import passing

STAGE = "--- jailops: "

PASSES = [
    ("source", "fatal: unable to access 'https://git.freebsd.org/src.git/': Could not resolve host: git.freebsd.org"),
    ("source", "fatal: unable to access 'https://git.freebsd.org/src.git/': The requested URL returned error: 503"),
    (
        "source",
        "fatal: unable to access 'https://git.freebsd.org/src.git/': Failed to connect to git.freebsd.org port 443",
    ),
    ("source", "error: RPC failed; curl 18 transfer closed with outstanding read data remaining"),
    ("source", "fatal: the remote end hung up unexpectedly"),
    ("source", "fatal: early EOF"),
    ("source", "ssh: connect to host git.example.org port 22: Connection timed out"),
    ("source", "svn: E170013: Unable to connect to a repository at URL 'https://svn.freebsd.org/base/releng/10.4'"),
    ("source", "svn: E120106: ra_serf: The server sent a truncated HTTP response body."),
    ("sets", "fetch: https://download.freebsd.org/base.txz: Operation timed out"),
    ("sets", "fetch: https://download.freebsd.org/base.txz: No address record"),
    ("sets", "fetch: https://download.freebsd.org/base.txz: Service Unavailable"),
    (
        "packages",
        "pkg: Error fetching http://pkg.FreeBSD.org/FreeBSD:13:amd64/quarterly/Latest/pkg.txz: Host does not resolve",
    ),
    ("packages", "pkg: https://pkg.FreeBSD.org/FreeBSD:13:amd64/quarterly/meta.txz: No route to host"),
]

STAYS = [
    ("source", "fatal: remote error: upload-pack: not our ref 525ecfdad597980ea4cd59238e24c8530dbcd31d"),
    ("source", "fatal: unable to access 'https://git.example.org/src.git/': The requested URL returned error: 403"),
    ("source", "svn: E160006: No such revision 1"),
    ("source", "svn: E170000: URL 'https://svn.freebsd.org/base/releng/10.9' doesn't exist"),
    ("sets", "fetch: https://download.freebsd.org/base.txz: Not Found"),
    ("packages", "pkg: No packages available to install matching 'nosuch' have been found in the repositories"),
    ("buildworld", "test.c:1:1: error: Connection refused"),
]


@pytest.mark.parametrize(("stage", "words"), PASSES)
def test_a_cause_that_passes(stage: str, words: str) -> None:
    assert passing(f"{STAGE}prepare\n{STAGE}{stage}\nCloning …\n{words}\nmore\n", STAGE) == words


@pytest.mark.parametrize(("stage", "words"), STAYS)
def test_a_cause_that_stays(stage: str, words: str) -> None:
    assert passing(f"{STAGE}{stage}\n{words}\n", STAGE) == ""


def test_what_was_fetched_before_is_over() -> None:
    log = f"{STAGE}source\n{PASSES[0][1]}\n{STAGE}buildworld\n*** Error code 1\n"
    assert passing(log, STAGE) == ""
    assert passing("fatal: early EOF\n", STAGE) == ""
