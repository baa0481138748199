"""How git reaches the remote: the URL checked, and the environment and files under which every command runs.

Settings in, an `Access` out; raises Stall with a hint for settings that cannot work. Nothing of the caller's
environment, home or system configuration is passed on, and no secret goes into an argument, an environment variable or
a URL.

The token: git asks a script of ours (GIT_ASKPASS), which prints the token file's first line into the pipe that git
reads. An `http.extraHeader` would stand in the argument list or in GIT_CONFIG_VALUE_n, which everyone with our user id
can read in the process table for the whole transfer; a credential helper would be the same pipe with more parts. As
askpass answers whoever asks, redirects are refused: the token goes to the host in the settings or nowhere.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from controller.errors import Stall
from controller.source.values import GitSettings

Scheme: TypeAlias = Literal["https", "ssh", "file"]

_HOST = r"(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9A-Fa-f:.]+\])"
_PORT = r"(?::(?P<port>[0-9]{1,5}))?"
_PATH = r"[A-Za-z0-9._~/%+-]+"
_FORMS: tuple[tuple[Scheme, re.Pattern[str]], ...] = (
    ("https", re.compile(rf"https://{_HOST}{_PORT}/{_PATH}")),
    ("ssh", re.compile(rf"ssh://(?:[A-Za-z0-9._-]+@)?{_HOST}{_PORT}/{_PATH}")),
    ("ssh", re.compile(rf"(?:[A-Za-z0-9._]+@)?{_HOST}:(?!/){_PATH}")),
    ("file", re.compile(rf"(?:file://)?/{_PATH}")),
)
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]*")
_KEY = re.compile(r"(?:^|\s)((?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/=]{40,})(?:\s|$)")
_USERINFO = re.compile(r"://[^/@\s]*@")

_CONFIG = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.askPass=",
    "core.packedGitLimit=256m",
    "core.packedGitWindowSize=32m",
    "core.bigFileThreshold=16m",
    "credential.helper=",
    "credential.interactive=false",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "submodule.recurse=false",
    "push.gpgSign=false",
    "push.recurseSubmodules=no",
    "gc.auto=1000",
    "gc.autoDetach=false",
    "gc.pruneExpire=never",
    "maintenance.autoDetach=false",
    "pack.threads=1",
    "http.followRedirects=false",
    "http.sslVerify=true",
    "http.lowSpeedLimit=1000",
    "protocol.version=2",
)


@dataclass(frozen=True, slots=True)
class Access:
    """Everything a git command needs besides its own words. Holds no secret, only paths to files with secrets."""

    url: str
    scheme: Scheme
    options: tuple[str, ...]
    env: Mapping[str, str]
    secrets: tuple[Path, ...]

    def ready(self) -> None:
        """Raise Stall when a file with a secret cannot be read: git would say so in words that help nobody."""
        for path in self.secrets:
            try:
                empty = not path.read_bytes().strip()
            except OSError as exc:
                raise Stall(
                    f"cannot reach {self.url}: cannot read {path}: {exc.strerror}",
                    hint="make the file readable for the user that jailops runs as, and for nobody else",
                ) from exc
            if empty:
                raise Stall(f"cannot reach {self.url}: {path} is empty", hint="write the secret into this file")

    def redacted(self, text: str) -> str:
        """The text without user names and passwords in URLs, and without anything from a file with a secret."""
        text = _USERINFO.sub("://", text)
        for path in self.secrets:
            try:
                words = path.read_text("utf-8", "replace").split()
            except OSError:
                continue
            for word in words:
                text = text.replace(word, "***") if len(word) >= 8 else text
        return text


def open_access(settings: GitSettings) -> Access:
    """Check the settings and write the private files beside the mirror. Raises Stall."""
    scheme, match = _recognised(settings)
    try:
        (settings.mirror / "home").mkdir(mode=0o700, parents=True, exist_ok=True)
        settings.mirror.chmod(0o700)
        return _access(settings, scheme, match)
    except OSError as exc:
        raise Stall(
            f"cannot use the mirror directory {settings.mirror}: {exc.strerror}",
            hint="let it belong to the user that jailops runs as, on a disk with free space",
        ) from exc


def _access(settings: GitSettings, scheme: Scheme, match: re.Match[str]) -> Access:
    private = settings.mirror.absolute()
    home = private / "home"
    options = [*_CONFIG, f"http.lowSpeedTime={settings.idle}"]
    env = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/false",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_ALLOW_PROTOCOL": scheme,
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_SSH_COMMAND": "/bin/false",
        "GIT_SSH_VARIANT": "ssh",
        "GIT_AUTHOR_NAME": "jailops",
        "GIT_AUTHOR_EMAIL": "jailops@localhost",
        "GIT_COMMITTER_NAME": "jailops",
        "GIT_COMMITTER_EMAIL": "jailops@localhost",
    }
    secrets: tuple[Path, ...] = ()
    if scheme == "https":
        if settings.ca_file:
            options.append(f"http.sslCAInfo={settings.ca_file.absolute()}")
        if settings.token_file:
            secrets = (settings.token_file.absolute(),)
            env["GIT_ASKPASS"] = str(_askpass(private, settings.token_user, secrets[0]))
    elif scheme == "ssh":
        if not settings.ssh_key_file:
            raise Stall(f"cannot use {settings.url}: no SSH key is set", hint="set git.key_file in jailops.toml")
        secrets = (settings.ssh_key_file.absolute(),)
        env["GIT_SSH_COMMAND"] = _ssh_command(secrets[0], _known_hosts(private, settings, match))
    else:
        env["GIT_CONFIG_GLOBAL"] = str(_trust_local(private, settings.url))
    flags = tuple(word for option in options for word in ("-c", option))
    return Access(settings.url, scheme, flags, env, secrets)


def _recognised(settings: GitSettings) -> tuple[Scheme, re.Match[str]]:
    shown = _USERINFO.sub("://", settings.url)
    if (
        not _BRANCH.fullmatch(settings.branch)
        or ".." in settings.branch
        or settings.branch.endswith(("/", ".lock", "."))
    ):
        raise Stall(f"cannot use the branch name {settings.branch!r}", hint="write it as in: git branch --list")
    if not re.fullmatch(r"refs/notes/[A-Za-z0-9_-]+", settings.notes_ref):
        raise Stall(f"cannot keep notes in {settings.notes_ref!r}", hint="a name such as refs/notes/jailops")
    for scheme, form in _FORMS:
        match = form.fullmatch(settings.url)
        if not match:
            continue
        if scheme == "file" and not settings.allow_local:
            raise Stall(
                f"cannot use {shown}: it is a path on this machine, and local repositories are not allowed",
                hint="set git.allow_local = true in jailops.toml if the manifests really live here",
            )
        return scheme, match
    if shown != settings.url and settings.url.startswith("http"):
        raise Stall(
            f"cannot use {shown}: the URL holds a user name or a password",
            hint="write the URL without it, and the token into the file named by git.token_file",
        )
    raise Stall(
        f"cannot use {shown!r} as the Git URL",
        hint="https://host/path, ssh://user@host/path, user@host:path, or a path with git.allow_local",
    )


def _askpass(private: Path, user: str, token: Path) -> Path:
    if not re.fullmatch(r"[A-Za-z0-9._@-]+", user):
        raise Stall(f"cannot send the user name {user!r} with the token", hint="set GitSettings.token_user")
    lines = (
        "#!/bin/sh",
        "# Written by jailops at every start. git asks, and reads the answer from a pipe.",
        'case "$1" in',
        f"Username*) echo {shlex.quote(user)} ;;",
        f"Password*) exec head -n 1 {shlex.quote(str(token))} ;;",
        "*) exit 1 ;;",
        "esac",
    )
    return write_private(private / "askpass", "\n".join(lines), 0o700)


def _known_hosts(private: Path, settings: GitSettings, match: re.Match[str]) -> Path:
    """Our own file with our own spelling of the host's name, so that a pasted line cannot pin another host."""
    parts = match.groupdict()
    host, port = parts["host"].strip("[]"), parts.get("port") or "22"
    name = host if port == "22" else f"[{host}]:{port}"
    keys = [found.group(1) if (found := _KEY.search(text)) else "" for text in settings.host_keys]
    if not keys or not all(keys):
        wrong = "no host key is pinned" if not keys else "a pinned host key cannot be understood"
        raise Stall(
            f"cannot use {settings.url}: {wrong}",
            hint=f"put the line that ssh-keyscan -p {port} {host} prints into git.host_keys, "
            "after comparing its fingerprint with what the host's administrator says",
        )
    return write_private(private / "known_hosts", "\n".join(f"{name} {key}" for key in keys), 0o600)


def _ssh_command(key: Path, known_hosts: Path) -> str:
    options = (
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        f"UserKnownHostsFile={_ssh_path(known_hosts)}",
        "GlobalKnownHostsFile=/dev/null",
        "UpdateHostKeys=no",
        "CheckHostIP=no",
        "VerifyHostKeyDNS=no",
        "IdentitiesOnly=yes",
        "IdentityAgent=none",
        f"IdentityFile={_ssh_path(key)}",
        "PreferredAuthentications=publickey",
        "ClearAllForwardings=yes",
        "ForwardAgent=no",
        "PermitLocalCommand=no",
        "ControlMaster=no",
        "ControlPath=none",
        "ConnectTimeout=10",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
        "LogLevel=ERROR",
    )
    return shlex.join(["ssh", "-F", "/dev/null", *(word for option in options for word in ("-o", option))])


def _ssh_path(path: Path) -> str:
    """ssh splits at blanks outside quotes and expands percent signs."""
    return '"' + str(path).replace("%", "%%") + '"'


def _trust_local(private: Path, url: str) -> Path:
    """git refuses a repository of another user unless told so in a file; the settings already said it may be read."""
    path = url.removeprefix("file://")
    return write_private(private / "gitconfig", f"[safe]\n\tdirectory = {path}\n\tdirectory = {path}/.git", 0o600)


def write_private(path: Path, text: str, mode: int) -> Path:
    """Put a file of ours beside the mirror, in one move."""
    temp = path.with_name(f"{path.name}.{os.getpid()}.new")
    temp.unlink(missing_ok=True)
    with os.fdopen(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        file.write(text + "\n")
    temp.rename(path)
    return path
