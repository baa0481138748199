"""Names as foreign tools rewrite them. Pure: a name comes in, the tool's own spelling goes out."""

from __future__ import annotations

import re

_OUTSIDE = re.compile(r"[^A-Za-z0-9]")


def safename(name: str) -> str:
    """What ezjail calls a jail: every character outside ``[A-Za-z0-9]`` becomes ``_``.

    It names the jail in jls(8), ``/var/run/jail_<safename>.id``, ``/etc/fstab.<safename>`` and the rc variables, so
    that ``a.b``, ``a-b`` and ``a_b`` are one jail (ezjail-admin: ``tr -c '[:alnum:]' _``, seen on 13.2).
    """
    return _OUTSIDE.sub("_", name)
