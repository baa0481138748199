"""Who signed what is to be applied: a range of commits in, `Proven` or `Refused` out.

git verifies, with the programs it always uses (ssh-keygen, gpg), under settings of ours alone: who may sign stands in
files that jailops.toml names, never in the repository, and no key is fetched from anywhere. Every commit of the range
must be signed by somebody who is listed now: the time that counts is today's, because a commit's own date is a claim of
whoever made it. Unsigned, unknown, expired, revoked and changed are all refused, and so is what git does not explain.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controller.errors import Stall
from controller.source.access import write_private
from controller.source.mirror import Mirror
from controller.source.trouble import Damaged, last_words, printable
from controller.source.values import GitSettings, Proven, Refused

MAX_COMMITS: Final = 500
"""Each costs two processes, some 20 ms: more at once is history, for which there is `trusted_commit`."""

_FIELDS: Final = ("%H", "%G?", "%GK", "%GS", "%GG", "%an", "%s")
_SHOWN: Final = 3
_MAX_OUTPUT: Final = 32 * 1024 * 1024
_MADE_BY: Final = re.compile(r"Valid \(unverified\) signature from key (SHA256:\S+)")
_MATCHED: Final = re.compile(r'matched principal "([^"\n]+)"')
"""What ssh-keygen -v says about a signature that it does not accept in the end."""

_SSH_KEYGEN: Final = """\
#!/bin/sh
# Written by jailops. git asks whether a key was valid at the commit's own date; we ask whether it is now, and which key.
left=$#
while [ "$left" -gt 0 ]; do
    case $1 in -Overify-time=*) ;; *) set -- "$@" "$1" ;; esac
    shift
    left=$((left - 1))
done
exec ssh-keygen -v "$@"
"""
_GPG_CONF: Final = """\
# Written by jailops. Every key in this directory is listed; nothing is started, asked for or fetched.
trust-model always
no-auto-key-retrieve
no-auto-key-locate
disable-dirmngr
no-autostart
lock-never
batch
no-tty
"""


@dataclass(frozen=True, slots=True)
class _Commit:
    """What git says about one commit's signature. Texts may hold anything."""

    name: str
    verdict: str
    """As in git-log(1), %G?."""
    key: str
    signer: str
    said: str
    author: str
    subject: str

    @property
    def who(self) -> str:
        """The signer as far as it is known: identity, key, or both."""
        made_by, matched = _MADE_BY.search(self.said), _MATCHED.search(self.said)
        key = self.key or (made_by[1] if made_by else "")
        signer = self.signer or (matched[1] if matched else "")
        return printable(f"{signer} ({key})" if signer and key else signer or key)

    def __str__(self) -> str:
        return f"commit {self.name[:12]} ({printable(self.author, 60)}: {printable(self.subject, 60)})"


class Signers:
    """The policy of jailops.toml on one mirror. Raises Stall for a policy that cannot work."""

    def __init__(self, settings: GitSettings, mirror: Mirror) -> None:
        self._settings = settings
        self._mirror = mirror
        self._private = settings.mirror.absolute()
        if not self.required and (settings.trusted_commit or settings.revoked_file):
            raise Stall(
                "cannot judge signatures: git.trusted_commit and git.revoked_file say nothing about who may sign",
                hint="name them in git.signers_file or git.gpg_keys_file, or remove both settings",
            )

    @property
    def required(self) -> bool:
        """Whether anybody must have signed."""
        return bool(self._settings.signers_file or self._settings.gpg_keys_file)

    async def judge(self, candidate: str, trusted: Sequence[str]) -> Proven | Refused:
        """Every commit that `candidate` contains and none of `trusted` does. Raises Retry, Stall, Damaged."""
        span = (candidate, *(f"^{one}" for one in trusted), "--")
        count = int((await self._mirror.git("rev-list", "--count", *span)).text)
        if count > MAX_COMMITS:
            why = f"{count} commits since the last trusted one are to be verified, and at most {MAX_COMMITS} can be"
            return _refused(candidate, why, "set git.trusted_commit in jailops.toml to a commit that you believe")
        async with self._mirror.locked():
            commits = await self._ask(*span)
        wrong = [(one, why) for one in commits if (why := self._objection(one))]
        if not wrong:
            return Proven(candidate, next((one.who for one in commits if one.name == candidate), ""))
        told = "; ".join(f"{one} {why}" for one, why in wrong[:_SHOWN])
        more = f"; and {len(wrong) - _SHOWN} more" * (len(wrong) > _SHOWN)
        files = " and ".join(str(one) for one in (self._settings.signers_file, self._settings.gpg_keys_file) if one)
        hint = (
            "have somebody who is listed sign it anew (git rebase --force-rebase --gpg-sign) and push with force, "
            f"or if its signer may sign, say so in {files}"
        )
        return _refused(candidate, told + more, hint)

    def _objection(self, one: _Commit) -> str:
        """What is wrong with one commit's signature; empty when it is a good one of somebody who is listed."""
        by = f"is signed by {one.who or 'somebody'}, "
        if one.verdict == "G" and one.signer:
            return ""
        if one.verdict == "N":
            return "is not signed (a signed tag, or a signed commit after it, says nothing about it)"
        if one.verdict in ("X", "Y") or "key has expired" in one.said:
            return by + "whose key or signature has expired"
        if "key is not yet valid" in one.said:
            return by + "whose key is not valid yet"
        if "namespace" in one.said:
            return by + "whose key or signature is for something else than git (namespaces)"
        if one.verdict == "R" or (one.verdict == "B" and self._settings.revoked_file and _MADE_BY.search(one.said)):
            return by + "whose key is revoked"
        if one.verdict in ("E", "U"):
            return by + "who is not listed"
        return f"has a signature that does not fit it: one of both was changed (git says: {last_words(one.said)})"

    async def _ask(self, *span: str) -> list[_Commit]:
        """The oldest commit first. The caller holds the lock: nobody else writes our files."""
        form = "".join(f"{one}%x00" for one in _FIELDS)
        options = await self._options()
        done = await self._mirror.git(
            "log", "-z", "--reverse", f"--format=tformat:{form}", *span, options=options, max_output=_MAX_OUTPUT
        )
        words = done.stdout.decode("utf-8", "replace").split("\0")[:-1]
        width = len(_FIELDS) + 1
        commits = [_Commit(*words[at : at + len(_FIELDS)]) for at in range(0, len(words), width)]
        if len(words) % width or not all(re.fullmatch(r"[0-9a-f]{40,64}", one.name) for one in commits):
            raise Damaged("git log printed what nobody asked for")
        return commits

    async def _options(self) -> tuple[str, ...]:
        """How git verifies. A kind of key that is not asked for has an empty list."""
        settings = self._settings
        for path in (settings.signers_file, settings.revoked_file):
            if path:
                _read(path)
        ssh = write_private(self._private / "ssh-keygen", _SSH_KEYGEN, 0o700)
        gpg = f'#!/bin/sh\n# Written by jailops.\nexec gpg --homedir {shlex.quote(str(await self._keyring()))} "$@"\n'
        config = {
            "gpg.ssh.program": ssh,
            "gpg.ssh.allowedSignersFile": settings.signers_file or "/dev/null",
            "gpg.ssh.revocationFile": settings.revoked_file or "",
            "gpg.openpgp.program": write_private(self._private / "gpg", gpg, 0o700),
            "gpg.x509.program": "/bin/false",
            "log.showSignature": "false",
        }
        return tuple(word for name, value in config.items() for word in ("-c", f"{name}={value}"))

    async def _keyring(self) -> Path:
        """A home of GnuPG that holds the listed keys and no other; made anew when the file has changed."""
        listed = _read(self._settings.gpg_keys_file) if self._settings.gpg_keys_file else b""
        home, digest = self._private / "gnupg", hashlib.sha256(listed).hexdigest()
        made_of = home / "made-of"
        if made_of.exists() and made_of.read_text().strip() == digest:
            return home
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(mode=0o700)
        write_private(home / "gpg.conf", _GPG_CONF, 0o600)
        if listed:
            done = await self._mirror.tool("gpg", "--quiet", "--homedir", str(home), "--import", stdin=listed)
            if done.exit:
                raise Stall(
                    f"cannot use {self._settings.gpg_keys_file}: gpg says: {last_words(done.stderr)}",
                    hint="it holds public keys as gpg --export --armor prints them; and gpg must be installed",
                )
        write_private(made_of, digest, 0o600)
        return home


def _refused(candidate: str, why: str, hint: str) -> Refused:
    return Refused(candidate, "NotSigned", f"cannot apply {candidate[:12]}: {why}", hint)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise Stall(
            f"cannot judge signatures: cannot read {path}: {exc.strerror}",
            hint="jailops.toml names it below [git]; until it can be read nothing new is applied",
        ) from exc
