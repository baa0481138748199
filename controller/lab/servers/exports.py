"""``exportfs`` of nfs-utils 2.6.2 and nfs-ganesha's export manager over D-Bus, on the SAN of the simulated site.

What is exported is one list in ``/lab/exports.json``: {path, client, options, from}; a node's mount looks there, and at the
service that would serve it (`served`): exportfs lists entries also while no server runs. rpcinfo tells the two apart.
exportfs quirks as measured: ``-ra`` stops at the first unknown keyword of a file and withdraws all from that line on; a missing
directory is an error and exported all the same; a blank between client and options gives the world those options.
"""

from __future__ import annotations

import os
import sys
import time

from controller.lab.servers import syslog
from controller.lab.servers.kit import Box, Failed, Uncovered, bundle, replace, uncovered
from controller.lab.servers.service import activity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

KEYWORDS = {
    "ro", "rw", "sync", "async", "no_root_squash", "root_squash", "all_squash", "no_all_squash", "subtree_check",
    "no_subtree_check", "insecure", "secure", "crossmnt", "nohide", "hide", "wdelay", "no_wdelay",
}  # fmt: skip
UNSAID = """exportfs: {name} [{line}]: Neither 'subtree_check' or 'no_subtree_check' specified for export "{client}:{path}".
  Assuming default behaviour ('no_subtree_check').
  NOTE: this default has changed since nfs-utils version 1.0.x
"""
VALUED = ("anonuid", "anongid", "fsid", "sec")


def served(box: Box) -> list[dict[str, Any]]:
    """The exports whose server runs at this moment."""
    return [one for one in box.load("exports", []) if activity(box, _server(one)) == "active"]


def _server(one: dict[str, Any]) -> str:
    return "nfs-ganesha" if one["from"] == "dbus" else "nfs-kernel-server"


def rpcinfo(argv: Sequence[str], box: Box) -> int:
    """``rpcinfo -u HOST nfs 3`` of rpcbind 1.2.6, as measured; every server that has exports must run."""
    if len(argv) != 5 or argv[1] != "-u" or argv[3:] != ["nfs", "3"]:
        uncovered("rpcinfo form")
    if activity(box, "rpcbind") != "active":
        raise Failed(f"{argv[2]}: RPC: Unable to receive")
    servers = {_server(one) for one in box.load("exports", [])} or {"nfs-ganesha", "nfs-kernel-server"}
    if any(activity(box, one) != "active" for one in servers):
        raise Failed(f"{argv[2]}: RPC: Program not registered")
    print("program 100003 version 3 ready and waiting")
    return 0


def exportfs(argv: Sequence[str], box: Box) -> int:
    said, names = "", []
    flags = set()
    for letter, value in bundle(argv[1:], "o"):
        if letter == "o":
            said = value
        elif letter:
            flags.add(letter)
        else:
            names.append(value)
    try:
        return chosen(box, flags, said, names)
    except Failed as failed:
        print(failed, file=sys.stderr)
        return failed.status


def chosen(box: Box, flags: set[str], said: str, names: list[str]) -> int:
    if not names and flags <= {"s", "v"}:
        show(box, "s" in flags, "v" in flags)
        return 0
    if not names and flags == {"u", "a"}:
        with box.edit("exports", []) as table:
            table[:] = [one for one in table if one["from"] == "dbus"]
        return 0
    if (not names and "a" in flags and flags <= {"r", "a", "v"}) or flags == {"r"}:
        return reread(box, withdraw="r" in flags)
    if flags == {"u"} and len(names) == 1:
        return withdraw(box, *split(names[0]))
    if flags <= {"i", "v"} and len(names) == 1:
        return add(box, *split(names[0]), keywords(said, "command line:0"), "command line")
    raise Uncovered("exportfs form")


def split(name: str) -> tuple[str, str]:
    client, mark, path = name.partition(":")
    if not mark or not path.startswith("/"):
        raise Failed(f"exportfs: Invalid exporting option: {name}")
    return client, path


def keywords(said: str, where: str) -> list[str]:
    words = [word for word in said.split(",") if word]
    for word in words:
        if word not in KEYWORDS and word.partition("=")[0] not in VALUED:
            raise Failed(f'exportfs: {where}: unknown keyword "{word}"\n')
    return words


def add(box: Box, client: str, path: str, options: list[str], origin: str) -> int:
    _, status = readable(box)
    with box.edit("exports", []) as table:
        kept = [one for one in table if (one["client"], one["path"]) != (client, path)]
        table[:] = [*kept, {"path": path, "client": client, "options": options, "from": origin}]
    write_etab(box)
    return max(status, present(box, [path]))


def present(box: Box, paths: Sequence[str]) -> int:
    missing = [path for path in paths if not os.path.isdir(box.path(path))]
    for path in missing:
        print(f"exportfs: Failed to stat {path}: No such file or directory", file=sys.stderr)
    return 1 if missing else 0


def withdraw(box: Box, client: str, path: str) -> int:
    with box.edit("exports", []) as table:
        kept = [one for one in table if (one["client"], one["path"]) != (client, path)]
        found = len(kept) != len(table)
        table[:] = kept
    write_etab(box)
    if not found:
        raise Failed(f"exportfs: Could not find '{client}:{path}' to unexport.")
    return 0


def reread(box: Box, withdraw: bool) -> int:
    """``-a`` adds what the files say; ``-ra`` also withdraws what they do not, up to the first bad line of a file."""
    read, status = readable(box)
    with box.edit("exports", []) as table:
        fresh = {(one["client"], one["path"]) for one in read}
        kept = [one for one in table if one["from"] == "dbus" or not withdraw]
        table[:] = [one for one in kept if (one["client"], one["path"]) not in fresh] + read
    write_etab(box)
    return max(status, present(box, [one["path"] for one in read]))


def readable(box: Box) -> tuple[list[dict[str, Any]], int]:
    """The entries of all files, the first of each client and path, and 1 when something was wrong with them."""
    read: dict[tuple[str, str], dict[str, Any]] = {}
    status = 0
    folder = box.path("/etc/exports.d")
    more = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    for name in ["/etc/exports", *(f"/etc/exports.d/{one}" for one in more if one.endswith(".exports"))]:
        try:
            for one in lines(box.text(name), name):
                first = read.setdefault((one["client"], one["path"]), one)
                if first is not one:
                    status = twice(one, first)
        except Failed as failed:
            print(failed, file=sys.stderr)
            status = failed.status
    return list(read.values()), status


def twice(one: dict[str, Any], first: dict[str, Any]) -> int:
    name, same = f"{one['client']}:{one['path']}", set(one["options"]) == set(first["options"])
    said = ("", "", "") if same else ("incompatible ", " (0x424) [IGNORED]", " (0x425)")
    print(f"exportfs: {said[0]}duplicated export entries:", file=sys.stderr)
    print(f"exportfs: \t{name}{said[1]}\nexportfs: \t{name}{said[2]}", file=sys.stderr)
    return 1


def lines(text: str, name: str) -> Iterator[dict[str, Any]]:
    import re

    for number, line in enumerate(text.replace("\\\n", "  ").split("\n"), 1):
        words = re.findall(r'"[^"]*"|\S+', line.partition("#")[0])
        path = words[0].strip('"') if words else ""
        for word in words[1:]:
            client, _, said = word.partition("(")
            if "(" not in word:
                print(f"exportfs: No options for {path} {client}: suggest {client}(sync) to avoid warning",
                      file=sys.stderr)  # fmt: skip
            elif not client:
                print(f"exportfs: No host name given with {path} ({said}, suggest *({said} to avoid warning",
                      file=sys.stderr)  # fmt: skip
            options = keywords(said.rstrip(")"), f"{name}:{number}")
            if not {"subtree_check", "no_subtree_check"} & set(options):
                print(UNSAID.format(name=name, line=number, client=client or "*", path=path), file=sys.stderr)
            yield {"path": path, "client": client or "*", "options": options, "from": name}


def effective(options: Sequence[str]) -> list[str]:
    """The options as nfs-utils completes them, in the order in which ``exportfs -s`` prints them."""
    has = set(options)
    return [
        "async" if "async" in has else "sync", "no_wdelay" if "no_wdelay" in has else "wdelay",
        "nohide" if "nohide" in has else "hide",
        *(["crossmnt"] if "crossmnt" in has else []),
        *([] if "subtree_check" in has else ["no_subtree_check"]),
        *sorted(word for word in has if word.partition("=")[0] in VALUED and not word.startswith("sec")),
        "sec=sys", "rw" if "rw" in has else "ro",
        "no_root_squash" if "no_root_squash" in has else "root_squash",
        "all_squash" if "all_squash" in has else "no_all_squash",
    ]  # fmt: skip


def show(box: Box, syntax: bool, verbose: bool) -> None:
    for one in box.load("exports", []):
        client = "<world>" if one["client"] == "*" and not syntax else one["client"]
        said = f"({','.join(effective(one['options']))})"
        if syntax:
            print(f"{one['path']}  {client}{said}")
        else:
            gap = "\t" if len(one["path"]) <= 13 else "\n\t\t"
            print(f"{one['path']:<14}{gap}{client}{said if verbose else ''}")


def write_etab(box: Box) -> None:
    """/var/lib/nfs/etab, which mountd reads: every option spelled out."""
    os.makedirs(box.path("/var/lib/nfs"), exist_ok=True)
    file = box.path("/var/lib/nfs/etab")
    rows = [
        f"{one['path']}\t{one['client']}({','.join(complete(one['options']))})\n" for one in box.load("exports", [])
    ]
    if not os.path.exists(file) or box.text("/var/lib/nfs/etab") != "".join(rows):
        replace(file, "".join(rows).encode())


def complete(options: Sequence[str]) -> list[str]:
    has = set(options)
    access = "rw" if "rw" in has else "ro"
    squash = ["no_root_squash" if "no_root_squash" in has else "root_squash",
              "all_squash" if "all_squash" in has else "no_all_squash"]  # fmt: skip
    ids = {word.partition("=")[0]: word for word in has if "=" in word}
    return [
        access, "async" if "async" in has else "sync", "wdelay", "hide", "crossmnt" if "crossmnt" in has else "nocrossmnt",
        "insecure" if "insecure" in has else "secure", *squash,
        "subtree_check" if "subtree_check" in has else "no_subtree_check", "secure_locks", "acl", "no_pnfs",
        *([ids["fsid"]] if "fsid" in ids else []), ids.get("anonuid", "anonuid=65534"),
        ids.get("anongid", "anongid=65534"), "sec=sys", access, *squash,
    ]  # fmt: skip


# -- nfs-ganesha ------------------------------------------------------------------------------------------------------

REPLY = "method return time=1795384883.000000 sender=:1.0 -> destination=:1.1 serial=5 reply_serial=2\n"
MANAGER = "org.ganesha.nfsd.exportmgr."
SHOW_CLIENTS = "org.ganesha.nfsd.clientmgr.ShowClients"


CLIENTS = "nfs-clients"
"""State of ganesha's client manager: address -> {"nfs": used a file, "at": when it was heard last}."""
LAST_USE = "nfs-used"
"""Export id -> when it was used last."""


def mount(box: Box, path: str, client: str) -> bool:
    """A client asks for a path and, when it gets it, reads there. rpc.mountd logs it; ganesha counts and keeps silent."""
    table = served(box)
    if not table:
        return False
    holding = [one for one in table if f"{path}/".startswith(one["path"].rstrip("/") + "/")]
    granted = [one for one in holding if one["client"] in (client, "*")]
    if not any(one["from"] == "dbus" for one in table):
        syslog.mount(box, client, path, "" if granted else "unmatched host" if holding else "not exported")
        return bool(granted)
    with box.edit(CLIENTS, {}) as clients:
        known = clients.setdefault(client, {"nfs": False, "at": 0.0})
        known.update(nfs=known["nfs"] or bool(granted), at=time.time())
    if granted:
        best = max(granted, key=lambda one: len(one["path"]))
        with box.edit(LAST_USE, {}) as used:
            used[str(best.get("id", 0))] = time.time()
    return bool(granted)


def dbus_send(argv: Sequence[str], box: Box) -> int:
    words = [word for word in argv[1:] if word not in ("--system", "--print-reply", "--type=method_call")]
    words = [word for word in words if not word.startswith("--reply-timeout=")]
    clients = words == ["--dest=org.ganesha.nfsd", "/org/ganesha/nfsd/ClientMgr", SHOW_CLIENTS]
    if not clients and (words[:2] != ["--dest=org.ganesha.nfsd", "/org/ganesha/nfsd/ExportMgr"] or len(words) < 3):
        uncovered("dbus-send form")
    verb, said = words[2].removeprefix(MANAGER), [word.partition(":")[2] for word in words[3:]]
    if box.load("service", {}).get("units", {}).get("nfs-ganesha") == "inactive":
        print("Error org.freedesktop.DBus.Error.ServiceUnknown: The name org.ganesha.nfsd was not provided by any "
              ".service files", file=sys.stderr)  # fmt: skip
        return 1
    if clients:
        return show_clients(box)
    if verb in ("AddExport", "UpdateExport"):
        return publish(box, *said)
    if verb == "RemoveExport":
        return remove(box, int(said[0]))
    if verb == "ShowExports":
        return show_ids(box)
    if verb == "DisplayExport":
        return display(box, int(said[0]))
    raise Uncovered(f"export manager {verb}")


def publish(box: Box, path: str, expression: str) -> int:
    import re

    found = re.fullmatch(r"\s*EXPORT\s*\(\s*Export_Id\s*=\s*(\d+)\s*\)\s*", expression, re.IGNORECASE)
    blocks = {block["id"]: block for block in ganesha(box.text(path))}
    if not found or int(found[1]) not in blocks:
        print("Error org.freedesktop.DBus.Error.InvalidFileContent: Selected entries in "
              f"{path} invalid because: export entries not found", file=sys.stderr)  # fmt: skip
        return 1
    block = blocks[int(found[1])]
    with box.edit("exports", []) as table:
        table[:] = [one for one in table if one.get("id") != block["id"]]
        for client, access in block["clients"]:
            table.append({"path": block["path"], "client": client, "options": access, "from": "dbus",
                          "id": block["id"]})  # fmt: skip
    print(REPLY + '   string "1 exports added"')
    return 0


def remove(box: Box, number: int) -> int:
    with box.edit("exports", []) as table:
        kept = [one for one in table if one.get("id") != number]
        gone = len(kept) != len(table)
        table[:] = kept
    if not gone:
        print("Error org.freedesktop.DBus.Error.InvalidArgs: Export id not found", file=sys.stderr)
        return 1
    print(REPLY, end="")
    return 0


PROTOCOLS = ("NFSv3", "MNT", "NMLv4", "RQUOTA", "NFSv40", "NFSv41", "NFSv42", "9P")
READ_ONLY, READ_WRITE = 53489824, 53490144
"""The option bits of a client of ganesha 4.3, as seen for NFSv3 over UDP and TCP without squash."""


def show_ids(box: Box) -> int:
    """ShowExports: id, path, which protocols were used, when last; the server's own pseudo root has id 0."""
    seen = {0: "/", **{one["id"]: one["path"] for one in box.load("exports", []) if "id" in one}}
    used = box.load(LAST_USE, {})
    print(f"{REPLY}{head(started(box))}   array [")
    for number, path in sorted(seen.items()):
        at = used.get(str(number), 0.0)
        print(f'      struct {{\n         uint16 {number}\n         string "{path}"')
        print(f"{protocols({'NFSv3'} if at else set())}{moment(at)}      }}")
    print("   ]")
    return 0


def show_clients(box: Box) -> int:
    """ShowClients: every address that asked anything, by which protocols, and when last (4.3)."""
    print(f"{REPLY}{head(time.time())}   array [")
    for address, known in sorted(box.load(CLIENTS, {}).items()):
        print(f'      struct {{\n         string "::ffff:{address}"')
        print(f"{protocols({'MNT', 'NFSv3'} if known['nfs'] else {'MNT'})}{moment(known['at'])}      }}")
    print("   ]")
    return 0


def started(box: Box) -> float:
    """When ganesha began to count: with the machine."""
    return os.path.getmtime(box.path("/lab/machine.json"))


def head(at: float) -> str:
    """The time with which each answer begins."""
    return f"   struct {{\n      uint64 {int(at)}\n      uint64 {int(at % 1 * 1e9)}\n   }}\n"


def protocols(used: set[str]) -> str:
    rows = (
        f'            struct {{\n               string "{name}"\n'
        f"               boolean {str(name in used).lower()}\n            }}\n"
        for name in PROTOCOLS
    )
    return f"         struct {{\n{''.join(rows)}         }}\n"


def moment(at: float) -> str:
    seconds, nanoseconds = int(at), int(at % 1 * 1e9)
    return f"         struct {{\n            uint64 {seconds}\n            uint64 {nanoseconds}\n         }}\n"


def display(box: Box, number: int) -> int:
    """DisplayExport: id, path, pseudo path, tag, and each client with its option bits."""
    rows = [one for one in box.load("exports", []) if one.get("id") == number]
    if not rows:
        print("Error org.freedesktop.DBus.Error.InvalidArgs: Export id not found", file=sys.stderr)
        return 1
    path = rows[0]["path"]
    print(f'{REPLY}   uint16 {number}\n   string "{path}"\n   string "{path}"\n   string ""\n   array [')
    for one in rows:
        bits = (READ_WRITE if "rw" in one["options"] else READ_ONLY) | (0 if "no_root_squash" in one["options"] else 1)
        fields = [f'string "{one["client"]}/32"', "int32 0", "byte 0", "byte 255", "int32 1", "uint32 4294967294",
                  "uint32 4294967294", "uint32 0", f"uint32 {bits}", "uint32 487"]  # fmt: skip
        print("      struct {\n" + "".join(f"         {field}\n" for field in fields) + "      }")
    print("   ]")
    return 0


def ganesha(text: str) -> Iterator[dict[str, Any]]:
    """The EXPORT blocks of a ganesha configuration, with one (client, options) pair per client address."""
    import re

    text = re.sub(r"#[^\n]*", "", text)
    for found in re.finditer(r"EXPORT\s*\{((?:[^{}]|\{[^{}]*\})*)\}", text):
        own = re.sub(r"\w+\s*\{[^{}]*\}", "", found[1])
        default = setting(own, "Access_Type") or "NONE"
        squash = (setting(own, "Squash") or "root_squash").lower()
        clients = []
        for block in re.findall(r"CLIENT\s*\{([^{}]*)\}", found[1], re.IGNORECASE):
            access = (setting(block, "Access_Type") or default).lower()
            for client in (setting(block, "Clients") or "").split(","):
                if access in ("ro", "rw") and client.strip():
                    clients.append((client.strip(), [access, (setting(block, "Squash") or squash).lower()]))
        if default.lower() in ("ro", "rw"):
            clients.append(("*", [default.lower(), squash]))
        yield {"id": int(setting(own, "Export_Id") or 0), "path": setting(own, "Path"), "clients": clients}


def setting(block: str, name: str) -> str | None:
    import re

    found = re.search(rf"\b{name}\s*=\s*\"?([^;\"]*)\"?\s*;", block, re.IGNORECASE)
    return found[1].strip() if found else None
