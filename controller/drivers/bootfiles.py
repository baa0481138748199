"""The boot files below the TFTP root: pxeboot and loader.efi of every generation that a host of this server boots.

Each lies at the path that ``filename`` names, which holds the generation, so a new one never replaces the file that a
node is fetching at this moment, and DHCP switches root and boot file together. Proven by digest, never by exit status. Whether
anybody serves them is looked at, too; starting that service is not ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, answered, checked, last_words
from controller.drivers.generations import complete_generations, image_of
from controller.encode.sh import lines, put_file, raw, sh
from controller.errors import Retry, Stall
from controller.graph import Desired, rootfs
from controller.model import Answer, Change, Facts, Probe, Ref, Resource, Run, Seen, Steps, Unseen

BOOT_FILES = ("boot/pxeboot", "boot/loader.efi")
_TFTP = 69


@dataclass(frozen=True)
class TftpRoot:
    root: str
    images: tuple[str, ...]
    """All that there are: a host may be served one of the image that it had before."""


class BootFiles(Base):
    kind: ClassVar[str] = "bootfiles"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, server in sorted(desired.boot_servers.items()):
            root = TftpRoot(server.spec.tftp.root, tuple(sorted(desired.images)))
            yield Resource(Ref(self.kind, name), name, root, origin=server.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        """One line ``digest path`` per boot file that is there; and whether anybody serves TFTP."""
        spec: TftpRoot = resource.spec
        listing = [
            sh('for f in {image}/*/{file}; do test -f "$f" && echo "$(jo_sha "$f") $f"; done', image=image, file=file)
            for image in spec.images
            for file in BOOT_FILES
        ]
        script = lines(sh("cd {root} || exit 75", root=spec.root), looks.SHA256, *listing, sh(":"))
        return (Probe(resource.host, script), Probe(resource.host, looks.listens_udp(_TFTP)))

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        answer, tftp = answered(answers)
        if answer.exit != 0:
            raise Retry(f"cannot look into the TFTP root {resource.spec.root}: {last_words(answer)}")
        if tftp.exit not in (0, 1):
            raise Retry(f"cannot see whether anybody serves TFTP on {resource.host}: {last_words(tftp)}")
        found: dict[str, str] = {}
        for line in answer.out.splitlines():
            one = re.fullmatch(r"([0-9a-f]{64}) (.+)", line)
            if one is None:
                raise Retry(f"cannot read the list of boot files in {resource.spec.root}: {line!r}")
            found[one[2]] = one[1]
        return Seen(found, detail={"tftp": tftp.exit == 0})

    def want(self, resource: Resource, world: World) -> Facts | None:
        seen = world.seen(resource.ref)
        if seen and not seen.detail["tftp"]:
            raise Stall(
                f"cannot serve boot files from {resource.ref.name}: nobody listens on its UDP port {_TFTP}, so no node can boot",
                hint=f"start the TFTP server on {resource.ref.name} (on Debian: service tftpd-hpa start); "
                "jailops does not manage that service",
            )
        return {path: digest for path, digest, _ in _wanted(resource, world)}

    def explain(self, change: Change) -> Explanation:
        new = [path for path, digest in (change.want or {}).items() if (change.have or {}).get(path) != digest]
        return Explanation(f"copy boot files to {change.ref.name}", ", ".join(new))

    def steps(self, change: Change, world: World) -> Steps:
        for path, digest, source in _wanted(change.resource, world):
            if (change.have or {}).get(path) == digest:
                continue
            san, file = source
            got = yield Run(f"read {file}", sh("cat {file}", file=file), host=san, writes=False, timeout=120)
            data = checked(got, f"read {file} on {san}").stdout
            if hashlib.sha256(data).hexdigest() != digest:
                raise Stall(
                    f"cannot publish {path}: {file} on {san} is not the file that the generation's manifest lists",
                    hint="a generation was changed by hand after it was complete; build it again",
                )
            target = f"{change.resource.spec.root}/{path}"
            put = sh("mkdir -p {dir} && {put}", dir=target.rpartition("/")[0], put=raw(put_file(target, data)))
            checked((yield Run(f"write {path}", put, timeout=120)), f"write {target}")


def _wanted(resource: Resource, world: World) -> Iterator[tuple[str, str, tuple[str, str]]]:
    """Path below the TFTP root, digest, and where the file comes from: for every generation that a host should boot."""
    desired = world.desired
    hosts = {host.name for host in desired.hosts_of_boot_server(resource.ref.name)}
    served = {host: world.generations[host] for host in hosts & world.generations.keys()}
    wanted = {(image_of(desired, world.observed, host, one), one) for host, one in served.items()}
    for image, generation in sorted(wanted):
        manifest: Mapping[str, Any] = complete_generations(world.observed, image).get(generation, {})
        san = desired.images[image].spec.san
        for file, digest in sorted(manifest.get("bootFiles", {}).items()):
            yield f"{image}/{generation}/{file}", digest, (san, f"{rootfs(desired, image, generation)}/{file}")
