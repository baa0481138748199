"""The build VM itself: what it compiles with, where branches are, and which of its jobs nobody wants any more.

The compiler goes into what is built, as the commit of a branch does, so both are known before anything is; and they are
remembered, so that they are known while the VM is off. A running job whose layer no manifest asks for is stopped: up to
the rename that ends it, a build can be stopped anywhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from controller.drivers.base import Base, Explanation, World, answered, checked, last_words
from controller.drivers.builds import LAYERS, wanted_jobs
from controller.drivers.inputs import NO_COMPILER
from controller.drivers.power import Switch, switch
from controller.encode.job import job_forget_script, job_stop_script, jobs_running_script
from controller.encode.sh import lines, sh
from controller.errors import Retry
from controller.graph import Desired
from controller.model import Answer, Change, Facts, Probe, Ref, Resource, Run, Script, Seen, Steps, Unseen

_LOOK = Script(
    """printf 'machine %s\\n' "$(uname -m)"
printf 'compiler %s\\n' "$(cc --version 2>/dev/null | head -n 1)\""""
)


@dataclass(frozen=True)
class Builder:
    jobs: str
    """Where its jobs lie."""
    tips: str
    """Where it keeps what it was told about branches and tags."""
    refs: tuple[tuple[str, str], ...]
    """URL and ref of every branch and tag that an image names instead of a commit."""
    wanted: frozenset[str] | None
    """The jobs of all layers that the manifests ask for; None while not all of them can be named."""
    power: Switch | None = None
    """Its own, when it is ours to switch."""


class BuildVMs(Base):
    kind: ClassVar[str] = "buildvm"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, vm in sorted(desired.build_vms.items()):
            work = vm.spec.work_dir
            wanted, power = wanted_jobs(desired, name), switch(desired, name)
            spec = Builder(f"{work}/jobs", f"{work}/tips", _refs(desired, name), wanted, power)
            yield Resource(Ref(self.kind, name), name, spec, (), vm.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        spec: Builder = resource.spec
        return (
            Probe(resource.host, _LOOK),
            Probe(resource.host, jobs_running_script(spec.jobs)),
            *([Probe(resource.host, _ask(spec))] if spec.refs else []),
            *([spec.power.probe] if spec.power else []),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        power: Switch | None = resource.spec.power
        if power is not None:
            *answers, outside = answers
            if isinstance(answers[0], Unseen) and power.at_rest(outside):
                return _at_rest(resource, applied)
        answer, running, *told = answered(answers)
        said = dict(line.split(" ", 1) for line in answer.out.splitlines() if " " in line)
        if answer.exit != 0 or not said.get("machine"):
            raise Retry(f"cannot see what {resource.host} compiles with: {last_words(answer)}")
        if running.exit != 0:
            raise Retry(f"cannot see which builds run on {resource.host}: {last_words(running)}")
        toolchain = f"{said.get('compiler') or NO_COMPILER} on {said['machine']}"
        obsolete = _obsolete(resource.spec, running.out.splitlines())
        # What the server does not answer now is as it was.
        before: Mapping[str, str] = (applied or {}).get("tips", {})
        known = {key: before[key] for key in (f"{url} {ref}" for url, ref in resource.spec.refs) if key in before}
        tips = known | (_told(told[0], resource.host) if told else {})
        detail = {"running": sorted(running.out.splitlines())}
        return Seen({"toolchain": toolchain, "obsolete": obsolete, "tips": tips}, detail=detail)

    def want(self, resource: Resource, world: World) -> Facts | None:
        """What it is, without obsolete jobs. It is remembered as what was applied."""
        seen = world.seen(resource.ref)
        return {**(seen.facts or {}), "obsolete": []} if seen else None

    def explain(self, change: Change) -> Explanation:
        jobs = ", ".join((change.have or {}).get("obsolete", ()))
        return Explanation(f"stop {jobs} on {change.ref.name}", "no manifest asks for what is being built any more")

    def steps(self, change: Change, world: World) -> Steps:
        del world
        jobs = change.resource.spec.jobs
        for job in (change.have or {}).get("obsolete", ()):
            # Forgotten at once: when it is wanted again some day, it has not failed.
            script = lines(job_stop_script(jobs, job), job_forget_script(jobs, job, "cancelled"))
            checked((yield Run(f"stop {job}", script, timeout=60)), f"stop {job}")


def _at_rest(resource: Resource, applied: Facts | None) -> Seen:
    """What is known of a VM that is off, as it should be."""
    if applied is None:
        raise Retry(f"cannot say yet what {resource.host} compiles with: it is off, and was never looked at")
    return Seen(applied, detail={"says": "off: this is what it was like", "running": [], "atRest": True})


def _refs(desired: Desired, build_vm: str) -> tuple[tuple[str, str], ...]:
    images = [one.spec for _, one in sorted(desired.images.items()) if one.spec.build_vm == build_vm]
    return tuple(sorted({(git.url, git.ref) for spec in images if (git := spec.source.git) is not None and git.ref}))


def _ask(spec: Builder) -> Script:
    """One line ``tip URL REF COMMIT`` for each, from what the VM keeps of the last answer; no commit: there is no such ref.

    The server is asked when that is older than ten minutes, by whoever looks, and never for longer than eight seconds.
    """
    asked = [
        sh("tip {file} {url} {ref}", file=f"{spec.tips}/{_digest(f'{url} {ref}')}", url=url, ref=ref)
        for url, ref in spec.refs
    ]
    return lines(
        sh(
            """mkdir -p {tips} || exit 75
tip() {{
  if test -z "$(find "$1" -mmin -10 2>/dev/null)"; then
    GIT_TERMINAL_PROMPT=0 timeout --foreground -k 1 8 git ls-remote -- "$2" "$3" "$3^{{}}" > "$1.$$" 2>/dev/null </dev/null &&
      mv -f "$1.$$" "$1"
    rm -f "$1.$$"
  fi
  test -f "$1" || return 0
  at=
  while read -r commit name; do at=$commit; done < "$1"
  echo "tip $2 $3 $at"
}}""",
            tips=spec.tips,
        ),
        *asked,
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _told(answer: Answer, host: str) -> dict[str, str]:
    """``URL REF`` -> commit, or "" when there is no such ref. An annotated tag's commit comes last (git-ls-remote(1))."""
    found = {}
    for line in answer.out.splitlines():
        one = re.fullmatch(r"tip (\S+ \S+) ([0-9a-f]{40}|)", line)
        if answer.exit != 0 or one is None:
            raise Retry(f"cannot see where branches are, on {host}: {last_words(answer)}")
        found[one[1]] = one[2]
    return found


def _obsolete(spec: Builder, running: Sequence[str]) -> list[str]:
    if spec.wanted is None:
        return []
    ours = tuple(f"{kind}-" for kind in LAYERS)
    return sorted(job for job in running if job.startswith(ours) and job not in spec.wanted)
