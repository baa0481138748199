"""Which failed builds are worth another try by themselves: the network was away while source or packages were fetched.

In: a build's log with our stage lines. Out: the line that says so, or "". A compiler's output is never searched: its
words mean nothing here.
"""

from __future__ import annotations

import re
from typing import Final

_FETCHING: Final = frozenset({"source", "sets", "packages"})
"""Our stages that ask others over the network."""

_PASSING: Final = re.compile(
    # git and libcurl
    r"Could not resolve host|Failed to connect to |Couldn't connect to server|[Cc]onnection timed out|Connection reset"
    r"|early EOF|remote end hung up unexpectedly|RPC failed; |Operation timed out|returned error: (?:429|5[0-9][0-9])"
    # svn
    r"|svn: E(?:170013: Unable to connect|175012: |120106: |120108: |670002: |670003: |000060: |000061: )"
    # pkg and fetch
    r"|Host does not resolve|Address resolution failed|No address record|[Tt]ransient resolver failure"
    r"|Name does not resolve|Temporary failure in name resolution|transfer timed out|Network is unreachable|No route to host"
    r"|Service Unavailable|Bad Gateway|Gateway Time-?out|Connection refused"
)


def passing(log: str, stage: str) -> str:
    """The last line of a failed build that tells of a cause that passes; `stage` begins our stage lines in the log."""
    lines = log.splitlines()
    begins = [index for index, line in enumerate(lines) if line.startswith(stage)]
    if not begins or lines[begins[-1]].removeprefix(stage) not in _FETCHING:
        return ""
    return next((line.strip() for line in reversed(lines[begins[-1] :]) if _PASSING.search(line)), "")
