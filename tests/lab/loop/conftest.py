"""What every scenario prints when one of its tests fails: how all objects stand, and what the controller said last."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.loop.stage import RealStage


@pytest.fixture(autouse=True)
def _explained(request: pytest.FixtureRequest) -> Iterator[None]:
    stage: RealStage | None = request.getfixturevalue("stage") if "stage" in request.fixturenames else None
    yield
    if stage is not None:
        print(stage.report())
