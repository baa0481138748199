"""How a clone becomes what a prepared directory says. What is equal in content, mode and owner stays the hard link that it is.

The rest is removed from the clone, which removes a name and never a file, and then written anew or linked from an earlier
generation that has it just so: nothing that another layer shares is ever opened for writing. Pure text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from controller.encode.sh import lines, raw, sh
from controller.model import Script


def apply(trees: Sequence[str], earlier: Script) -> Script:
    """``$D`` becomes what ``$S`` says, and in the `trees`, of which ``$S`` has a whole copy, nothing else stays there either.
    `earlier` sets ``$P`` to a generation to share with, or to nothing."""
    return lines(sh("TREES={trees}\n{earlier}", trees=" ".join(trees), earlier=raw(earlier)), _APPLY)


_APPLY: Final = Script(r"""stage files
like() { # ENTRIES HASHES: path, mode, owner, group and hash of every file, path and target of every link
  awk -F '\t' 'FILENAME == ARGV[1] { if (substr($0, 1, 5) != "link ") sum[substr($0, 67)] = substr($0, 1, 64); next }
    substr($2, 1, 1) == "l" { print $1 "\tlink\t" $7; next }
    { print $1 "\t" $2 "\t" $4 "\t" $5 "\t" sum[$1] }' "$2" "$1" > "$1.unsorted"
  sort "$1.unsorted" > "$1.like"
}
folders() { # DIRECTORY LIST: path, mode, owner and group of every directory below it
  ( cd "$1"
    timed find . -type d ! -path './.jailops' -print0 > "$2.names"
    timed xargs -0 stat -f '%N%t%Sp%t%u%t%g' < "$2.names" > "$2.unsorted" )
  sort "$2.unsorted" > "$2"
}
in_trees() {
  awk -F '\t' -v trees="$TREES" 'BEGIN { n = split(trees, t, " ") }
    { for (i = 1; i <= n; i++) if (t[i] == "." || index($1 "/", "./" t[i] "/") == 1) { print; next } }'
}
bring() { # LIST of names below $S
  timed tar -cf "$W/bring.tar" -C "$S" -n -T "$1"
  timed tar -xpf "$W/bring.tar" -C "$D"
  rm "$W/bring.tar"
}
entries "$S" "$W/staged"
hashes "$S" "$W/staged" "$W/staged.hashes"
like "$W/staged" "$W/staged.hashes"
like "$W/below" "$L/.jailops/files"
comm -23 "$W/staged.like" "$W/below.like" > "$W/differ"
cut -f 1 "$W/differ" > "$W/put"
# What the newest earlier generation has just so is shared with it.
: > "$W/earlier"; : > "$W/earlier.hashes"
if test -n "$P"; then
  whole "$P" > "$W/earlier.hashes"
  awk 'FILENAME == ARGV[1] { want[$0] = 1; next }
    substr($0, 67) in want { print substr($0, 67) }' "$W/put" "$W/earlier.hashes" > "$W/earlier.paths"
  tr '\n' '\0' < "$W/earlier.paths" > "$W/earlier.names"
  ( cd "$P"; timed xargs -0 -r stat -f '%N%t%Sp%t%i%t%u%t%g%t%z%t%Y' < "$W/earlier.names" > "$W/earlier" )
fi
like "$W/earlier" "$W/earlier.hashes"
comm -12 "$W/differ" "$W/earlier.like" > "$W/shared"
comm -23 "$W/differ" "$W/earlier.like" > "$W/new"
cut -f 1 "$W/shared" > "$W/share"
cut -f 1 "$W/new" > "$W/write"
# Out with what is no more, and with every name that is to be put.
folders "$S" "$W/staged.folders"
folders "$D" "$W/cloned.folders"
cut -f 1 "$W/staged" "$W/staged.folders" > "$W/all"
sort "$W/all" > "$W/staged.all"
cut -f 1 "$W/below" "$W/cloned.folders" > "$W/all"
in_trees < "$W/all" > "$W/in.trees"
sort "$W/in.trees" > "$W/cloned.all"
comm -13 "$W/staged.all" "$W/cloned.all" > "$W/gone"
cat "$W/gone" "$W/put" > "$W/all"
tr '\n' '\0' < "$W/all" > "$W/remove"
( cd "$D"; timed xargs -0 -r rm -rf < "$W/remove" )
# Directories: those that are missing, and in the trees those that are not alike.
comm -23 "$W/staged.folders" "$W/cloned.folders" > "$W/folders"
cut -f 1 "$W/cloned.folders" > "$W/cloned.names"
cut -f 1 "$W/folders" > "$W/folders.names"
in_trees < "$W/folders.names" > "$W/all"
comm -23 "$W/folders.names" "$W/cloned.names" >> "$W/all"
sort -u "$W/all" > "$W/make"
bring "$W/make"
while IFS= read -r f; do
  if cmp -s "$S/$f" "$P/$f"; then ln "$P/$f" "$D/$f"; else printf '%s\n' "$f" >> "$W/write"; fi
done < "$W/share"
bring "$W/write"
while IFS= read -r f; do
  test -L "$S/$f" || cmp -s "$S/$f" "$D/$f" || { echo "jailops: cannot write $D/$f as it should be"; exit 1; }
done < "$W/write"
echo "$(wc -l < "$W/write") files to write, $(wc -l < "$W/share") shared with the generation before"
""")
"""Needs ``$S``, ``$TREES`` and ``$P``. Names of the clone are removed before anything is put in their place."""
