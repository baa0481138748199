"""What git says when a transfer fails, turned into what a person can use: text in, Retry or Stall out. Pure.

The caller keeps the last good revision and goes on asking in either case: Stall only says that waiting will not help.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from controller.errors import ControllerError, Retry, Stall

_DAMAGE = re.compile(
    r"corrupt|inflate|bad object|missing (blob|tree|commit|object)|unable to read (tree|sha1|[0-9a-f]{40})"
    r"|did not send all|hash mismatch|SHA1 mismatch|index-pack (output|failed|died|abnormal)|loose object"
    r"|pack signature|does not match index|not a (valid|tree) object|could not parse (commit|object)"
    r"|unexpected (object|end)|broken (link|pack)|is (empty|garbage)|unresolved deltas|bad (pack|tree|ref|sha1)"
    r"|premature end of pack|pack has|failed to traverse|bad object header|unknown object type|is far too short"
    r"|packfile .* (cannot|invalid)|not our ref|could not read [0-9a-f]{40}|not a git repository",
    re.IGNORECASE,
)


class Damaged(Exception):
    """An object of the mirror cannot be read or is not what its id says."""


@dataclass(frozen=True, slots=True)
class _Rule:
    says: str
    means: str
    hint: str = ""
    """Empty: it may pass by itself."""


_RULES = (
    _Rule(
        r"couldn't find remote ref|Remote branch .* not found",
        "the branch does not exist there (deleted, renamed, or nothing was pushed yet)",
        "push the branch again, or set git.branch in jailops.toml; nothing is changed until then",
    ),
    _Rule(
        r"Host key verification failed|IDENTIFICATION HAS CHANGED|host key is known|No matching host key",
        "the host shows another SSH key than the pinned one",
        "if its administrator confirms the new key, replace git.host_keys in jailops.toml; if not, do not connect",
    ),
    _Rule(
        r"Permission denied \(|bad permissions|invalid format|Load key",
        "the host does not accept our SSH key",
        "register the public half of git.key_file at the Git host; the file must be mode 0600",
    ),
    _Rule(
        r"Authentication failed|could not read (Username|Password)|terminal prompts disabled|error: 40[13]\b",
        "the host does not accept our token, or wants one",
        "put a token that is valid and may read the repository into the file named by git.token_file",
    ),
    _Rule(
        r"error: 404|repository( .*)? not (found|exported)|does not appear to be a git repository",
        "there is no such repository, or we are not allowed to see it",
        "check git.url in jailops.toml and what the token or key may read",
    ),
    _Rule(
        r"certificate|SSL peer|unable to set SSL|gnutls_handshake.*(verif|trust)",
        "the host's TLS certificate is not trusted",
        "renew the certificate there, or name the authority that signed it in git.ca_file",
    ),
    _Rule(
        r"redirection|error: 30[1278]",
        "the repository has moved: redirects are not followed, so that the token goes to no other host",
        "write the new address into git.url",
    ),
    _Rule(
        r"insufficient permission|Permission denied$|unable to create .* Permission denied",
        "files belong to another user",
        "run every jailops command as the user that the daemon runs as; chown the mirror's directory to that user",
    ),
    _Rule(
        r"dubious ownership",
        "the repository belongs to another user",
        "let the user that jailops runs as own or read it, or fetch it over ssh",
    ),
    _Rule(
        r"transport '.*' not allowed|protocol .* is not supported",
        "this protocol is not allowed",
        "use https or ssh",
    ),
    _Rule(
        r"File too large|File size limit|signal 25|SIGXFSZ|exceeds maximum allowed size",
        "what was pushed is larger than one fetch may bring",
        "remove large files from the history: this repository is for manifests",
    ),
    _Rule(
        r"fsck error|fsckObjects|in packed object|object failed fsck",
        "the remote holds a malformed object",
        "run git fsck there; a commit or tree was written by a faulty program",
    ),
    _Rule(r"No space left on device|Disk quota exceeded", "the disk of the mirror is full"),
    _Rule(r"out of memory|mmap failed|cannot allocate", "git needs more memory than it may use"),
    _Rule(
        r"Could not resolve host(name)?|Name or service not known|name resolution", "the host's name cannot be resolved"
    ),
    _Rule(
        r"Connection refused|Couldn't connect|Failed to connect|unable to connect", "the host refuses the connection"
    ),
    _Rule(r"timed out|Timeout|too slow|Operation too slow", "the host does not answer"),
    _Rule(r"error: 5\d\d|error: 429", "the host has trouble of its own"),
    _Rule(r"Could not resolve|No route to host|Network is (unreachable|down)", "the network is down"),
)


def explain(action: str, said: str) -> ControllerError:
    """The error for a failed command. `action` is like "fetch branch main from URL"; `said` is redacted stderr."""
    rule = _rule(said)
    if not rule:
        return Retry(f"cannot {action}: {last_words(said) or 'git gave no reason'}")
    message = f"cannot {action}: {rule.means} (git says: {last_words(said)})"
    return Stall(message, hint=rule.hint) if rule.hint else Retry(message)


def smells_of_damage(said: str) -> bool:
    """True when objects may be damaged, here or there: only looking at ours (git fsck) can tell where."""
    return not _rule(said) and bool(_DAMAGE.search(said))


def _rule(said: str) -> _Rule | None:
    return next((rule for rule in _RULES if re.search(rule.says, said, re.IGNORECASE | re.MULTILINE)), None)


def last_words(said: str) -> str:
    """The most telling line of git's complaint, printable and short."""
    lines = [printable(line) for line in said.splitlines() if line.strip()]
    telling = [
        line
        for line in lines
        if re.match(r"(fatal|error|ERROR|remote: (error|fatal|ERROR)|ssh:|.*Permission denied)", line)
    ]
    return (telling or lines or [""])[0]


def printable(text: str, limit: int = 200) -> str:
    """One line without control, bidirectional or invisible characters, at most `limit` characters long."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text.strip())[:limit]
