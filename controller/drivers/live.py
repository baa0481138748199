"""What a running node takes of its next generation without a reboot: settings of services, who may log in, some files.

Only what the wanted generation brings too, and only once that is complete: live and after the next boot it is the same. All
of it lies in the memory /etc; nothing that a boot alone reads is written there (`controller.drivers.effects`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from controller.drivers import looks
from controller.drivers.base import Base, Explanation, World, answered, checked, differing, last_words
from controller.drivers.effects import SSHD, SSHD_CONFIG, applied_live, of_file, of_rc_conf, service_of, service_of_file
from controller.drivers.generations import complete_generations
from controller.drivers.hostshare import own_rc_conf
from controller.drivers.inputs import inputs
from controller.drivers.memory import RC_FILES, as_listed, listing, merged, read_listing, read_settings
from controller.drivers.recipe_image import KEYS, brings_sshd_config, key_files, rc_conf
from controller.drivers.services import OUTDATED, enabled, read_states, remember, sshd_refuses, sshd_test, states, tell
from controller.encode import rcconf
from controller.encode.sh import guarded, lines, put_file, raw, sh
from controller.errors import Stall, Wait
from controller.graph import Desired
from controller.manifests.image import File
from controller.model import Answer, Change, Facts, Probe, Ref, Resource, Run, Script, Seen, Steps, Unseen

_KEYS, _SERVICE = "keys of ", "service "
"""How facts begin. The others are a path, or a file of rc.conf(5) and the name of a setting in it. None: it must not be there."""


@dataclass(frozen=True)
class LiveSpec:
    image: str
    services: tuple[str, ...]
    """Asked for in any case; those that rc.conf on the node names are asked for too."""
    files: tuple[str, ...]


class Live(Base):
    """The part of a node's memory /etc that follows the manifests while it runs."""

    kind: ClassVar[str] = "live"

    def resources(self, desired: Desired) -> Iterator[Resource]:
        for name, host in sorted(desired.hosts.items()):
            files = _files(desired, host.spec.image)
            asked = {service_of(one) for texts in _rc_files(desired, name).values() for one in texts}
            asked |= {service_of_file(path) for path in files} - {SSHD}
            spec = LiveSpec(host.spec.image, tuple(sorted(one for one in asked if one)), tuple(files))
            yield Resource(Ref(self.kind, name), name, spec, (Ref("hostshare", name),), host.origin)

    def probes(self, resource: Resource) -> tuple[Probe, ...]:
        spec: LiveSpec = resource.spec
        scripts = (*(looks.cat(path) for path in RC_FILES), listing(KEYS, spec.files), states(spec.services))
        return tuple(Probe(resource.host, script) for script in scripts)

    def read(self, resource: Resource, answers: Sequence[Answer | Unseen], applied: Facts | None) -> Seen:
        del applied
        *texts, listed, services = answered(answers)
        facts: dict[str, Any] = {}
        others: dict[str, dict[str, str] | None] = {}
        for path, answer in zip(RC_FILES, texts, strict=True):
            found = read_settings(path, resource.host, answer)
            facts |= {f"{path} {name}": value for name, value in (found or {}).items() if _is_live(name)}
            others[path] = None if found is None else {k: v for k, v in found.items() if not _is_live(k)}
        for path, one in read_listing(listed, resource.host).items():
            facts[f"{_KEYS}{path.removeprefix(f'{KEYS}/')}" if path.startswith(f"{KEYS}/") else path] = one
        facts |= {f"{_SERVICE}{name}": state for name, state in read_states(services, resource.host).items()}
        return Seen(facts, detail={"others": others})

    def want(self, resource: Resource, world: World) -> Facts | None:
        host, image, desired = resource.ref.name, resource.spec.image, world.desired
        seen = world.seen(resource.ref)
        have: Facts = (seen.facts or {}) if seen else {}
        runs = _runs(resource, world)
        settings = _rc_files(desired, host)
        wanted: dict[str, Any] = {f"{path} {one}": None for path in RC_FILES for one in _settings(path, have)}
        for path, values in settings.items():
            wanted |= {f"{path} {name}": value for name, value in values.items() if _is_live(name)}
        named = {service_of(fact.partition(" ")[2]) for fact in wanted}
        if not brings_sshd_config(desired.images[image].spec):
            keys = key_files(desired.images[image].spec)
            wanted |= {fact: None for fact in have if fact.startswith(_KEYS)}
            wanted |= {f"{_KEYS}{user}": as_listed(0o644, world.digest(text)) for user, text in keys.items()}
            if wanted.get(f"{_KEYS}root", "") is None:
                raise _last_key(host, image)
        for path, file in _files(desired, image).items():
            if path != SSHD_CONFIG or f"files.{SSHD_CONFIG}" in runs.get("inputs", {}):
                wanted[path] = as_listed(file.mode, world.digest(file.content))
        everything = {name: value for values in settings.values() for name, value in values.items()}
        for service in sorted(one for one in named if one and f"{_SERVICE}{one}" in have):
            state = "running" if enabled(service, everything) else "stopped"
            wanted[f"{_SERVICE}{service}"] = "absent" if have[f"{_SERVICE}{service}"] == "absent" else state
        return wanted

    def explain(self, change: Change) -> Explanation:
        acts = _acts(change)
        return Explanation(
            f"apply to the running {change.resource.host}: {'; '.join([*_written(change), *_told(acts)])}",
            "; ".join(_reasons(change)),
            "restart" if acts else "none",
        )

    def steps(self, change: Change, world: World) -> Steps:
        host, acts = change.resource.host, _acts(change)
        if SSHD_CONFIG in _changed(change):
            file = _files(world.desired, change.resource.spec.image)[SSHD_CONFIG]
            answer = yield Run("test the new sshd_config with sshd -t", sshd_test(SSHD_CONFIG, file.content))
            if answer.exit != 0:
                raise sshd_refuses(answer, host)
        # One act: were it several, a controller that ends between them would leave a setting that its daemon never read.
        marks = (remember(service) for service, verb in acts.items() if verb == "onerestart")
        files = Script(f"(\n{guarded(*marks, *_writes(change, world))}\n)\ntest $? = 0 || exit 1")
        script = lines(files, *(tell(service, verb) for service, verb in acts.items()))
        said = yield Run("; ".join([*_written(change), *_told(acts)]), script, timeout=120)
        checked(said, f"apply its settings to {host}")
        if acts:
            answer = yield Run(f"look at {', '.join(acts)}", states(tuple(acts)), writes=False)
            _prove(change, acts, read_states(answer, host), said)


# -- what should be there ---------------------------------------------------------------------------------------------


def _rc_files(desired: Desired, host: str) -> dict[str, dict[str, str]]:
    """What each file says in the wanted generation and in the host's share; the later one wins."""
    spec = desired.images[desired.hosts[host].spec.image].spec
    return dict(zip(RC_FILES, (rc_conf(spec), own_rc_conf(desired, host)), strict=True))


def _files(desired: Desired, image: str) -> dict[str, File]:
    return {file.path: file for file in desired.images[image].spec.files if applied_live(of_file(file.path))}


def _is_live(variable: str) -> bool:
    return applied_live(of_rc_conf(variable))


def _settings(path: str, facts: Facts) -> list[str]:
    return [fact.partition(" ")[2] for fact in facts if fact.startswith(f"{path} ")]


def _runs(resource: Resource, world: World) -> Mapping[str, Any]:
    """The manifest of the generation that the node runs. Raises Wait unless what is wanted is what it will boot next."""
    host, image = resource.ref.name, resource.spec.image
    made_of, complete = inputs(world.desired, image), complete_generations(world.observed, image)
    if made_of.missing:
        raise Wait(f"it is not known which generation of {image} comes next: {made_of.missing}", on=f"image/{image}")
    if world.generations.get(host) != made_of.generation or made_of.generation not in complete:
        raise Wait(
            f"{host} would not boot generation {made_of.generation} of {image} yet: what can be applied live follows then",
            on=f"image/{image}",
        )
    node = world.seen(Ref("node", host))
    if node is None or node.facts is None:
        raise Wait(f"it is not known which generation {host} runs", on=f"node/{host}")
    if f"/images/{image}/" not in node.detail.get("rootPath", ""):
        raise Wait(f"{host} runs a root that is none of {image}: only a reboot brings that", on=f"node/{host}")
    return complete.get(node.facts["generation"], {})


def _last_key(host: str, image: str) -> Stall:
    return Stall(
        f"cannot take all of root's keys from {host}: nobody could log in any more, jailops neither",
        hint=f"name one in rootAuthorizedKeys of Image {image}; until then those of {host} stay",
    )


# -- what is done -----------------------------------------------------------------------------------------------------


_VERBS: Final = {
    ("running", "stopped"): "onestart",
    ("running", OUTDATED): "onerestart",
    ("stopped", "running"): "onestop",
    ("stopped", OUTDATED): "onestop",
}
"""What service(8) is told for what is wanted and what is there."""


def _changed(change: Change) -> list[str]:
    return sorted(differing(change.want or {}, change.have))


def _acts(change: Change) -> dict[str, str]:
    """Service -> what service(8) is told: only those that are not in their state, or whose settings differ."""
    changed = _changed(change)
    touched = {service_of(fact.partition(" ")[2]) or service_of_file(fact) for fact in changed}
    acts = {SSHD: "onereload"} if SSHD in touched else {}
    for fact, state in (change.have or {}).items():
        service = fact.removeprefix(_SERVICE)
        if not fact.startswith(_SERVICE) or state == "absent":
            continue
        if fact in changed:
            acts[service] = _VERBS[(change.want or {})[fact], state]
        elif state != "stopped" and service in touched:
            acts[service] = "onerestart"
    return acts


def _is(state: str) -> str:
    return state if state == OUTDATED else f"is {state}"


def _told(acts: Mapping[str, str]) -> list[str]:
    return [f"{verb.removeprefix('one')} {service}" for service, verb in acts.items()]


def _written(change: Change) -> list[str]:
    names = [fact for fact in _changed(change) if not fact.startswith(_SERVICE)]
    gone = [fact for fact in names if (change.want or {})[fact] is None]
    put = [fact for fact in names if fact not in gone]
    return [f"{verb} {', '.join(some)}" for verb, some in (("write", put), ("remove", gone)) if some]


def _reasons(change: Change) -> Iterator[str]:
    want, have = change.want or {}, change.have or {}
    for fact in _changed(change):
        if fact.startswith(RC_FILES) and " " in fact:
            values = ["(nothing)" if one.get(fact) is None else one[fact] for one in (have, want)]
            yield f"{fact}: {values[0]} -> {values[1]}"
        elif fact.startswith(_SERVICE):
            yield f"{fact.removeprefix(_SERVICE)} {_is(have[fact])}"
        else:
            yield f"{fact} differ{'' if fact.startswith(_KEYS) else 's'}" if fact in have else f"no {fact}"


def _writes(change: Change, world: World) -> Iterator[Script]:
    """Every file that differs, by rename."""
    host, image, changed = change.resource.ref.name, change.resource.spec.image, _changed(change)
    for path, wanted in _rc_files(world.desired, host).items():
        if any(fact.startswith(f"{path} ") for fact in changed):
            yield put_file(path, rcconf.render(merged(wanted, change.detail["others"][path], _is_live)))
    for path, file in _files(world.desired, image).items():
        if path in changed:
            yield _put(path, file.content, file.mode)
    keys = key_files(world.desired.images[image].spec)
    for user in (fact.removeprefix(_KEYS) for fact in changed if fact.startswith(_KEYS)):
        yield _put(f"{KEYS}/{user}", keys[user], 0o644) if user in keys else sh("rm -f {path}", path=f"{KEYS}/{user}")


def _put(path: str, text: str, mode: int) -> Script:
    folder, put = path.rpartition("/")[0], put_file(path, text, mode)
    return sh("if ! test -d {dir}; then mkdir -m 755 {dir}; fi\n{put}", dir=folder, put=raw(put))


def _prove(change: Change, acts: Mapping[str, str], found: Mapping[str, str], said: Answer) -> None:
    """Raises Stall when a service is not as it was told to be. Its settings stay: the next generation has them too."""
    for service, verb in acts.items():
        state = found.get(service, "absent")
        if state != ("stopped" if verb == "onestop" else "running"):
            host = change.resource.host
            raise Stall(
                f"cannot {verb.removeprefix('one')} {service} on {host}: it {_is(state)}: {last_words(said)}",
                hint=f"its settings are in place, on {host} and in its next generation; try service {service} {verb} "
                "there, then mend the manifest",
            )
