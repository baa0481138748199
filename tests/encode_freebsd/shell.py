"""The real shell as a witness: what variables hold after it has sourced a text."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path


def sourced(
    file: Path, text: str, names: Iterable[str], shell: str = "/usr/bin/dash", env: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Write `text`, let `shell` source it as /etc/rc does, and read the variables back."""
    file.write_text(text)
    wanted = list(names)
    prints = "".join(f'printf "%s\\0" "${{{name}}}"\n' for name in wanted)
    script = f'set -eu\n. "$1"\n{prints}'.encode()
    done = subprocess.run(
        [shell, "-s", "--", str(file)], input=script, capture_output=True, check=True, timeout=60, env=env
    )
    assert done.stderr == b""
    values = done.stdout.decode().split("\0")[:-1]
    return dict(zip(wanted, values, strict=True))
