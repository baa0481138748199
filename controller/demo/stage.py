"""What the demo plays on: the simulated site, a repository with the example's manifests, and the real controller.

The manifests are the example's own; only what cannot be the same on two computers is put in: the machines' public keys,
the controller's, and the commit of the tiny source tree that stands in for FreeBSD's.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncssh
import yaml

from controller import app, settings
from controller.errors import Stall
from controller.lab.servers import source
from controller.lab.site import Site, SitePlan
from controller.starter import repository

_SETTINGS = """\
[git]
url = "{repository}"
allow_local = true

[ssh]
key_file = "{key}"
via = {{ {via} }}

[secrets]
directory = "{secrets}"

[store]
directory = "{store}"

[schedule]
interval = 2.0
jitter = 0.0
progress = 0.3

[web]
listen = "{listen}"
"""

_HOOK = """\
#!/bin/sh
# Wake the controller for branches; its own notes come through here too.
while read -r old new ref; do
  case $ref in refs/heads/*) read -r pid < "{lock}" && kill -HUP "$pid";; esac
done
exit 0
"""

_GIT = ("-c", "user.name=Demo", "-c", "user.email=demo@example.org", "-c", "init.defaultBranch=main")


class Stage:
    """Everything the demo needs, from first to last. The tests of the real lab play on the same stage with another site."""

    def __init__(self, directory: Path, example: Mapping[str, str] | None = None) -> None:
        self.directory = directory.resolve()
        self.repository = self.directory / "site.git"
        self.work = self.directory / "work"
        self.settings = self.directory / "jailops.toml"
        self.log = self.directory / "controller.log"
        self.listen = f"127.0.0.1:{_free_port()}"
        self.example = dict(example or repository())
        self.documents = [
            one
            for path, text in self.example.items()
            if path.endswith(".yaml")
            for one in yaml.load_all(text, yaml.BaseLoader)
            if one
        ]
        self.site = self.build(SitePlan.of(self.documents))
        self._controller: asyncio.subprocess.Process | None = None

    @property
    def loaded(self) -> settings.Settings:
        return settings.load(self.settings)

    @property
    def controller_runs(self) -> bool:
        return self._controller is not None and self._controller.returncode is None

    def build(self, plan: SitePlan) -> Site:
        """The machines that the manifests name."""
        return Site(plan, self.directory / "site")

    def via(self) -> Mapping[str, str]:
        """Machines that the controller reaches elsewhere than at their own address."""
        return {name: f"{end.host}:{end.port}" for name, end in self.site.endpoints.items()}

    def placed(self, command: Sequence[str]) -> list[str]:
        """A command of the controller, run from where the controller is."""
        return list(command)

    async def __aenter__(self) -> Self:
        if shutil.which("git") is None:
            raise Stall("cannot play the demo: git is not installed", hint="install git")
        if self.repository.exists():
            raise Stall(f"cannot play the demo in {self.directory}: it was used before", hint="name an empty directory")
        self.directory.mkdir(parents=True, exist_ok=True)
        await self.site.__aenter__()
        try:
            await self._seed()
            self._write_settings()
            await self.start_controller()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop_controller()
        await self.site.__aexit__(kind, error, trace)

    # -- the controller ---------------------------------------------------------------------------------------------

    async def start_controller(self) -> None:
        with self.log.open("ab") as log:
            self._controller = await asyncio.create_subprocess_exec(
                *self.placed([sys.executable, "-m", "controller", "run", "--config", str(self.settings)]),
                stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL, env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip

    async def stop_controller(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """End it and wait; after ten seconds it is killed."""
        process, self._controller = self._controller, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(sign)
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()

    # -- the repository ---------------------------------------------------------------------------------------------

    async def git(self, *arguments: str) -> str:
        """Run git in the work tree. Raises Stall with what it said."""
        process = await asyncio.create_subprocess_exec(
            "git", *_GIT, *arguments, cwd=self.work, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate()
        if process.returncode:
            raise Stall(f"cannot git {arguments[0]}: {err.decode().strip()}")
        return out.decode()

    async def push(self, message: str) -> str:
        """Commit everything and push. Returns the commit id."""
        await self.git("add", "-A")
        await self.git("commit", "-q", "-m", message)
        await self.git("push", "-q", "origin", "HEAD:main")
        return (await self.git("rev-parse", "HEAD")).strip()

    def edit(self, path: str, old: str, new: str) -> None:
        """Change one passage of one file. Raises Stall when it is not there."""
        file = self.work / path
        text = file.read_text()
        if old not in text:
            raise Stall(f"cannot edit {path}: it does not hold {old!r}")
        file.write_text(text.replace(old, new, 1))

    async def note(self, revision: str) -> str:
        """The audit record on a commit, from the repository that was pushed to; empty while there is none."""
        try:
            await self.git("fetch", "-q", "origin", "+refs/notes/jailops:refs/notes/jailops")
            return await self.git("notes", "--ref=jailops", "show", revision)
        except Stall:
            return ""

    def shell(self, name: str) -> str:
        """A command that opens a root shell on a simulated machine."""
        end = self.site.endpoints[name]
        options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        return f"ssh -i {self.site.client_key} -p {end.port} {options} root@{end.host}   # {name}"

    # -- setting up -------------------------------------------------------------------------------------------------

    async def _seed(self) -> None:
        self.work.mkdir(parents=True)
        hook = self.repository / "hooks" / "post-receive"
        await self.git("init", "-q", "--bare", str(self.repository))
        hook.write_text(_HOOK.format(lock=self.directory / "store" / "lock"))
        hook.chmod(0o755)
        await self.git("init", "-q")
        await self.git("remote", "add", "origin", str(self.repository))
        for path, text in self._manifests().items():
            (self.work / path).parent.mkdir(parents=True, exist_ok=True)
            (self.work / path).write_text(text)
        await self.push("The site as it is")

    def _manifests(self) -> dict[str, str]:
        """The example's files with this site's keys and source."""
        keys = self._keys()
        files = {}
        for path, text in self.example.items():
            names = (
                [one["metadata"]["name"] for one in yaml.load_all(text, yaml.BaseLoader) if one]
                if ".yaml" in path
                else []
            )
            for name in names:
                if name in keys:
                    text = re.sub(r"(hostKey: )\S+ \S+", rf"\g<1>{keys[name]}", text)
                if f"{name}:hypervisor" in keys:
                    below = keys[f"{name}:hypervisor"]
                    text = re.sub(r"(hypervisor:(?:\n.*)*?hostKey: )\S+ \S+", rf"\g<1>{below}", text)
            text = re.sub(r"ssh-ed25519 \S+ controller", f"{_two_words(self.site.client_public_key)} controller", text)
            files[path] = re.sub(r"(commit: )[0-9a-f]{40}", rf"\g<1>{source.COMMIT_13_2}", text)
        return files

    def _keys(self) -> dict[str, str]:
        """Machine -> public host key: what servers show, and for nodes new ones whose private half becomes a secret."""
        keys = {name: _two_words(end.host_key) for name, end in self.site.endpoints.items() if end.host_key}
        hosts: list[Any] = [one for one in self.documents if one["kind"] == "Host"]
        for host in hosts:
            keys[host["metadata"]["name"]] = self.new_identity(host["spec"])
        return keys

    def new_identity(self, host: Mapping[str, Any]) -> str:
        """Make the secrets that a Host's spec names. Returns the public half of its new host key."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        self._secret(host["hostKeySecret"]["file"], key.export_private_key().decode())
        if "chap" in host["jailDisk"]:
            self._secret(host["jailDisk"]["chap"]["secret"]["file"], secrets.token_hex(8))
        return _two_words(key.export_public_key().decode())

    def _secret(self, name: str, value: str) -> None:
        file = self.directory / "secrets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(0o600)
        file.write_text(value)

    def _write_settings(self) -> None:
        via = ", ".join(f'"{name}" = "{elsewhere}"' for name, elsewhere in self.via().items())
        self.settings.write_text(
            _SETTINGS.format(
                repository=self.repository,
                key=self.site.client_key,
                via=via,
                secrets=self.directory / "secrets",
                store=self.directory / "store",
                listen=self.listen,
            )
        )
        app.lock_file(self.loaded).parent.mkdir(exist_ok=True)


def _two_words(key: str) -> str:
    return " ".join(key.split()[:2])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])
