"""Row M6 in numbers: thousands of hostile values per grammar, many in one run of the real parser, with canaries beside it.

Each value is refused by its encoder, or the program that will read it reads the same; and nothing is run. JAILOPS_VALUES and
JAILOPS_SEED make a run larger, or the same again.
"""

from __future__ import annotations

import json
import os
import secrets
import string
import subprocess
from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from controller.encode import dhcpd, exports, ezjail, ganesha, kea, rcconf, sh, srcconf, tgt
from controller.encode.exports import Client, Export
from controller.encode.hosts import HostEntry
from controller.secret import Secret
from controller.transport.shell import COMMAND
from tests.encode_freebsd.shell import sourced
from tests.encode_freebsd.test_srcconf import made
from tests.encode_servers.real_rig import run
from tests.encode_servers.test_dhcp import judged
from tests.encode_servers.test_iscsi import LUN
from tests.encode_servers.values import CASES, NODE1
from tests.fuzz.canary import Canary
from tests.fuzz.texts import VALUES, kept, texts

SEED = os.environ.get("JAILOPS_SEED") or secrets.token_hex(4)
WORD = string.ascii_letters + string.digits + "._+-"
QUOTED = "".join(sign for sign in map(chr, range(0x20, 0x7F)) if sign not in '"$`\\')


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Shown when the test fails."""
    print(f"JAILOPS_SEED={SEED} JAILOPS_VALUES={VALUES}")
    return Random(f"{SEED} {request.node.name}")


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    """Whatever a test runs with its environment must not run one of these."""
    bird = Canary(tmp_path)
    yield bird
    assert bird.called() == []


# ── shells ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("shell", [["dash", "-s"], ["bash", "-s"], ["tcsh", "-c", COMMAND]], ids=lambda argv: argv[0])
def test_M6_sh_words_secrets_and_files(random: Random, canary: Canary, tmp_path: Path, shell: list[str]) -> None:
    """As a command line, as what is put into a script just before it is sent, and as a file's text; below csh as well."""
    words = kept(texts(random), sh.q)
    names = {f"secret{number}": Secret("", word) for number, word in enumerate(words)}
    file = tmp_path / "it's $(canary)"
    script = sh.lines(
        *(sh.sh("printf '%s\\0' {word}", word=word) for word in words),
        sh.put_file(str(file), "".join(f"{sh.secret(name)}|" for name in names)),
    )
    filled = sh.fill(script, names).encode()
    done = subprocess.run(shell, input=filled, capture_output=True, check=True, env=canary.environment)
    assert (done.stdout.decode().split("\0")[:-1], done.stderr) == (words, b"")
    assert file.read_bytes().decode() == "".join(f"{word}|" for word in words)


@pytest.mark.parametrize("shell", ["/usr/bin/dash", "/usr/bin/bash"])
def test_M6_rc_conf(random: Random, canary: Canary, tmp_path: Path, shell: str) -> None:
    values = kept(texts(random, QUOTED), lambda value: rcconf.render({"x": value}))
    variables = {f"v_{number}": value for number, value in enumerate(values)}
    text = rcconf.render(variables)
    assert sourced(tmp_path / "rc.conf", text, variables, shell, canary.environment) == variables
    assert rcconf.parse(text) == variables


@pytest.mark.parametrize("shell", ["/usr/bin/dash", "/usr/bin/bash"])
def test_M6_files_of_ezjail(random: Random, canary: Canary, tmp_path: Path, shell: str) -> None:
    def files() -> Iterator[ezjail.JailFile]:
        for number, text in enumerate(texts(random, QUOTED)):
            plain = ezjail.jail_file(f"jail{number}", "198.51.100.61", "/iscsi/jails/x")
            key = random.choice(list(plain.settings))
            yield replace(plain, settings={**plain.settings, key: text})

    taken = kept(files(), ezjail.render)
    for at in range(0, len(taken), 200):
        some = taken[at : at + 200]
        variables = {f"jail_{one.safename}_{key}": value for one in some for key, value in one.settings.items()}
        text = "".join(map(ezjail.render, some))
        assert sourced(tmp_path / "jails", text, variables, shell, canary.environment) == variables
    assert [ezjail.parse(ezjail.render(one)) for one in taken] == taken


def test_M6_make_conf(random: Random, canary: Canary, tmp_path: Path) -> None:
    alphabet = string.ascii_letters + string.digits + " ._/+=,:-"
    values = kept(texts(random, alphabet), lambda value: srcconf.render_make({"X": value}))
    options = {f"X_{number}": value for number, value in enumerate(values)}
    text = srcconf.render_make(options)
    assert made(tmp_path / "make.conf", text, list(options), canary.environment) == options
    assert srcconf.parse_make(text) == options


# ── DHCP ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

FIELDS = [field.name for field in fields(HostEntry)]


def entries(random: Random) -> Iterator[HostEntry]:
    """Nodes in 10/8, each with one field that is hostile."""
    for number, text in enumerate(texts(random, WORD + "/:")):
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        mac = f"02:00:{number >> 24:02x}:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
        plain = replace(NODE1, name=f"node{number}", mac=mac, address=address)
        field = random.choice(FIELDS)
        value: Any = (text,) if field in ("nameservers", "routers") else text
        prefix = {"root_path": "198.51.100.10:/", "filename": "boot/"}.get(field, "") if random.random() < 0.7 else ""
        yield replace(plain, **{field: prefix + value if prefix else value})


def test_M6_dhcpd_conf(random: Random, canary: Canary, tmp_path: Path) -> None:
    """`dhcpd -t` takes every file, and our own reader reads the same; what dhcpd then answers is asked below."""
    taken = unlike(kept(entries(random), lambda one: dhcpd.render([one], "x")))
    for at in range(0, len(taken), 500):
        some = taken[at : at + 500]
        text = dhcpd.render(some, "hostile")
        answer = judged(tmp_path, text, canary.environment)
        assert (answer.returncode, dhcpd.parse_errors(answer.stderr)) == (0, ()), answer.stderr
        assert sorted(dhcpd.parse(text), key=lambda one: one.address) == sorted(some, key=lambda one: one.address)


def unlike(given: list[HostEntry]) -> list[HostEntry]:
    """One of each name, and none without an address of its own."""
    return list({one.name.lower(): one for one in given}.values())


def hosts(random: Random) -> list[HostEntry]:
    """What a server in 10/8 can be given: entries that every grammar takes and that lie there."""
    taken = unlike(kept(entries(random), lambda one: dhcpd.render([one], "hostile")))
    return [one for one in taken if one.address.startswith("10.") and one.mac.startswith("02:00:")]


@pytest.mark.lab
def test_M6_what_dhcpd_tells_a_node(random: Random, canary: Canary, tmp_path: Path, monkeypatch: Any) -> None:
    """Every host of the file is asked for, and what the server offers is what the entry says."""
    monkeypatch.setenv("PATH", canary.environment["PATH"])
    asked = hosts(random)
    files = {"jailops.conf": dhcpd.render(asked, "hostile"), "macs": "\n".join(one.mac for one in asked)}
    offers = [json.loads(line) for line in run("dhcpd.sh", files, tmp_path, 3600)["offers"].text.splitlines()]
    assert [told(one) for one in asked] == offers


def told(entry: HostEntry) -> dict[str, Any]:
    said = {name: getattr(entry, name) for name in FIELDS if name != "name" and getattr(entry, name)}
    return {
        **said,
        "mask": [entry.mask],
        **{name: list(said[name]) for name in ("routers", "nameservers") if name in said},
    }


@pytest.mark.lab
def test_M6_kea(random: Random, canary: Canary, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", canary.environment["PATH"])
    entries = hosts(random)
    config = (CASES / "kea" / "kea-dhcp4.conf").read_text()
    many = json.dumps([vars_of(one) for one in entries])
    said = run("kea.sh", {"kea.conf": config, "many.json": many}, tmp_path, 3600)
    assert said["many"].text == ""
    assert kea.reply(said["set-many"].text) == kea.Reply(0, "Configuration successful.")
    found = kea.entries(kea.reply(said["get-many"].text).arguments)
    assert sorted(found, key=lambda one: one.address) == sorted(entries, key=lambda one: one.address)


def vars_of(entry: HostEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in FIELDS}


# ── the SAN ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.lab
def test_M6_exports(random: Random, canary: Canary, tmp_path: Path, monkeypatch: Any) -> None:
    """What the kernel's table holds after exportfs has read the file."""
    monkeypatch.setenv("PATH", canary.environment["PATH"])

    def listed() -> Iterator[Export]:
        for number, text in enumerate(texts(random, WORD + "/")):
            plain = Client(f"198.51.{number >> 8 & 255}.{number & 255}", random.choice(("ro", "rw")))
            hostile = random.random() < 0.2
            yield Export(
                f"/run/export/{number}" if hostile else f"/{text}",
                (replace(plain, address=text) if hostile else plain,),
            )

    taken = list({one.path: one for one in kept(listed(), lambda one: exports.render_linux([one], "hostile"))}.values())
    written = exports.render_linux(taken, "hostile")
    said = run("exportfs.sh", {"jailops.exports": written}, tmp_path, 3600)
    found = {each.path: (each.client, each.access, each.root_squash) for each in exports.parse_etab(said["etab"].text)}
    assert found == {one.path: (one.clients[0].address, one.clients[0].access, False) for one in taken}
    assert exports.parse_linux(written) == tuple(sorted(taken))
    assert exports.parse_freebsd(exports.render_freebsd(taken, "hostile")) == tuple(sorted(taken))
    assert [each.export for each in ganesha.parse(ganesha.render(taken, 1))] == sorted(taken)


STAND_IN = """#!/bin/sh
case " $* " in *" show "*) exit 0 ;; esac
for word in "$@"; do printf '%s\\0' "$word"; done >> {said}
printf '\\n' >> {said}
"""


def test_M6_targets_conf(random: Random, canary: Canary, tmp_path: Path) -> None:
    """The real tgt-admin reads the files and has a shell run tgtadm, whose place a recorder takes; lsof finds nothing in use."""
    volumes = tmp_path / "volumes"
    said, tools = tmp_path / "said", Path(canary.environment["PATH"].partition(":")[0])
    for name, script in {"tgtadm": STAND_IN.format(said=said), "lsof": "#!/bin/sh\nexit 1\n"}.items():
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    said.touch()
    taken = [one for one in kept(luns(random, volumes), tgt.render) if one.backing.startswith(f"{volumes}/")]
    taken = list({one.chap_user: one for one in {one.iqn: one for one in taken}.values()}.values())
    for one in taken:
        Path(one.backing).parent.mkdir(parents=True, exist_ok=True)
        Path(one.backing).touch()
    for at in range(0, len(taken), 25):
        conf = tmp_path / "targets.conf"
        conf.write_text("".join(map(tgt.render, taken[at : at + 25])))
        command = ["tgt-admin", "-c", str(conf), "-e"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=canary.environment)
        assert (done.stdout, done.stderr) == ("", "")
        assert dict(recorded(said)) == {one.iqn: made_of(one) for one in taken[at : at + 25]}
        said.write_text("")


def luns(random: Random, directory: Path) -> Iterator[tgt.Lun]:
    names = [field.name for field in fields(tgt.Lun)]
    for number, text in enumerate(texts(random, WORD)):
        plain = replace(
            LUN, iqn=f"iqn.2026-11.org.example:n{number}", backing=f"{directory}/n{number}", chap_user=f"u{number}"
        )
        field = random.choice(names)
        prefix = {
            "iqn": "iqn.2026-11.org.example:",
            "initiator": "iqn.2026-11.org.example:",
            "backing": f"{directory}/",
        }
        yield replace(plain, **{field: prefix.get(field, "") + text[: random.choice((12, 16, 200))]})


def made_of(lun: tgt.Lun) -> set[str]:
    return {
        lun.backing,
        f"scsi_id={lun.scsi_id}",
        f"scsi_sn={lun.serial}",
        lun.initiator,
        str(lun.chap_user),
        str(lun.chap_secret),
    }


def recorded(said: Path) -> Iterator[tuple[str, set[str]]]:
    """Target -> the words that tgtadm was told about it."""
    blocks = said.read_text().split("--op\0new\0--mode\0target\0--tid\0")[1:]
    for block in blocks:
        words = [word for line in block.splitlines() for word in line.split("\0")]
        told = {value for option, value in pairwise(words) if option in ("-b", "--params", "-Q")}
        accounts = {word.partition("=")[2] for word in words if word.startswith(("--user=", "--password="))}
        yield words[2], told | accounts
