"""What world, packages and generations have in common: a directory on the share, made by a detached job on the build VM.

The look asks two machines. The SAN says which ones are complete, so that they stay known while the build VM is off; the
build VM says how the job stands. Steps only ever start a job: hours pass in it, not in a pass. Several images with the same
inputs share one layer; it is named after the first of them.

Before a job is started, the share must have room for what it makes, as far as df tells: what earlier layers of the kind took,
and a tenth more. The job asks again when it is its turn: others may have been built before it. A failed job stays failed
until its inputs change or an operator asks again, with two exceptions: a cause that passes (the network was away) is tried
again three times, and a job that vanished (the VM was switched off) once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, ClassVar, Final

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, checked, last_words
from controller.drivers.inputs import Inputs, inputs
from controller.drivers.power import Switch, switch
from controller.drivers.recipe import STAGE, unfinished
from controller.encode.buildlog import TARGETS, failure_script, first_error, first_error_of, progress
from controller.encode.causes import passing
from controller.encode.job import TAIL_MOST, Job, job_forget_script, job_look_script, job_start_script, parse_job
from controller.encode.sh import raw, sh
from controller.encode.space import MARK, Needs, Space, parse_space, size, space_script
from controller.encode.text import GrammarError
from controller.errors import Retry, Stall, Wait
from controller.graph import Desired
from controller.manifests import ImageSpec
from controller.model import (
    Answer,
    Change,
    Facts,
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

PAUSES: Final = (15.0, 300.0, 900.0)
"""Seconds after a failure whose cause passes, before each further try."""
_OURS: Final = "jailops: "
"""How a script of ours begins the line that says why it cannot go on."""
_FAILED: Final = "--- the stage that failed"
"""Between the markers of a log and the numbered lines of the stage that failed in it."""
_TELLING: Final = re.compile(rf"{_OURS}|(?:pkg|fetch|svn|fatal|tar|pw|mount_nfs|cp|stat|sha256): ")
"""Lines that tell what went wrong, wherever they stand: standard output may come later than they do."""
_KEY: Final = re.compile(r"[0-9a-f]{12}")
"""Of a layer or a generation, as `inputs` makes it."""
_VANISHED: Final = 1
"""How often a job that vanished is started again."""
_RESERVE: Final = 1.1
"""What must be free, as a multiple of what a layer takes."""


@dataclass(frozen=True)
class Layer:
    """One directory on the share that should be complete."""

    image: str
    """The first image that it is for."""
    san: str
    root: str
    """The SAN's NFS root."""
    directory: str
    """Where it lies on the SAN, beside others of its kind."""
    name: str
    """What it is called there once it is complete."""
    job: str
    """What its job is called."""
    build_vm: str
    """Where it is made."""
    work: str
    """Where jobs keep their scripts, logs and results on the build VM."""
    missing: str = ""
    """Why its name is not known yet."""
    power: Switch | None = None
    """The build VM's, when it is ours to switch."""
    stages: Mapping[str, float] = field(default_factory=dict)
    """Those of its job in their order, and what each weighs."""

    @property
    def jobs(self) -> str:
        return f"{self.work}/jobs"

    @property
    def unfinished(self) -> str:
        """What it is called while it is made."""
        return unfinished(self.name, self.build_vm)


class Layers(Base):
    """One kind of layer."""

    kind: ClassVar[str] = ""
    fact: ClassVar[str] = "layer"
    """The name of the compared fact."""
    all_of_them: ClassVar[str] = "layers"
    """The name of the detail with every complete one and its manifest."""
    first_bytes: ClassVar[int] = 0
    """What one takes as long as none tells, generously."""
    inodes: ClassVar[int] = 0
    """What one takes: its directories are its own even where all its files are links."""

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name in sorted(desired.images):
            made_of = inputs(desired, name)
            if self._key(made_of) and self._stands_for(desired, name):
                spec, vm = self._layer(desired, name, made_of), desired.images[name].spec.build_vm
                needs = (*self._needs(desired, name, made_of), *([spec.power.ref] if spec.power else []))
                yield Resource(Ref(self.kind, name), vm, spec, needs, desired.images[name].origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        spec: Layer = resource.spec
        markers = sh(
            """test -f {log} || exit 44
echo "$(($(wc -l < {log})))"
grep -e '^>>> ' -e '^--- jailops: ' -e '^===> etc ' {log} | tail -n 60
read -r code rest < {result} 2>/dev/null && test "$code" != 0 || exit 0
echo {failed}
{failure}""",
            log=f"{spec.jobs}/{spec.job}/log",
            result=f"{spec.jobs}/{spec.job}/result",
            failed=_FAILED,
            failure=raw(failure_script(f"{spec.jobs}/{spec.job}/log")),
        )
        return (
            Probe(spec.san, self._listing(spec)),
            Probe(resource.host, job_look_script(spec.jobs, spec.job, -TAIL_MOST)),
            Probe(resource.host, markers),
            *([spec.power.probe] if spec.power else []),
        )

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        spec: Layer = resource.spec
        listing, look, markers, *power = answers
        found = self._complete(listing)
        detail: dict[str, Any] = {self.all_of_them: found, "wanted": spec.name, **self._room(spec, listing, found)}
        complete = spec.name in found
        have = {self.fact: spec.name if complete else _newest(found)} if found else None
        if isinstance(look, Unseen) or isinstance(markers, Unseen):
            if complete:
                return Seen(have, detail=detail)
            if spec.power and spec.power.at_rest(power[0]):
                # A build that its VM was switched off under is not one that came to nothing: this look differs.
                return Seen({self.fact: None, **(have or {}), "buildVM": "at rest"}, detail=detail)
            reason = look.reason if isinstance(look, Unseen) else "its log cannot be read"
            raise Retry(f"cannot see whether {self._called(spec)} is being built: {reason}")
        told, _, failure = markers.out.partition(f"{_FAILED}\n")
        log = Log(parse_job(look), told, failure)
        detail["job"] = log.facts()
        return Seen(have, busy=log.progress(spec.stages) if log.job.state == "running" else None, detail=detail)

    def want(self, resource: Resource, world: World) -> Facts | None:
        spec: Layer = resource.spec
        if spec.missing:
            raise Wait(
                f"cannot say yet which {self.kind} {spec.image} needs: {spec.missing}", on=f"buildvm/{resource.host}"
            )
        seen = world.seen(resource.ref)
        if seen and has_failed(self, seen) and resource.ref not in world.retry:
            self._let_alone(resource, seen.detail["job"])
        if seen and seen.busy is None and seen.detail["lacks"] and not is_complete(self, seen):
            raise Stall(seen.detail["lacks"], hint=seen.detail["remedy"])
        return {self.fact: spec.name}

    def _room(self, spec: Layer, listing: Answer | Unseen, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What the share has free, and in words what it lacks for one more. Where df tells nothing, nothing is foretold."""
        try:
            space = parse_space(listing.out) if isinstance(listing, Answer) else None
        except GrammarError:
            space = None
        if space is None:
            return {"free": None, "lacks": "", "remedy": "", "needs": None}
        known = [int(one["bytes"]) for one in found.values() if str(one.get("bytes", "")).isdigit()]
        needs, inodes = int(max(known, default=self.first_bytes) * _RESERVE), int(self.inodes * _RESERVE)
        # What an earlier try left of this very layer is removed by the next one, before anything else.
        left = isinstance(listing, Answer) and spec.unfinished in listing.out.splitlines()
        share = f"{spec.san}:{spec.root}"
        lacks, remedy = _lacks(share, space, needs, inodes, left=left)
        return {
            "free": space.free,
            "lacks": f"cannot build {self._called(spec)}: {lacks}" if lacks else "",
            "remedy": remedy,
            "needs": Needs(needs, inodes, f"on {share}"),
        }

    def _let_alone(self, resource: Resource, job: Mapping[str, Any]) -> None:
        """Raises unless a job that did not make it is to be started again now."""
        spec: Layer = resource.spec
        message = f"cannot build {self._called(spec)}: {job['error']}"
        tries, most = job["tries"], len(PAUSES) if job["cause"] == "passing" else _VANISHED
        if job["cause"] == "failed" or tries >= most:
            after = f", after {tries + 1} tries" if tries else ""
            raise Stall(
                f"{message}{after}",
                hint=f"the log is {spec.jobs}/{spec.job}/log on {resource.host}; mend the cause "
                f"and push, or try the same inputs again with: jailops retry {resource.ref}",
            )
        if job["cause"] == "passing" and job["ago"] < PAUSES[tries]:
            wait = f"try {tries + 2} of {most + 1} begins {PAUSES[tries]:.0f} s after that"
            raise Wait(f"{message}; {wait}", on=str(resource.ref))

    def explain(self, change: Change) -> Explanation:
        spec: Layer = change.resource.spec
        cause = change.detail.get("job", {}).get("cause")
        again = {
            "lost": "the last build vanished without a result",
            "passing": "the last build's cause to fail may be over",
        }
        reason = again.get(str(cause)) or (_gone(spec) if change.cause == "drift" else self._reason(change))
        return Explanation(f"build {self._called(spec)} {self._as(spec)}", reason)

    def steps(self, change: Change, world: World) -> Steps:
        spec: Layer = change.resource.spec
        # The build VM and the SAN were asked at the same time: a build may have ended between their answers.
        answer = yield Run("look once more", self._listing(spec), host=spec.san, writes=False)
        if spec.name in self._complete(answer):
            return
        job = change.detail.get("job") or {}
        if job.get("state") == "done" and job.get("exit") == 0 and change.ref not in world.retry:
            raise Stall(
                f"cannot find {spec.directory}/{spec.name} on {spec.san}, although its build ended well",
                hint=f"was it removed, or does {change.resource.host} mount something else at its share? Then build it "
                f"again with: jailops retry {change.ref}",
            )
        if job.get("state") in ("done", "lost"):
            why = "asked" if change.ref in world.retry else str(job["cause"])
            forget = job_forget_script(spec.jobs, spec.job, why)
            checked((yield Run("forget the build that ended before", forget)), "forget the last build")
        script = self._script(world.desired, spec.image, change.detail["needs"])
        start = job_start_script(spec.jobs, spec.job, script)
        checked((yield Run(f"start the build of {self._called(spec)} {spec.name}", start)), "start the build")
        look = job_look_script(spec.jobs, spec.job, -TAIL_MOST)
        answer = yield Run("see the build run", look, writes=False)
        if parse_job(answer).state == "absent":
            raise Retry(f"cannot start the build of {self._called(spec)}: no job is there after it was started")

    # -- what each kind says for itself -------------------------------------------------------------------------------

    def _key(self, made_of: Inputs) -> str:
        """The layer's key; empty when there is no such layer."""
        raise NotImplementedError

    def _stands_for(self, desired: Desired, image: str) -> bool:
        """Whether the image's layer is called by its name, and not by that of another one that shares it."""
        return owner(desired, image, self._key) == image

    def _layer(self, desired: Desired, image: str, made_of: Inputs) -> Layer:
        name = f"{self.kind}-{self._key(made_of)}"
        return layer(desired, image, made_of, "layers", name, name, self._stages(desired.images[image].spec))

    def _needs(self, desired: Desired, image: str, made_of: Inputs) -> tuple[Ref, ...]:
        raise NotImplementedError

    def _script(self, desired: Desired, image: str, needs: Needs | None) -> Script:
        raise NotImplementedError

    def _stages(self, spec: ImageSpec) -> Mapping[str, float]:
        """The stages of its job in their order, with roughly the seconds that each takes."""
        raise NotImplementedError

    def _called(self, spec: Layer) -> str:
        return f"the {self.kind} of {spec.image}"

    def _as(self, spec: Layer) -> str:
        return spec.name

    def _reason(self, change: Change) -> str:
        del change
        return f"no {self.kind} with these inputs is there yet"

    # -- complete ones ------------------------------------------------------------------------------------------------

    def _pattern(self) -> Script:
        """The glob of names in the directory; ours, never a manifest's."""
        return Script(f"{self.kind}-*")

    def _listing(self, spec: Layer) -> Script:
        """What is free on the share, one line ``name TAB manifest`` per complete one, and what is left of the wanted one."""
        return sh(
            """test -d {root} || exit 75
{space}
cd {directory} 2>/dev/null || exit 44
test ! -e {unfinished} || echo {unfinished}
for m in {pattern}/.jailops/manifest.json; do
  test -f "$m" && printf '%s\\t' "${{m%%/*}}" && cat "$m"
done
:""",
            root=spec.root,
            space=raw(space_script(spec.root)),
            directory=spec.directory,
            unfinished=spec.unfinished,
            pattern=raw(self._pattern()),
        )

    def _complete(self, listing: Answer | Unseen) -> dict[str, dict[str, Any]]:
        """Name -> manifest, from the answer to `_listing`. Raises Retry when it tells nothing."""
        what = f"cannot see which {self.all_of_them} are complete"
        if isinstance(listing, Unseen):
            raise Retry(f"{what}: {listing.reason}")
        if listing.exit == looks.ABSENT:
            return {}
        if listing.exit == looks.AWAY:
            raise Retry(f"{what}: the SAN's NFS root is not there")
        if listing.exit != 0:
            raise Retry(f"{what}: {last_words(listing)}")
        found = {}
        for line in listing.out.splitlines():
            if line.startswith((MARK, ".building-")):
                continue
            name, _, text = line.partition("\t")
            key = name.removeprefix(f"{self.kind}-")
            if not _KEY.fullmatch(key):
                continue  # What somebody moved aside, or made by hand, is none of ours: `retention` lists it.
            try:
                manifest = dict(json.loads(text))
            except ValueError as error:
                raise Retry(f"cannot read the manifest of {self.fact} {name}: {error}") from error
            if manifest.get("generation", manifest.get("key", key)) == key:
                found[name] = manifest
        return found


def layer(
    desired: Desired, image: str, made_of: Inputs, place: str, name: str, job: str, stages: Mapping[str, float]
) -> Layer:
    """A layer at `place` below the SAN's root."""
    spec = desired.images[image].spec
    root = desired.sans[spec.san].spec.nfs.root
    vm = spec.build_vm
    work = desired.build_vms[vm].spec.work_dir
    power = switch(desired, vm)
    return Layer(image, spec.san, root, f"{root}/{place}", name, job, vm, work, made_of.missing, power, stages)


def owner(desired: Desired, image: str, key: Callable[[Inputs], str]) -> str:
    """The first image that shares a layer with this one: same key, same SAN. It is built on the build VM of that one."""
    spec, wanted = desired.images[image].spec, key(inputs(desired, image))
    return next(
        name
        for name, other in sorted(desired.images.items())
        if other.spec.san == spec.san and key(inputs(desired, name)) == wanted
    )


def is_complete(driver: Layers, seen: Seen) -> bool:
    return seen.detail["wanted"] in seen.detail[driver.all_of_them]


def has_failed(driver: Layers, seen: Seen) -> bool:
    """It ended badly, or vanished. One that ended well may only just have ended, between the answers of the two machines."""
    job: Mapping[str, Any] = seen.detail.get("job") or {}
    return bool(job.get("cause")) and not is_complete(driver, seen)


def _lacks(share: str, space: Space, needs: int, inodes: int, *, left: bool) -> tuple[str, str]:
    """What a share lacks for one more layer of so many bytes and inodes, and what a person can do. Nothing: it has room, or
    gets it, because something is `left` there of the same layer."""
    if needs > space.total:
        return (
            f"it needs about {size(needs)}, and {share} has {size(space.total)} in all: it can never fit there",
            f"removing things does not help: make the file system of {share} larger, or give the San an nfs.root on a larger "
            "one; it begins by itself then",
        )
    remedy = "remove what nobody needs there, or lower keep of an image; it begins by itself once there is room"
    if left:
        return "", ""
    if needs > space.free:
        free = f"{size(space.free)} of {size(space.total)} are free"
        return f"it needs about {size(needs)} on {share}, {free}; make room or lower keep", remedy
    if space.inodes is not None and inodes > space.inodes:
        return f"it needs about {inodes} inodes on {share}, {space.inodes} are free; make room or lower keep", remedy
    return "", ""


def _gone(spec: Layer) -> str:
    """Complete it was, and no listing of the SAN shows it any more."""
    return f"{spec.directory}/{spec.name} is gone from {spec.san}, or has lost its .jailops/manifest.json"


def _newest(found: Mapping[str, Mapping[str, Any]]) -> str:
    return max(found, key=lambda one: (found[one].get("finished", 0), one))


@dataclass(frozen=True)
class Log:
    """A job and what its log says: the markers of the whole log, the text of its end."""

    job: Job
    markers: str
    """The number of all lines, then the marker lines."""
    failure: str = ""
    """Numbered lines of the stage that failed, however far from the end it did."""

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "state": self.job.state,
            "exit": self.job.exit,
            "started": self.job.started,
            "finished": self.job.finished,
        }
        facts["cause"] = self._cause()
        if self.job.state in ("done", "lost"):
            facts["error"] = self._error()
            facts["tries"] = self._tries()
            facts["ago"] = (self.job.now or 0.0) - (self.job.finished or 0.0)
        return facts

    def _cause(self) -> str:
        """Why it did not make it, in the word that it is remembered by: lost, passing or failed; else empty."""
        if self.job.state == "lost":
            return "lost"
        if self.job.state != "done" or self.job.exit == 0:
            return ""
        return "passing" if passing(self._text, STAGE) else "failed"

    def _tries(self) -> int:
        """How often it was run before in vain for a cause like this, since an operator asked or it failed otherwise."""
        before = [one.why for one in reversed(self.job.attempts)]
        return next((index for index, why in enumerate(before) if why != self._cause()), len(before))

    @property
    def _text(self) -> str:
        return self.job.tail.decode("utf-8", "backslashreplace")

    def progress(self, stages: Mapping[str, float]) -> Progress:
        """Our stage, with make's own inside it, and the share of the whole; none while it waits for its turn."""
        ours = [line.removeprefix(STAGE) for line in self.markers.splitlines() if line.startswith(STAGE)]
        at = ours[-1] if ours else "starting"
        if at not in stages:
            return Progress(at, None, self.job.started)
        inside = progress(self.markers, [target for target in TARGETS if target == at])
        done = sum(stages[name] for name in takewhile(lambda name: name != at, stages))
        if inside.target == at:
            done += stages[at] * inside.ratio
            at = f"{at}: {inside.stage}"
        return Progress(at, done / sum(stages.values()), self.job.started)

    def _error(self) -> str:
        if self.job.state == "lost":
            return "its job vanished without a result (was the build VM switched off?)"
        text = self._text
        network = passing(text, STAGE)
        if network:
            return f"{network} (exit {self.job.exit})"
        found, before = first_error_of(self.failure), 0
        if found is None:  # make itself gave up, before it ran anything
            found, before = first_error(text), self._before(text)
        if found is not None:
            return f"line {before + found.line_number} of the log: {found.text} (exit {self.job.exit})"
        telling = [line for line in text.rpartition(STAGE)[2].splitlines() if _TELLING.match(line)][-1:]
        if telling:
            return f"{telling[0].removeprefix(_OURS)} (exit {self.job.exit})"
        last = "".join([line for line in text.splitlines() if line.strip()][-1:])
        return f"the job ended with exit {self.job.exit} and without a result; its last line: {last}"

    def _before(self, tail: str) -> int:
        """How many lines of the log come before its tail."""
        total = self.markers.partition("\n")[0]
        return max(int(total) - tail.count("\n"), 0) if total.isdigit() else 0
