"""Layers and generations on a share: what lies there, and how one of them goes. Scripts for the SAN, and their readers.

A directory is first renamed to a name that no listing shows, then proved to have nothing mounted on or below it, then
removed: it is complete or invisible at every moment, and what was cut short is found by its name. The files are hard links
that other generations share, so nothing is ever done to a file's inode that has another name outside: no flag, no mode.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from controller.encode.sh import lines, raw, sh
from controller.encode.text import GrammarError
from controller.model import Script

State: TypeAlias = Literal["complete", "building", "removing", "foreign"]

GONE, NOT_OURS, MOUNTED, UNKNOWN = 44, 3, 4, 75
"""How `hide_script` and `clear_script` end when there is nothing, when it is not ours, when something is mounted there, and
when that cannot be seen. 0: it is done."""

_PLACE: Final = r"(?P<place>layers|images/(?P<image>[a-z0-9][a-z0-9.-]*))"
_OWN: Final = re.compile(
    rf"{_PLACE}/(?P<hidden>\.building-|\.removing-(?:building-)?)?"
    r"(?P<name>(?:(?P<layer>world|packages)-)?(?P<key>[0-9a-f]{12}))(?:\.(?P<vm>[a-z0-9][a-z0-9.-]*))?"
)
_HIDDEN: Final = ".removing-"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing below the share's ``layers`` or ``images``."""

    path: str
    """Relative to the share's root, as it is called now."""
    place: str = ""
    """The directory that it lies in."""
    image: str = ""
    name: str = ""
    """What it is called when it is complete."""
    state: State = "foreign"
    manifest: Mapping[str, Any] | None = None
    build_vm: str = ""
    """Where it is made, or was."""


def shelf_script(root: str) -> Script:
    """One line ``KIND TAB PATH TAB MANIFEST`` for everything in ``layers`` and in each image's directory. The manifest of
    what is under way or going is not read."""
    return sh(
        """test -d {root} && cd {root} || exit 75
for d in images/* layers; do
  test -d "$d" && test ! -L "$d" || continue
  for p in "$d"/* "$d"/.building-* "$d"/.removing-*; do
    test -e "$p" || test -L "$p" || continue
    kind=other said=
    if test -d "$p" && test ! -L "$p"; then
      kind=directory
      case ${{p##*/}} in
      .*) ;;
      *) if test -f "$p/.jailops/manifest.json"; then said=$(head -n 1 "$p/.jailops/manifest.json") || exit 75; fi ;;
      esac
    fi
    case $p in *[!A-Za-z0-9._/-]*) p=$(printf %s "$p" | tr -c 'A-Za-z0-9._/-' '?') kind=other ;; esac
    printf '%s\\t%s\\t%s\\n' "$kind" "$p" "$said"
  done
done
:""",
        root=root,
    )


def parse_shelf(text: str) -> tuple[Entry, ...]:
    """What lies there. Ours is what has our name and, when it is complete, a manifest that says the very same name."""
    return tuple(_entry(number, line) for number, line in enumerate(text.splitlines(), 1))


def hide_script(directory: str, entry: Entry) -> Script:
    """Give it the name that no listing shows. Quick: from then on nobody is told to boot it or to build on it."""
    visible = entry.path.rpartition("/")[2]
    return lines(_place(directory, entry), raw(_hide(visible, complete=entry.state == "complete")))


def clear_script(directory: str, entry: Entry) -> Script:
    """Remove what is hidden, whole or what is left of it, and print ``freed BYTES``. Linux and FreeBSD.

    A directory's flags are its own, and so are those of a file with one name. A file with several names that somebody made
    immutable stays, for its flag is the other generations' too: find says which one, and a person decides.
    """
    return lines(_place(directory, entry), raw(_CLEAR))


def _place(directory: str, entry: Entry) -> Script:
    if entry.state == "foreign" or not entry.name:
        raise ValueError(f"not ours to remove: {entry.path!r}")
    visible = entry.path.rpartition("/")[2]
    hidden = visible if entry.state == "removing" else f"{_HIDDEN}{visible.removeprefix('.')}"
    there = sh("cd {directory} 2>/dev/null || exit 44\nhidden={hidden}", directory=directory, hidden=hidden)
    return lines(there, raw(_FREE))


def free_script(path: str) -> Script:
    """Exit 0 only if nothing is mounted on a directory or below it, on the machine that is asked."""
    directory, _, name = path.rpartition("/")
    return lines(sh("cd {directory} 2>/dev/null || exit 44", directory=directory), raw(_FREE), sh("free {n}", n=name))


_FREE: Final = Script(r"""here=$(pwd -P) || exit 75
case $here in *[!A-Za-z0-9._@+:=/-]*) echo "the path $here has signs that a table of mounts writes otherwise" >&2; exit 75 ;; esac
free() { # NAME: nothing is mounted on it or below it; the second word of a line is where (proc(5), mount -p)
  if test -r /proc/self/mounts; then table=$(cat /proc/self/mounts); else table=$(mount -p); fi
  test -n "$table" || { echo 'cannot see what is mounted' >&2; exit 75; }
  printf '%s\n' "$table" | while read -r d m rest; do
    case $m in "$here/$1" | "$here/$1"/*) echo "$d is mounted on $m" >&2; exit 10 ;; esac
  done
  test $? != 10
}""")


def _hide(name: str, *, complete: bool) -> Script:
    """Rename it. On FreeBSD a mount below keeps its old path in the table, on Linux it gets the new one: both are asked.
    While an earlier removal of the same name is not through, that one goes first, and this one stays as it is."""
    proof = 'test -f "$name/.jailops/manifest.json" || exit 3' if complete else ":"
    return sh(
        """name={name}
if test ! -e "$hidden" && test ! -L "$hidden"; then
  test -e "$name" || test -L "$name" || exit 44
  test -d "$name" && test ! -L "$name" || exit 3
  {proof}
  free "$name" || exit 4
  mv "$name" "$hidden" || exit 5
  if ! free "$name" || ! free "$hidden"; then mv "$hidden" "$name"; exit 4; fi
fi""",
        name=name,
        proof=raw(Script(proof)),
    )


_CLEAR: Final = Script(r"""test -e "$hidden" || test -L "$hidden" || exit 44
test -d "$hidden" && test ! -L "$hidden" || exit 3
free "$hidden" || exit 4
# What goes: files all of whose names are in here.
freed=$(find "$hidden" -xdev -type f -exec ls -lni {} + |
  awk '$2 ~ /^-/ { if (++seen[$1] == $3) sum += $6 } END { printf "%.0f", sum }')
if command -v chflags >/dev/null 2>&1; then
  find "$hidden" -xdev \( -type d -o -links 1 \) -exec chflags -h noschg,nosappnd,nosunlnk {} + 2>/dev/null
fi
find "$hidden" -xdev -depth -delete
if test -e "$hidden"; then exit 6; fi
echo "freed $freed"
""")


def parse_freed(text: str) -> int:
    """Raises GrammarError."""
    match = re.fullmatch(r"freed ([0-9]+)\n?", text)
    if not match:
        raise GrammarError(1, f"not the end of a removal: {text!r}")
    return int(match[1])


def _entry(number: int, line: str) -> Entry:
    kind, _, rest = line.partition("\t")
    path, tab, said = rest.partition("\t")
    if kind not in ("directory", "other") or not tab:
        raise GrammarError(number, "not a line of the share's listing")
    match = _OWN.fullmatch(path)
    # A layer has its kind in its name, a generation has none.
    if kind == "other" or match is None or (match["layer"] is None) != (match["image"] is not None):
        return Entry(path)
    if match["vm"] and "building-" not in (match["hidden"] or ""):
        return Entry(path)
    state: State = "complete"
    if match["hidden"]:
        state = "building" if match["hidden"] == ".building-" else "removing"
    entry = Entry(path, match["place"], match["image"] or "", match["name"], state, build_vm=match["vm"] or "")
    return entry if state != "complete" else _complete(number, entry, match, said)


def _complete(number: int, entry: Entry, match: re.Match[str], said: str) -> Entry:
    if not said:
        return Entry(entry.path)
    try:
        manifest = dict(json.loads(said))
    except (ValueError, TypeError) as error:
        raise GrammarError(number, f"not the manifest of {entry.path}: {error}") from error
    if match["layer"]:
        mine = manifest.get("layer") == match["layer"] and manifest.get("key") == match["key"]
    else:
        mine = manifest.get("image") == entry.image and manifest.get("generation") == entry.name
    mine = mine and isinstance(manifest.get("finished", 0), (int, float))
    return Entry(entry.path, entry.place, entry.image, entry.name, "complete", manifest) if mine else Entry(entry.path)
