"""Hostile texts for one grammar: made to be run, and such as its encoder must carry unchanged. The same seed, the same texts."""

from __future__ import annotations

import os
import string
from collections.abc import Callable, Iterator
from random import Random
from typing import TypeVar

from tests.fuzz.hostile import ENDS, HOSTILE

VALUES = int(os.environ.get("JAILOPS_VALUES", "300"))
"""How many values each grammar is given: a sample for `make test`, 10,000 for `make fuzz`."""

PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "
T = TypeVar("T")


def texts(random: Random, alphabet: str = PRINTABLE) -> Iterator[str]:
    """Without end. Half are of the alphabet alone, the rest mostly of it with one sign, or one hostile text, too many."""
    while True:
        plain = "".join(random.choices(alphabet, k=random.choice((1, 3, 8, 20, 60, 200))))
        bad = random.choice(HOSTILE)
        at = random.randrange(len(plain) + 1)
        yield plain
        yield random.choice(
            (
                bad,
                "".join(sign for sign in bad if sign in alphabet),
                plain[:at] + bad + plain[at:],
                plain[:at] + random.choice(ENDS) + plain[at:],
                plain[:at] + chr(random.choice((random.randrange(0xD7FF), random.randrange(0x200)))) + plain[at:],
            )
        )


def kept(given: Iterator[T], render: Callable[[T], object], count: int = VALUES) -> list[T]:
    """Of so many values those that the encoder takes: at least every tenth, or what follows would show nothing."""
    taken = []
    for _ in range(count):
        one = next(given)
        try:
            render(one)
        except ValueError:
            continue
        taken.append(one)
    assert len(taken) >= count // 10
    return taken
