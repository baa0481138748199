"""Secrets in files, variables and age files: found or refused by name, and seen by nobody."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pyrage
import pytest

from controller.encode.sh import fill_text, holes, secret
from controller.errors import Stall
from controller.manifests import HostSpec
from controller.manifests.load import Blob, load, pick
from controller.secret import Secret
from controller.vault import Vault
from tests.manifests.support import CASES
from tests.manifests.support import blob as file_blob

VALUE = "Kn4ckw0rst-am-M0nt4g"
OURS, OTHERS = pyrage.x25519.Identity.generate(), pyrage.x25519.Identity.generate()


def sealed(text: bytes, identity: pyrage.x25519.Identity = OURS) -> str:
    """As `age --armor` writes it."""
    return str(pyrage.encrypt(text, [identity.to_public()], armored=True), "ascii")


def hole(text: bytes, identity: pyrage.x25519.Identity = OURS) -> str:
    return "age:" + "".join(sealed(text, identity).splitlines()[1:-1])


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    """As age-keygen writes it."""
    file = tmp_path / "identity"
    file.write_text(f"# created: 2026-11-29T00:00:00Z\n# public key: {OURS.to_public()}\n{OURS}\n")
    return file


@pytest.mark.parametrize("name", ["chap", "env:NODE1_CHAP", hole(VALUE.encode() + b"\n")], ids=["file", "env", "age"])
def test_C8_a_secret_from_each_place_fills_its_hole(tmp_path: Path, identity: Path, name: str) -> None:
    (tmp_path / "chap").write_text(f"{VALUE}\n")
    vault = Vault(tmp_path, identity, {"JAILOPS_SECRET_NODE1_CHAP": f"{VALUE}\n", "PATH": "/bin"})
    text = f"secret {secret(name)};"
    assert holes(text) == {name}
    assert fill_text(text, vault.values(holes(text))) == f"secret {VALUE};"
    assert vault.digest(text) == vault.digest(f"secret {VALUE};")


DECRYPT, USE = (f"cannot {act} the secret in the age file that ends in ENDS" for act in ("decrypt", "use"))
WRONG = {
    "no variable": ("env:ABSENT", "cannot read the secret JAILOPS_SECRET_ABSENT: there is no such variable"),
    "empty variable": ("env:EMPTY", "cannot use the secret JAILOPS_SECRET_EMPTY: it is empty or holds signs"),
    "two lines": ("env:LINES", "cannot use the secret JAILOPS_SECRET_LINES: it is empty or holds signs"),
    "wrong key": (hole(VALUE.encode(), OTHERS), f"{DECRYPT}: it is for other keys than ours"),
    "damaged": (hole(VALUE.encode())[:-8], f"{DECRYPT}: it is damaged"),
    "no age file": ("age:" + "A" * 64, f"{DECRYPT}: it is damaged"),
    "nothing in it": (hole(b""), f"{USE}: it is empty or holds signs"),
    "lines in it": (hole(f"{VALUE}\n$(id)".encode()), f"{USE}: it is empty or holds signs"),
    "no text in it": (hole(b"\xff" + VALUE.encode()), f"{DECRYPT}: it holds no text"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "message"), WRONG.values(), ids=list(WRONG))
def test_C8_what_cannot_be_used_is_named_and_never_shown(
    tmp_path: Path, identity: Path, name: str, message: str
) -> None:
    variables = {"JAILOPS_SECRET_EMPTY": "", "JAILOPS_SECRET_LINES": f"{VALUE}\n{VALUE}"}
    with pytest.raises(Stall) as caught:
        Vault(tmp_path, identity, variables).values(frozenset({name}))
    assert str(caught.value).startswith(message.replace("ENDS", name[-12:]))
    assert caught.value.hint
    assert VALUE not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__}"


IDENTITIES = {
    "none set": (None, "no identity is set"),
    "none there": ("", "cannot be read: No such file or directory"),
    "none in it": ("# nothing\n", "holds no identity"),
    "no identity": (f"{VALUE}\n", "is no identity of age"),
}


@pytest.mark.parametrize(("content", "message"), IDENTITIES.values(), ids=list(IDENTITIES))
def test_C8_an_identity_that_is_none(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "identity"
    if content:
        file.write_text(content)
    with pytest.raises(Stall, match=message) as caught:
        Vault(tmp_path, None if content is None else file).values(frozenset({hole(b"abc")}))
    assert VALUE not in f"{caught.value} {caught.value.hint}"


def test_C8_no_variable_but_those_for_secrets_can_be_named(tmp_path: Path) -> None:
    with pytest.raises(Stall, match="there is no such variable"):
        Vault(tmp_path, None, {"PATH": VALUE, "AWS_KEY": VALUE}).values(frozenset({"env:PATH"}))


def test_C8_a_secret_is_neither_printed_nor_copied() -> None:
    one = Secret("node1/chap", VALUE)
    shown = [
        repr(one),
        str(one),
        f"{one}",
        f"{one!r:>40}",
        repr([one]),
        repr({"a": one}),
        f"{one:s}",
    ]
    assert not [text for text in shown if VALUE in text]
    assert str(one) == "<secret node1/chap>"
    for act in (json.dumps, pickle.dumps, copy.copy, copy.deepcopy, vars):
        with pytest.raises(TypeError) as caught:
            act(one)
        assert VALUE not in str(caught.value)
    assert one != Secret("node1/chap", VALUE)
    assert one.reveal() == VALUE


def spec(ref: str) -> str:
    """The base of the cross-checks with another host key's secret."""
    text = (CASES / "base.yaml").read_text()
    assert text.count("    file: node1/key\n") == 1
    return text.replace("    file: node1/key\n", ref)


def test_C8_an_age_file_stands_in_a_manifest_as_it_is() -> None:
    lines = "".join(f"      {line}\n" for line in sealed(b"abc").splitlines())
    loaded = load([Blob("f.yaml", "1", spec(f"    age: |\n{lines}").encode())])
    assert loaded.problems == ()
    (host,) = [one for one in pick(loaded.objects, HostSpec) if one.name == "node1"]
    assert holes(secret(host.spec.host_key_secret.hole)) == {
        "age:" + "".join(line.strip() for line in lines.splitlines()[1:-1])
    }


def test_C8_a_manifest_of_old_means_the_same() -> None:
    hosts = pick(load([file_blob(CASES / "base.yaml", CASES)]).objects, HostSpec)
    assert [one.spec.host_key_secret.hole for one in hosts] == ["node1/key", "node2/key"]
