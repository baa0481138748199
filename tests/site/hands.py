"""A person with an SSH client: runs scripts on the machines of a site, as the controller does."""

from __future__ import annotations

from dataclasses import dataclass

import asyncssh

from controller.lab.site import Site


@dataclass(frozen=True, slots=True)
class Hands:
    site: Site

    async def ask(self, name: str, script: str, command: str = "exec /bin/sh -s") -> tuple[int, str, str]:
        """Exit status, stdout and stderr of a script over SSH, with the machine's host key pinned."""
        end = self.site.endpoints[name]
        known = asyncssh.import_known_hosts(f"[{end.host}]:{end.port} {end.host_key}\n")
        keys = [str(self.site.client_key)]
        options = {"username": "root", "client_keys": keys, "known_hosts": known}
        async with asyncssh.connect(end.host, end.port, **options) as connection:
            done = await connection.run(command, input=script)
        return done.exit_status if done.exit_status is not None else -1, str(done.stdout), str(done.stderr)

    async def sh(self, name: str, script: str) -> str:
        """A script that must succeed; its stdout."""
        status, out, err = await self.ask(name, script)
        assert status == 0, f"{name}: exit {status}\n{out[-2000:]}\n{err[-2000:]}"
        return out

    async def serve(self, entries: str) -> None:
        """Write the boot server's include file and restart its DHCP daemon."""
        await self.sh("boot", f"cat > /etc/dhcp/jailops.conf <<'end'\n{entries}end\nservice isc-dhcp-server restart\n")
