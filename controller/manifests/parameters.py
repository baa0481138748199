"""The parameters of jail(8) that a manifest may set: an allow-list, with the values that each takes. Pure.

What would undo the controller's own work (path, ip4.addr, host.hostname, persist, exec.*, mount.*) is not among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from controller.manifests.scalar import Refused, Scalar, whole
from controller.problem import nearest

_SWITCHES: Final = {"1": "1", "0": "0", "true": "1", "false": "0"}
_SHARING: Final = ("disable", "inherit", "new")


def _switch(value: str) -> str:
    if value not in _SWITCHES:
        raise ValueError
    return _SWITCHES[value]


def _sharing(value: str) -> str:
    if value not in _SHARING:
        raise Refused(suggestion=nearest(value, _SHARING))
    return value


def _number(low: int, high: int) -> Scalar:
    number = whole(low, high)
    return Scalar(number.expected, lambda value: str(number.parse(value)), number.schema)


_ON_OFF = Scalar("1, 0, true or false", _switch, {"enum": [1, 0, True, False, "1", "0", "true", "false"]})
_SYSV = Scalar("disable, inherit or new", _sharing, {"enum": list(_SHARING)})

_ALLOW: Final = (
    *(
        "adjtime",
        "chflags",
        "extattr",
        "mlock",
        "mount",
        "nfsd",
        "quotas",
        "raw_sockets",
        "read_msgbuf",
        "reserved_ports",
    ),
    *(
        "routing",
        "set_hostname",
        "setaudit",
        "settime",
        "socket_af",
        "suser",
        "sysvipc",
        "unprivileged_proc_debug",
        "vmm",
    ),
    *("mount.devfs", "mount.fdescfs", "mount.fusefs", "mount.linprocfs", "mount.linsysfs", "mount.nullfs"),
    *("mount.procfs", "mount.tmpfs", "mount.zfs"),
)

KNOWN: Final[Mapping[str, Scalar]] = {
    **{f"allow.{name}": _ON_OFF for name in _ALLOW},
    "children.max": _number(0, 999_999),
    "devfs_ruleset": _number(0, 65_535),
    "enforce_statfs": _number(0, 2),
    "securelevel": _number(-1, 3),
    "sysvmsg": _SYSV,
    "sysvsem": _SYSV,
    "sysvshm": _SYSV,
}
"""From jail(8) of FreeBSD 10 to 15. An older kernel refuses what it does not know: the jail is then shown as failed."""


class _Known:
    """A map with known keys, each with its own type; all values become text again for jail(8)."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        del source
        fields = {
            name: core_schema.typed_dict_field(handler.generate_schema(Annotated[str, scalar]), required=False)
            for name, scalar in KNOWN.items()
        }
        return core_schema.typed_dict_schema(fields, extra_behavior="forbid", strict=True)


Parameters: TypeAlias = Annotated[Mapping[str, str], _Known()]
"""Names to values as jail(8) takes them; switches are ``1`` and ``0``."""
