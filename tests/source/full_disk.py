"""Run by test_G10_disk_full_during_fetch on a small disk: fetch, run out of space, and still read the old revision."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from controller.errors import Retry
from controller.source import GitSettings, GitSource
from tests.source.remotes import Person, said


async def main(mirror: Path, person: Person) -> None:
    source = GitSource(GitSettings(url=str(person.remote), mirror=mirror, allow_local=True))
    good = await source.fetch()
    print(good.revision)
    person.publish({"noise.bin": os.urandom(3_000_000)})
    try:
        await source.fetch()
    except Retry as exc:
        print(f"Retry: {str(exc).split(': ', 1)[1].split(' (')[0]}")
    head = await source.head()
    print(head and head.revision)
    print(sorted((await said(source, good.revision)).items()))


asyncio.run(main(Path(sys.argv[1]), Person(Path(sys.argv[3]), Path(sys.argv[2]))))
