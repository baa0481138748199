"""Framing, with a real /bin/sh on a pipe and with bytes cut anywhere."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.errors import Stall
from controller.model import Answer
from controller.transport.frames import Frames, Reply, request

NONCE = "00112233445566778899aabbccddeeff"


def frames(count: int, cap: int = 1000) -> Frames:
    return Frames("node1", NONCE, count, started=0.0, cap=cap)


def through(text: bytes, shell: str = "/bin/sh") -> tuple[bytes, bytes]:
    done = subprocess.run([shell, "-s"], input=text, capture_output=True, check=True, timeout=30)
    return done.stdout, done.stderr


def read(out: bytes, err: bytes, count: int, size: int, cap: int = 1 << 20) -> list[Reply]:
    reader = frames(count, cap)
    for stream, data in ((False, out), (True, err)):
        for start in range(0, len(data), size):
            reader.feed(data[start : start + size], stderr=stream, now=1.0)
    assert reader.complete
    return reader.replies


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.binary(max_size=40).filter(lambda b: b"\0" not in b), min_size=1, max_size=4))
def test_any_bytes_come_back_as_they_were_sent(words: list[bytes]) -> None:
    scripts = ["printf %s '" + w.decode("utf-8", "surrogateescape").replace("'", "'\\''") + "'" for w in words]
    replies = read(*through(request(NONCE, scripts)), len(words), 7)
    assert [reply.stdout for reply in replies if isinstance(reply, Answer)] == words


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(1, 50), st.integers(0, 255))
def test_cut_anywhere(out: bytes, err: bytes, size: int, status: int) -> None:
    text = f"{NONCE}.0.0.\n".encode() + out + f"{NONCE}.1.{status}.\n".encode()
    errors = f"greeting {NONCE}.0.0.\n".encode() + err + f"{NONCE}.1.0.\n".encode()
    assert read(text, errors, 1, size) == [Answer(status, out, err, 1.0)]


@pytest.mark.parametrize("end", [f"{NONCE}.1.", f"{NONCE}.1.0", f"{NONCE}.1.0.", f"{NONCE}.2.0.\n", f"{NONCE}.1.x.\n"])
def test_less_than_a_whole_marker_ends_nothing(end: str) -> None:
    reader = frames(1)
    reader.feed(f"{NONCE}.0.0.\n{end}".encode(), stderr=False, now=1.0)
    reader.feed(f"{NONCE}.0.0.\n{NONCE}.1.0.\n".encode(), stderr=True, now=1.0)
    assert not reader.complete
    assert reader.replies == []


def test_both_streams_must_end() -> None:
    reader = frames(1)
    reader.feed(f"{NONCE}.0.0.\nout{NONCE}.1.0.\n".encode(), stderr=False, now=1.0)
    assert reader.replies == []
    reader.feed(f"{NONCE}.0.0.\n".encode(), stderr=True, now=2.0)
    assert reader.replies == []
    reader.feed(f"{NONCE}.1.0.\n".encode(), stderr=True, now=3.0)
    assert reader.replies == [Answer(0, b"out", b"", 3.0)]


@pytest.mark.parametrize("size", [1, 63, 64, 65, 999, 100_000])
def test_a_flood_keeps_memory_small_and_its_end_is_found(size: int) -> None:
    out = f"{NONCE}.0.0.\n".encode() + b"x" * 5000 + f"{NONCE}.1.0.\nnext{NONCE}.2.7.\n".encode()
    reader = frames(2)
    for start in range(0, len(out), size):
        reader.feed(out[start : start + size], stderr=False, now=1.0)
        assert len(reader.unclaimed) <= 1064
    reader.feed(f"{NONCE}.0.0.\n{NONCE}.1.0.\n{NONCE}.2.0.\n".encode(), stderr=True, now=1.0)
    flooded, after = reader.replies
    assert isinstance(flooded, Stall)
    assert after == Answer(7, b"next", b"", 0.0)
