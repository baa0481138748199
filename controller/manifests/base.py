"""What every manifest has: the envelope, labels, the ssh block, references to secrets.

The models are strict, frozen and closed. YAML keys are camelCase, attributes snake_case. Their input is what `yamltree`
makes: text, None, dicts and tuples; nothing else is converted. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from controller.manifests.network import HostKey, IPv4
from controller.manifests.scalar import wrong
from controller.manifests.words import (
    AgeFile,
    JailName,
    LabelKey,
    LabelValue,
    Login,
    Name,
    Note,
    Port,
    SecretFile,
    SecretVariable,
)
from controller.problem import quoted

API_VERSION: Final = "jailops/v1"
_NOTHING: Final = object()


class Model(BaseModel):
    """Strict, frozen, closed. Never shows its input in an error."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        alias_generator=to_camel,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


def doc(
    text: str,
    *examples: Any,
    default: Any = _NOTHING,
    written: str = "",
    alias: str | None = None,
    min_length: int | None = None,
    make: Any = None,
    filled: bool = False,
) -> Any:
    """A field with its description and, where the type has none that fits, examples.

    `written` is the default as a person writes it, where that is not how we keep it (`32MiB`).
    `make` computes the default from the fields before it. `filled` says that a validator of an outer model writes the
    default into the input (see `fill`), which is then never missing unless that outer model is refused anyway.
    """
    about: dict[str, Any] = {"description": text, "alias": alias, "min_length": min_length}
    if written:
        about["json_schema_extra"] = {"default": written, "examples": [written]}
    if examples:
        about["examples"] = list(examples)
    if make is not None or filled:
        return Field(default_factory=make or (lambda: None), **about)
    return Field(**about) if default is _NOTHING else Field(default=default, **about)


@dataclass(frozen=True, slots=True)
class Unique:
    """For lists whose entries must differ in `key`, which messages call `what`."""

    key: Callable[[Any], object]
    what: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(source), "uniqueItems": True}

    def _check(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        seen: set[object] = set()
        for index, value in enumerate(values):
            key = self.key(value)
            if key in seen:
                raise wrong(f"each {self.what} once", at=(index,), found=f"{quoted(str(key))} again")
            seen.add(key)
        return values


@dataclass(frozen=True, slots=True, eq=False)
class Without:
    """For maps in which some keys have a field of their own: key to reason."""

    reasons: Mapping[str, str]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, source: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        generated = handler(source)
        names = {**generated.get("propertyNames", {}), "not": {"enum": list(self.reasons)}}
        return {**generated, "propertyNames": names}

    def _check(self, values: Mapping[str, str]) -> Mapping[str, str]:
        for key in values:
            if key in self.reasons:
                raise wrong(f"another variable: {self.reasons[key]}", at=(key,), found=quoted(key))
        return values


def fill(data: object, block: str, field: str, value: object) -> object:
    """Raw input with one more default: `field` of `block` (or of the top, when empty), unless it is given."""
    if not isinstance(data, dict):
        return data
    if not block:
        return data if field in data else {**data, field: value}
    return {**data, block: fill(data[block], "", field, value)} if block in data else data


def reading(kind: Any, value: object) -> object:
    """What a type makes of raw input by itself; None when it refuses it."""
    try:
        return kind.__metadata__[0].validate(value)
    except PydanticCustomError:
        return None


def fits(kind: Any, value: object) -> bool:
    """Whether raw input would pass a type, so that a default made from it brings no second error."""
    return reading(kind, value) is not None


class Metadata(Model):
    """What the object is called, and notes that jailops keeps but does not read."""

    name: Name = doc("The object's name, unique among its kind.")
    labels: Mapping[LabelKey, LabelValue] = doc(
        "Short marks for people and tools. jailops does not act on them.", {"rack": "a3"}, default={}
    )
    annotations: Mapping[LabelKey, Note] = doc(
        "Longer notes for people and tools. jailops does not act on them.", {"owner": "web team"}, default={}
    )


SPREAD = "spread"
"""The label of jails of which two with the same value are never down together by our doing."""


class JailMetadata(Metadata):
    name: JailName = doc(
        "The jail's name, unique on its host. Every character outside A-Z, a-z and 0-9 counts as '_' there."
    )
    labels: Mapping[LabelKey, LabelValue] = doc(
        "Short marks for people and tools. jailops acts on one: of running jails with the same value of spread, no two are on "
        "one host, and never two are down together because hosts are rebooted.",
        {"spread": "web"},
        default={},
    )


ApiVersion: TypeAlias = Literal["jailops/v1"]


class Document(Model):
    """The envelope."""

    api_version: ApiVersion = doc("The form of this document.", API_VERSION)


class FileRef(Model):
    """A file below the secrets directory of the controller."""

    file: SecretFile = doc("The file's name below the secrets directory that jailops.toml names.")


class SecretRef(Model):
    """Where a secret is: in a file or a variable of the controller, or here, encrypted for it. It never stands here in clear."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    file: SecretFile | None = doc("The file's name below the secrets directory that jailops.toml names.", default=None)
    env: SecretVariable | None = doc(
        "The name of an environment variable of the controller without JAILOPS_SECRET_, with which it begins.",
        default=None,
    )
    age: AgeFile | None = doc(
        "A file that age(1) made with --armor, for the identity in age_identity_file of jailops.toml.", default=None
    )

    @model_validator(mode="after")
    def _one(self) -> SecretRef:
        given = sum(one is not None for one in (self.file, self.env, self.age))
        if given != 1:
            raise wrong("exactly one of file, env and age", found="several" if given else "none")
        return self

    @property
    def hole(self) -> str:
        """What the vault and `controller.encode.sh.secret` call it."""
        return self.file or (f"env:{self.env}" if self.env else f"age:{self.age}")


class HostSsh(Model):
    """How the controller reaches a node. The address is the node's own."""

    port: Port = doc("The TCP port of sshd.", default=22)
    user: Login = doc("The user to log in as; it must be able to act as root.", "root", default="root")
    host_key: HostKey = doc("The machine's public host key. It is pinned: nothing else is accepted, ever.")


class Ssh(HostSsh):
    """How the controller reaches a machine."""

    address: IPv4 = doc("The machine's IPv4 address.")
