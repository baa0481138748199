"""Getting in: pinned keys, refused keys, hold-off, and every foreign exception translated."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import inspect
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import asyncssh
import pytest

import controller
from controller.errors import ControllerError, Indeterminate, Retry, Stall
from controller.transport import Endpoint, Fleet
from controller.transport.breaker import Breaker
from controller.transport.endpoint import connection_options
from controller.transport.translate import VERDICTS, before_sending
from tests.transport.proxy import Cut, proxy
from tests.transport.servers import Machine, OpenSsh, free_port, in_process, new_key, openssh, until

FOREIGN = {
    # Classes that no call of ours can raise: keys and settings are made by hand, nothing is forwarded, no SFTP, no pty.
    asyncssh.SFTPError: "SFTP is not used",
    asyncssh.ProcessError: "processes are sessions of our own",
    asyncssh.TimeoutError: "processes are sessions of our own",
    asyncssh.ChannelListenError: "nothing is forwarded",
    asyncssh.BreakReceived: "servers only",
    asyncssh.SignalReceived: "servers only",
    asyncssh.misc.SoftEOFReceived: "servers only",
    asyncssh.TerminalSizeChanged: "servers only",
    asyncssh.KeyImportError: "translated where keys are read",
    asyncssh.KeyEncryptionError: "translated where keys are read",
    asyncssh.KeyGenerationError: "no key is made",
    asyncssh.KeyExportError: "no key is exported",
    asyncssh.ConfigParseError: "config=None",
}


def test_every_exception_of_asyncssh_has_a_verdict() -> None:
    found = [*inspect.getmembers(asyncssh, inspect.isclass), *inspect.getmembers(asyncssh.misc, inspect.isclass)]
    theirs = {kind for _, kind in found if issubclass(kind, Exception) and kind.__module__.startswith("asyncssh")}
    assert len(theirs) > 20
    # A parent's verdict does not do for its children: a new way to be refused must be looked at.
    missing = {kind for kind in theirs - VERDICTS.keys() if not issubclass(kind, tuple(FOREIGN))}
    assert not missing


@pytest.mark.parametrize(
    ("exc", "kind"),
    [
        (ConnectionRefusedError(111, "refused"), Retry),
        (OSError(113, "no route"), Retry),
        (TimeoutError(), Retry),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), Retry),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), Stall),
        (asyncssh.ConnectionLost("gone"), Retry),
        (asyncssh.ChannelOpenError(4, "no more sessions"), Retry),
        (asyncssh.HostKeyNotVerifiable("x"), Stall),
        (asyncssh.PermissionDenied("x"), Stall),
        (asyncssh.KeyExchangeFailed("x"), Stall),
    ],
)
def test_verdicts(exc: Exception, kind: type[ControllerError]) -> None:
    error = before_sending(Endpoint("node1", "192.0.2.1", "", Path("/key")), exc)
    assert type(error) is kind
    assert str(error).startswith("cannot connect to node1 (192.0.2.1:22)")
    if isinstance(error, Stall):
        assert error.hint
        assert "{" not in error.hint


def test_what_a_server_says_is_made_safe() -> None:
    said = before_sending(Endpoint("n", "a", "", Path("k")), asyncssh.ConnectionLost("a\x1b[31m\nb" + "x" * 999))
    assert "\x1b" not in str(said)
    assert "\n" not in str(said)
    assert len(str(said)) < 400


async def test_another_host_key_is_a_stall_without_an_attempt_to_log_in(tmp_path: Path) -> None:
    async with openssh(tmp_path, more="LogLevel DEBUG1") as machine:
        other = new_key(tmp_path / "other")
        async with Fleet({"node1": dataclasses.replace(machine.endpoint, host_key=other)}) as fleet:
            with pytest.raises(Stall) as caught:
                await fleet.ask("node1", "main", ["true"], 10)
            assert "new public host key" in caught.value.hint
            assert fleet.connects["node1"] == 0
            log = machine.log.read_text()
            assert "kex" in log
            assert "userauth-request" not in log
            # The same machine with the right key is not held up by the wrong one's hold-off.
            fleet.update({"node1": machine.endpoint})
            await fleet.ask("node1", "main", ["true"], 10)
            assert "userauth-request" in machine.log.read_text()


async def test_a_host_key_of_another_type_is_a_stall(sshd: OpenSsh) -> None:
    rsa = asyncssh.generate_private_key("ssh-rsa", key_size=2048).export_public_key("openssh").decode()
    async with Fleet({"node1": dataclasses.replace(sshd.endpoint, host_key=rsa)}) as fleet:
        with pytest.raises(Stall, match="Host key is not trusted") as caught:
            await fleet.ask("node1", "main", ["true"], 10)
    assert "new public host key" in caught.value.hint


async def refusal(fleet: Fleet) -> Stall:
    """A server may hang up without a word, which a network does too: once is no reason to call somebody, twice is."""
    with contextlib.suppress(Retry, Stall):
        await fleet.ask("node1", "main", ["true"], 10)
    with pytest.raises(Stall) as caught:
        await fleet.ask("node1", "main", ["true"], 10, force=True)
    return caught.value


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes256-cbc,aes128-cbc,3des-cbc"])
async def test_S6_a_server_of_refused_ciphers_alone_is_a_stall(tmp_path: Path, cipher: str) -> None:
    async with openssh(tmp_path, more=f"Ciphers {cipher}") as machine, Fleet({"node1": machine.endpoint}) as fleet:
        assert re.search("encryption|key exchange", str(await refusal(fleet)))


async def test_S6_a_server_without_the_strict_handshake_is_spoken_to_in_aes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As sshd of FreeBSD 10 is one: whoever sits in between can cut the handshake, which harms chacha20 and CBC alone."""
    monkeypatch.setattr(asyncssh.SSHServerConnection, "_get_extra_kex_algs", lambda _: [])
    async with in_process(tmp_path) as machine, Fleet({"node1": machine.endpoint}) as fleet:
        (answer,) = await fleet.ask("node1", "main", ["echo there"], 10)
        (there,) = machine.connections
        assert answer.stdout == b"there\n"
        assert {there.get_extra_info("recv_cipher"), there.get_extra_info("send_cipher")} == {"aes256-gcm@openssh.com"}


async def test_sha1_signatures_are_refused(tmp_path: Path) -> None:
    asyncssh.generate_private_key("ssh-rsa", key_size=2048).write_private_key(tmp_path / "rsa")
    line = asyncssh.read_private_key(tmp_path / "rsa").export_public_key("openssh").decode()
    old = f"HostKey {tmp_path}/rsa\nHostKeyAlgorithms ssh-rsa"
    async with openssh(tmp_path, more=old) as machine:
        endpoint = dataclasses.replace(machine.endpoint, host_key=line)
        async with Fleet({"node1": endpoint}) as fleet:
            stall = await refusal(fleet)
    assert "key exchange" in str(stall)
    assert "ciphers" in stall.hint


async def test_a_key_that_is_not_let_in_is_a_stall(machine: Machine) -> None:
    (machine.scratch / "authorized_keys").write_text(new_key(machine.scratch / "somebody") + "\n")
    new_key(machine.scratch / "stranger")
    stranger = dataclasses.replace(machine.endpoint, client_key_file=machine.scratch / "stranger")
    async with Fleet({"node1": stranger}) as fleet:
        with pytest.raises(Stall) as caught:
            await fleet.ask("node1", "main", ["true"], 10)
    assert "authorized_keys" in caught.value.hint
    assert str(stranger.client_key_file) in caught.value.hint


@pytest.mark.parametrize("broken", ["", "ssh-ed25519 AAAA", "garbage", "two\nlines"])
async def test_a_pinned_key_that_is_none(broken: str, sshd: OpenSsh) -> None:
    async with Fleet({"node1": dataclasses.replace(sshd.endpoint, host_key=broken)}) as fleet:
        with pytest.raises(Stall, match="host key"):
            await fleet.ask("node1", "main", ["true"], 10)


async def test_two_pinned_keys_in_one_are_refused(sshd: OpenSsh) -> None:
    two = f"{sshd.endpoint.host_key}\n{new_key(sshd.scratch / 'second')}"
    with pytest.raises(Stall, match="more than one line"):
        connection_options(dataclasses.replace(sshd.endpoint, host_key=two))


@pytest.mark.parametrize("content", [None, "nonsense"])
async def test_a_client_key_that_cannot_be_read(content: str | None, sshd: OpenSsh) -> None:
    path = sshd.scratch / "absent"
    if content is not None:
        path.write_text(content)
    async with Fleet({"node1": dataclasses.replace(sshd.endpoint, client_key_file=path)}) as fleet:
        with pytest.raises(Stall, match="client key"):
            await fleet.ask("node1", "main", ["true"], 10)


async def test_an_unknown_machine() -> None:
    async with Fleet({}) as fleet:
        with pytest.raises(Stall, match="nobody"):
            await fleet.ask("nobody", "main", ["true"], 1)


async def test_a_login_shell_that_is_none(tmp_path: Path) -> None:
    async with in_process(tmp_path, login_shell="/bin/false") as machine, Fleet({"node1": machine.endpoint}) as fleet:
        with pytest.raises(Retry, match="cannot start /bin/sh on node1: the shell exited with status 1"):
            await fleet.ask("node1", "main", ["true"], 10)
        assert fleet.exchanges["node1"] == 0


async def test_csh_as_login_shell(tmp_path: Path) -> None:
    async with (
        in_process(tmp_path, login_shell="/usr/bin/tcsh") as machine,
        Fleet({"node1": machine.endpoint}) as fleet,
    ):
        script = "x='a!b\nc'; printf '%s|' \"$x\" $(echo d) 2>&1; echo e >&2"
        (answer,) = await fleet.ask("node1", "main", [script], 10)
    assert (answer.stdout, answer.stderr) == (b"a!b\nc|d|", b"e\n")


@pytest.mark.lab
async def test_csh_as_login_shell_of_a_real_sshd(tmp_path: Path) -> None:
    own = f"{tmp_path}/passwd"
    change = f"sed '/^root:/s,[^:]*$,/usr/bin/tcsh,' /etc/passwd >{own} && mount --bind {own} /etc/passwd"
    async with openssh(tmp_path, before=change) as machine, Fleet({"node1": machine.endpoint}) as fleet:
        shell, answer = await fleet.ask("node1", "main", ["echo $SHELL", "echo 'a!b'"], 10)
    assert shell.stdout == b"/usr/bin/tcsh\n"
    assert answer.stdout == b"a!b\n"


async def test_a_down_host_is_left_alone_until_its_hold_off_has_passed(tmp_path: Path) -> None:
    now = 100.0
    host_key = new_key(tmp_path / "key")
    down = Endpoint("node1", "127.0.0.1", host_key, tmp_path / "key", port=free_port())
    async with Fleet({"node1": down}, clock=lambda: now) as fleet:
        with pytest.raises(Retry, match="onnect"):
            await fleet.ask("node1", "main", ["true"], 5)
        with pytest.raises(Retry, match="next try in 5 s") as caught:
            await fleet.ask("node1", "main", ["true"], 5)
        assert caught.value.after == 5
        assert not isinstance(caught.value, Indeterminate)
        with pytest.raises(Retry) as forced:
            await fleet.ask("node1", "main", ["true"], 5, force=True)
        assert "next try" not in str(forced.value)
        now += 9.9
        with pytest.raises(Retry, match="next try in 0 s"):
            await fleet.ask("node1", "main", ["true"], 5)
        now += 0.2
        with pytest.raises(Retry) as tried:
            await fleet.ask("node1", "main", ["true"], 5)
        assert "next try" not in str(tried.value)


@pytest.mark.parametrize("heard", [0, 20, 700, 1300, 1800])
async def test_S3_a_login_that_does_not_come_to_its_end(
    sshd: OpenSsh, monkeypatch: pytest.MonkeyPatch, heard: int
) -> None:
    """The server takes the connection and never greets; or half of it; or falls silent in the handshake, or at the key."""
    monkeypatch.setattr("controller.transport.endpoint.CONNECT_SECONDS", 1)
    async with (
        proxy(sshd.endpoint, Cut("back", heard, "nothing")) as (between, through),
        Fleet({"node1": through}, clock=lambda: 100.0) as fleet,
    ):
        with pytest.raises(Retry, match="cannot connect to node1") as caught:
            await fleet.ask("node1", "main", ["true"], 100)
        assert not isinstance(caught.value, Indeterminate)
        assert between.passed["back"] == heard
        with pytest.raises(Retry, match="next try in 5 s"):
            await fleet.ask("node1", "main", ["true"], 100)
        assert (fleet.connects["node1"], fleet.exchanges["node1"]) == (0, 0)
        # Who has less time than that waits no longer than it has.
        between.cut(Cut("back", 2 * heard, "nothing"))
        with pytest.raises(Retry, match="it did not answer before the deadline"):
            await fleet.ask("node1", "main", ["true"], 0.2, force=True)
        between.go_on()
        (answer,) = await fleet.ask("node1", "main", ["echo here"], 60, force=True)
        assert answer.stdout == b"here\n"


@contextlib.asynccontextmanager
async def at_the_door(port: int) -> AsyncIterator[None]:
    """Somebody who was let in so far as to be greeted."""
    greeting = b""
    async with asyncio.timeout(60):
        while not greeting.startswith(b"SSH-2.0-"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            greeting = await reader.readline()
            if not greeting.startswith(b"SSH-2.0-"):
                writer.close()
                await writer.wait_closed()
    try:
        yield
    finally:
        writer.close()
        await writer.wait_closed()


async def test_S3_a_server_that_takes_no_more_logins(tmp_path: Path) -> None:
    """MaxStartups: others are at its door. It says so and hangs up, which calls nobody, however often."""
    async with openssh(tmp_path, more="MaxStartups 1") as machine, Fleet({"node1": machine.endpoint}) as fleet:
        async with at_the_door(machine.endpoint.port):
            for _ in range(3):
                with pytest.raises(Retry, match="cannot connect to node1") as caught:
                    await fleet.ask("node1", "main", ["true"], 10, force=True)
                assert not isinstance(caught.value, Indeterminate)
        async with asyncio.timeout(60):
            while not fleet.connects["node1"]:
                with contextlib.suppress(Retry):
                    await fleet.ask("node1", "main", ["true"], 10, force=True)


def test_hold_off_grows_to_a_minute_and_ends_with_a_success() -> None:
    now = 0.0
    breaker = Breaker(lambda: now)
    waits = []
    for _ in range(6):
        breaker.failed(Stall("no", hint="do"))
        with pytest.raises(Stall) as caught:
            breaker.check()
        assert caught.value.hint == "do"
        low = 0.0
        while True:
            now += 1
            low += 1
            try:
                breaker.check()
            except Stall:
                continue
            break
        waits.append(low)
    assert waits == [5, 10, 20, 40, 60, 60]
    breaker.succeeded()
    breaker.failed(Retry("no"))
    with pytest.raises(Retry, match="next try in 5 s"):
        breaker.check()


async def test_a_changed_endpoint_cuts_what_is_under_way(fleet: Fleet, machine: Machine) -> None:
    up = machine.scratch / "up"
    task = asyncio.create_task(fleet.ask("node1", "main", [f"touch {up}; sleep 600"], 60))
    await until(up.exists)
    fleet.update({"node1": machine.endpoint})
    await asyncio.sleep(0)
    assert not task.done()
    fleet.update({"node1": dataclasses.replace(machine.endpoint, address="127.0.0.2", connect_address="127.0.0.1")})
    with pytest.raises(Indeterminate):
        await task
    await fleet.ask("node1", "main", ["true"], 10)
    fleet.update({})
    with pytest.raises(Stall):
        await fleet.ask("node1", "main", ["true"], 10)
    assert fleet.connects["node1"] == 2


def test_host_keys_are_always_checked() -> None:
    source = Path(controller.__file__).parent
    texts = {path: path.read_text() for path in source.rglob("*.py")}
    assert len(texts) > 10
    for path, text in texts.items():
        assert not re.search(r"known_hosts[\"']?\s*[=:]\s*None", text), path


def test_connection_options_are_the_careful_ones(tmp_path: Path) -> None:
    line = new_key(tmp_path / "key")
    options = connection_options(Endpoint("node1", "192.0.2.1", line, tmp_path / "key", connect_address="127.0.0.9"))
    key = " ".join(line.split()[:2]).encode()
    assert options["known_hosts"].startswith(b"node1 " + key)
    assert options["known_hosts"].count(b"\n") == 1
    assert options["config"] is None
    assert options["agent_path"] is None
    assert options["preferred_auth"] == "publickey"
    assert options["host"] == "127.0.0.9"
    assert options["keepalive_interval"] == 5
    assert options["keepalive_count_max"] == 3
    assert options["compression_algs"] == ["none"]
    assert not any("chacha" in name or "cbc" in name for name in options["encryption_algs"])
