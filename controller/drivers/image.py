"""Images: a complete generation on the share, built by a detached job on the build VM.

The look asks two machines. The SAN says which generations are complete, so that an image stays known while the build VM
is off; the build VM says how its job stands. Steps only ever start a job: hours pass in it, not in a pass. A failed job
stays failed until its inputs change or an operator asks again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, checked, last_words
from controller.drivers.generations import inputs
from controller.drivers.recipe import STAGE, BuildPlace, build_script
from controller.encode.buildlog import first_error, progress
from controller.encode.job import TAIL_MOST, Job, job_forget_script, job_look_script, job_start_script, parse_job
from controller.encode.sh import sh
from controller.errors import Retry, Stall
from controller.graph import Desired
from controller.model import (
    Answer,
    Change,
    Facts,
    Observed,
    Probe,
    Progress,
    Ref,
    Resource,
    Run,
    Script,
    Seen,
    Steps,
    Unseen,
)


@dataclass(frozen=True)
class ImageJob:
    image: str
    san: str
    directory: str
    """Where the image's generations lie on the SAN."""
    work: str
    """Where jobs keep their scripts, logs and results on the build VM."""
    generation: str

    @property
    def job(self) -> str:
        return f"image-{self.image}-{self.generation}"


class Images(Base):
    kind: ClassVar[str] = "image"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, image in sorted(desired.images.items()):
            san = desired.sans[image.spec.san].spec
            spec = ImageJob(
                name,
                image.spec.san,
                f"{san.nfs.root}/images/{name}",
                desired.build_vms[image.spec.build_vm].spec.work_dir,
                inputs(desired, name).generation,
            )
            needs = (Ref("exports", image.spec.san),)
            yield Resource(Ref(self.kind, name), image.spec.build_vm, spec, needs, image.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        spec: ImageJob = resource.spec
        markers = sh(
            """test -f {log} || exit 44
echo "$(($(wc -l < {log})))"
grep -e '^>>> ' -e '^--- jailops: ' -e '^===> etc ' {log} | tail -n 60""",
            log=f"{spec.work}/jobs/{spec.job}/log",
        )
        return (
            Probe(spec.san, _listing(spec)),
            Probe(resource.host, job_look_script(f"{spec.work}/jobs", spec.job, -TAIL_MOST)),
            Probe(resource.host, markers),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        spec: ImageJob = resource.spec
        listing, look, markers = answers
        generations = _generations(listing)
        detail: dict[str, Any] = {"generations": generations, "wanted": spec.generation}
        complete = spec.generation in generations
        if isinstance(look, Unseen) or isinstance(markers, Unseen):
            if complete:
                return Seen({"generation": spec.generation}, detail=detail)
            reason = look.reason if isinstance(look, Unseen) else "its log cannot be read"
            raise Retry(f"cannot see whether {spec.image} is being built: {reason}")
        log = Log(parse_job(look), markers.out)
        detail["job"] = log.facts()
        have = {"generation": spec.generation if complete else _newest(generations)} if generations else None
        return Seen(have, busy=log.progress() if log.job.state == "running" else None, detail=detail)

    def want(self, resource: Resource, world: World) -> Facts | None:
        seen = world.seen(resource.ref)
        if seen and _has_failed(seen) and resource.ref not in world.retry:
            raise Stall(
                f"cannot build {resource.spec.image}: {seen.detail['job']['error']}",
                hint=f"the log is {resource.spec.work}/jobs/{resource.spec.job}/log on {resource.host}; mend the cause "
                f"and push, or try the same inputs again with: jailops retry {resource.ref}",
            )
        return {"generation": resource.spec.generation}

    def explain(self, change: Change) -> Explanation:
        job = change.detail.get("job", {}).get("state")
        reason = "the last build vanished without a result" if job == "lost" else "no generation has these inputs yet"
        return Explanation(f"build {change.resource.spec.image} generation {change.resource.spec.generation}", reason)

    def steps(self, change: Change, world: World) -> Steps:
        spec: ImageJob = change.resource.spec
        # The build VM and the SAN were asked at the same time: a build may have ended between their answers.
        answer = yield Run("look once more", _listing(spec), host=spec.san, writes=False)
        if spec.generation in _generations(answer):
            return
        job = change.detail.get("job") or {}
        if job.get("state") == "done" and job.get("exit") == 0 and change.ref not in world.retry:
            raise Stall(
                f"cannot find generation {spec.generation} of {spec.image} on {spec.san}, although its build ended well",
                hint=f"was it removed, or does {change.resource.host} mount something else at its share? Then build it "
                f"again with: jailops retry {change.ref}",
            )
        place = build_place(world.desired, spec.image)
        if job.get("state") in ("done", "lost"):
            forget = job_forget_script(f"{spec.work}/jobs", spec.job)
            checked((yield Run("forget the build that ended before", forget)), "forget the last build")
        script = build_script(world.desired, spec.image, place, inputs(world.desired, spec.image))
        start = job_start_script(f"{spec.work}/jobs", spec.job, script)
        checked((yield Run(f"start the build of {spec.image} {spec.generation}", start)), "start the build")
        look = job_look_script(f"{spec.work}/jobs", spec.job, -TAIL_MOST)
        answer = yield Run("see the build run", look, writes=False)
        if parse_job(answer).state == "absent":
            raise Retry(f"cannot start the build of {spec.image}: no job is there after it was started")


def build_place(desired: Desired, image: str) -> BuildPlace:
    """Where on the build VM an image is built and put."""
    spec = desired.images[image].spec
    vm = desired.build_vms[spec.build_vm].spec
    san = desired.sans[spec.san].spec
    return BuildPlace(
        source=vm.source_dir,
        objects=vm.object_dir,
        work=vm.work_dir,
        share=vm.share,
        share_source=f"{san.nfs.address}:{san.nfs.root}",
        jobs=vm.jobs,
    )


def _generations(listing: Answer | Unseen) -> dict[str, dict[str, Any]]:
    """The complete generations, from lines ``generation TAB manifest``."""
    if isinstance(listing, Unseen):
        raise Retry(f"cannot see which generations are complete: {listing.reason}")
    if listing.exit == looks.ABSENT:
        return {}
    if listing.exit == looks.AWAY:
        raise Retry("cannot see which generations are complete: the SAN's NFS root is not there")
    if listing.exit != 0:
        raise Retry(f"cannot see which generations are complete: {last_words(listing)}")
    found = {}
    for line in listing.out.splitlines():
        generation, _, text = line.partition("\t")
        try:
            found[generation] = dict(json.loads(text))
        except ValueError as error:
            raise Retry(f"cannot read the manifest of generation {generation}: {error}") from error
    return found


def _listing(spec: ImageJob) -> Script:
    """One line ``generation TAB manifest`` per complete generation."""
    return sh(
        """test -d {root} || exit 75
cd {directory} 2>/dev/null || exit 44
for m in */.jailops/manifest.json; do
  test -f "$m" && printf '%s\\t' "${{m%%/*}}" && cat "$m"
done
:""",
        root=spec.directory.rpartition("/images/")[0],
        directory=spec.directory,
    )


def _is_complete(seen: Seen) -> bool:
    return seen.detail["wanted"] in seen.detail["generations"]


def _has_failed(seen: Seen) -> bool:
    """A job that ended well may only just have ended, between the answers of the two machines."""
    job: Mapping[str, Any] = seen.detail.get("job") or {}
    return job.get("state") == "done" and job.get("exit") != 0 and not _is_complete(seen)


def _newest(generations: Mapping[str, Mapping[str, Any]]) -> str:
    return max(generations, key=lambda one: (generations[one].get("finished", 0), one))


@dataclass(frozen=True)
class Log:
    """A job and what its log says: the markers of the whole log, the text of its end."""

    job: Job
    markers: str
    """The number of all lines, then the marker lines."""

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "state": self.job.state,
            "exit": self.job.exit,
            "started": self.job.started,
            "finished": self.job.finished,
        }
        if self.job.state == "done":
            facts["error"] = self._error()
        return facts

    def progress(self) -> Progress:
        """make's own stage inside ours, and the share of the whole."""
        seen = progress(self.markers)
        ours = [line.removeprefix(STAGE) for line in self.markers.splitlines() if line.startswith(STAGE)][-1:]
        stage = ": ".join([*ours, *([seen.stage] if seen.stage and seen.target else [])])
        return Progress(stage or "starting", seen.ratio, self.job.started)

    def _error(self) -> str:
        text = self.job.tail.decode("utf-8", "backslashreplace")
        found = first_error(text)
        if found is not None:
            return f"line {self._before(text) + found.line_number} of the log: {found.text} (exit {self.job.exit})"
        last = "".join([line for line in text.splitlines() if line.strip()][-1:])
        return f"the job ended with exit {self.job.exit} and without a generation; its last line: {last}"

    def _before(self, tail: str) -> int:
        """How many lines of the log come before its tail."""
        total = self.markers.partition("\n")[0]
        return max(int(total) - tail.count("\n"), 0) if total.isdigit() else 0


@dataclass(frozen=True)
class EndedBuild:
    """A build that is over, as the look tells it every time until the next one begins."""

    image: str
    generation: str
    result: str
    started: float | None
    finished: float | None
    message: str = ""

    @property
    def seconds(self) -> float | None:
        return self.finished - self.started if self.started and self.finished else None


def ended_builds(observed: Observed) -> Iterator[EndedBuild]:
    """Every image whose wanted generation's job has ended."""
    for ref, seen in observed.seen.items():
        job = seen.detail.get("job") or {}
        if ref.kind == Images.kind and job.get("state") == "done" and (_is_complete(seen) or _has_failed(seen)):
            good = _is_complete(seen)
            yield EndedBuild(
                ref.name,
                seen.detail["wanted"],
                "done" if good else "failed",
                job["started"],
                job["finished"],
                "" if good else str(job.get("error", "")),
            )
