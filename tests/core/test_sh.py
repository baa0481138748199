"""The sh encoder: whatever bytes a value holds, the real shell gives back exactly those, and runs nothing of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.encode.sh import fill, fill_text, holes, put_file, q, raw, secret, sh
from controller.secret import Secret

SHELLS = [path for path in (shutil.which("dash"), shutil.which("bash")) if path]
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
NASTY = ["", "-rf", "$(id)", "`id`", "a;b", "x!y", "a'b", '"', "\\", "two\nlines", "*", "~", "%s", "a" * 200, "ü"]


def out(script: str, shell: str = "/bin/sh") -> bytes:
    return subprocess.run([shell, "-s"], input=script.encode(), capture_output=True, check=True).stdout


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("word", NASTY)
def test_a_word_arrives_as_it_is(shell: str, word: str) -> None:
    assert out(sh("printf '%s|' {word} end", word=word), shell) == f"{word}|end|".encode()


@settings(max_examples=100, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=5))
def test_several_words_arrive_as_several(words: list[str]) -> None:
    assert out(sh("printf '%s\\0' {words}", words=words)) == b"".join(word.encode() + b"\0" for word in words)


def test_only_what_is_marked_is_inserted_unquoted() -> None:
    assert sh("{inner} {word}", inner=raw(sh("echo {x}", x="$x")), word="echo hello") == "echo '$x' 'echo hello'"


def test_nul_and_formats_are_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        q("a\0b")
    with pytest.raises(ValueError, match="no format or conversion"):
        sh("{word!r}", word="x")
    with pytest.raises(ValueError, match="NUL"):
        put_file("/x", "a\0b")


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=300))
def test_a_binary_file_arrives_byte_for_byte(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("put") / "it's $HOME"
    out(put_file(str(path), data, 0o600))
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (data, 0o600)


def test_a_large_file_arrives_and_no_temporary_one_stays(tmp_path: Path) -> None:
    data = bytes(range(256)) * 2000
    out(put_file(str(tmp_path / "pxeboot"), data))
    assert (tmp_path / "pxeboot").read_bytes() == data
    assert [path.name for path in tmp_path.iterdir()] == ["pxeboot"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    old = tmp_path / "file"
    old.write_text("old")
    script = put_file(str(old), "new", temp=str(tmp_path / "nosuch" / "temp"))
    assert subprocess.run(["sh", "-s"], input=script.encode(), capture_output=True, check=False).returncode != 0
    assert old.read_text() == "old"


def test_a_secret_comes_in_only_when_it_is_filled(tmp_path: Path) -> None:
    text = f"user {secret('node1/chap')}\n"
    script = put_file(str(tmp_path / "conf"), text)
    assert holes(script) == {"node1/chap"}
    assert "hunter" not in script
    out(fill(script, {"node1/chap": Secret("node1/chap", "hunter2.hunter2")}))
    assert (
        (tmp_path / "conf").read_text()
        == "user hunter2.hunter2\n"
        == fill_text(text, {"node1/chap": Secret("node1/chap", "hunter2.hunter2")})
    )


def test_a_missing_secret_names_itself_and_no_value() -> None:
    with pytest.raises(KeyError, match="node1/chap"):
        fill(f"x {secret('node1/chap')}", {"other": Secret("other", "value")})
