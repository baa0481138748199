"""What a renamed host's objects are remembered as: by its first name, under which all that servers hold of it is kept, too.

In: an object by the name that it has now, or by the one that it is remembered by; out: the other one. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from controller.graph import Desired
from controller.model import Ref

OF_HOSTS: Final = frozenset(
    {
        "lun",
        "hostshare",
        "node",
        "bootconf",
        "boot",
        "live",
        "addresses",
        "session",
        "filesystem",
        "base",
        "jail",
    }
)
"""Kinds whose objects are called after their host: ``KIND/HOST``, or ``KIND/HOST/NAME``."""


def as_kept(ref: Ref, desired: Desired) -> Ref:
    """By the host's first name: how the store knows it."""
    host = _host(ref)
    return _called(ref, desired.kept_as(host)) if host in desired.hosts else ref


def as_now(ref: Ref, names: Mapping[str, str]) -> Ref:
    """By the name that the host has now. `names`: first name -> that; what is not in it is left as it is."""
    return _called(ref, names[_host(ref)]) if _host(ref) in names else ref


def memory_now(memory: Mapping[str, Any], ref: Ref) -> Mapping[str, Any]:
    """What a driver noted of an object, with its host's name of now."""
    return {**memory, "host": _host(ref)} if "host" in memory and _host(ref) else memory


def _host(ref: Ref) -> str:
    """Empty for what is no host's."""
    return ref.name.partition("/")[0] if ref.kind in OF_HOSTS else ""


def _called(ref: Ref, host: str) -> Ref:
    _, slash, rest = ref.name.partition("/")
    return Ref(ref.kind, f"{host}{slash}{rest}")
