"""Where the wishes come from: a Git repository, mirrored, checked and read without ever executing anything of it."""

from __future__ import annotations

from controller.source.git import GitSource
from controller.source.values import (
    Accepted,
    GitSettings,
    Head,
    NotePush,
    PathProblem,
    Proven,
    Refused,
    Snapshot,
    TreeEntry,
)

__all__ = [
    "Accepted",
    "GitSettings",
    "GitSource",
    "Head",
    "NotePush",
    "PathProblem",
    "Proven",
    "Refused",
    "Snapshot",
    "TreeEntry",
]
