"""Fixtures of the real lab. What a run that was killed left behind is removed before the first of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.child import lab_directory, sweep
from tests.lab.net import Net, Port, switched
from tests.lab.server import Server, server


@pytest.fixture(scope="session", autouse=True)
def _swept() -> None:
    sweep()


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where the machines of one test keep their files."""
    with lab_directory() as directory:
        yield directory


@pytest.fixture
def net() -> Iterator[Net]:
    with switched() as net:
        yield net


@pytest.fixture
def boot(net: Net, directory: Path) -> Iterator[Server]:
    with server(directory / "boot", net.plug("boot", "198.51.100.11")) as boot:
        yield boot


@pytest.fixture
def san(net: Net, directory: Path) -> Iterator[Server]:
    with server(directory / "san", net.plug("san", "198.51.100.10")) as san:
        yield san


@pytest.fixture
def node(net: Net) -> Port:
    """The network card of the article's diskless host."""
    return net.plug("node", "198.51.100.50", mac="12:34:56:78:90:ab", interface="em0")
