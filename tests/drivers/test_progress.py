"""How far a build is, by the markers of its log: the stages of its own job weigh, with make's inside those that call make."""

from __future__ import annotations

import pytest

from controller.drivers import recipe_image, recipe_packages
from controller.drivers.layers import Log
from controller.drivers.recipe_world import COMPILED, UNPACKED
from controller.encode.job import Job

WORLD = "--- jailops: prepare\n--- jailops: source\n--- jailops: buildworld\n"
MADE = ">>> World build started on Sun Nov 22 20:29:17 UTC 2026\n>>> stage 4.2: building libraries\n"
KERNEL = f"{WORLD}{MADE}>>> World build completed on Sun Nov 22\n--- jailops: buildkernel\n"
CONFIGURED = ">>> Kernel build for MYKERNEL started on Sun Nov 22\n>>> stage 1: configuring the kernel\n"
INSTALLED = (
    f"{KERNEL}--- jailops: installworld\n>>> Installing everything started on Sun Nov 22\n--- jailops: base.txz\n"
)
WAITING = "--- jailops: waiting for the build before it\n"

ROWS = [
    (COMPILED, "", "starting", None),
    (COMPILED, WAITING, "waiting for the build before it", None),
    (COMPILED, f"{WAITING}--- jailops: prepare\n", "prepare", 0),
    (COMPILED, WORLD, "buildworld", 11),
    (COMPILED, f"{WORLD}{MADE}", "buildworld: 4.2: building libraries", 19),
    (COMPILED, KERNEL, "buildkernel", 38),
    (COMPILED, f"{KERNEL}{CONFIGURED}", "buildkernel: 1: configuring the kernel", 38),
    (COMPILED, INSTALLED, "base.txz", 90),
    (COMPILED, "--- jailops: prepare\n--- jailops: source\n--- jailops: installworld\n", "installworld", 79),
    (UNPACKED, "--- jailops: prepare\n--- jailops: sets\n--- jailops: unpack\n", "unpack", 53),
    (
        recipe_packages.STAGES,
        "--- jailops: prepare\n--- jailops: clone\n--- jailops: copy\n--- jailops: packages\n",
        "packages",
        29,
    ),
    (
        recipe_image.STAGES,
        "--- jailops: prepare\n--- jailops: clone\n--- jailops: configuration\n",
        "configuration",
        49,
    ),
    (recipe_image.STAGES, "--- jailops: prepare\n--- jailops: publish\n", "publish", 97),
]


@pytest.mark.parametrize(("stages", "markers", "stage", "percent"), ROWS, ids=[row[2] for row in ROWS])
def test_how_far_it_is(stages: dict[str, float], markers: str, stage: str, percent: int | None) -> None:
    found = Log(Job("running", started=5.0), f"{markers.count(chr(10))}\n{markers}").progress(stages)
    assert (found.stage, found.started) == (stage, 5.0)
    assert (found.ratio if found.ratio is None else round(100 * found.ratio)) == percent
