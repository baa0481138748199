"""jailops.toml and the environment, read once and passed down.

What somebody who can only push must not be able to relax lives here and not in the repository. Secrets are files that
this file names, never values in it. Raises Stall with every problem at once.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from controller.errors import Stall
from controller.settings_told import HIDDEN, Source, problems

_PORT = r"[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]"
"""1 to 65535."""

DEFAULT_PATH = Path("/usr/local/etc/jailops/jailops.toml")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Git(_Section):
    """Where the manifests come from."""

    url: str = Field(description="https://…, ssh://user@host/…, or a local path when allow_local is true.")
    branch: str = Field("main", description="The one branch that counts.")
    token_file: Path | None = Field(None, description="HTTPS: a file whose first line is an access token.")
    ca_file: Path | None = Field(None, description="HTTPS: certificates to believe instead of the system's.")
    key_file: Path | None = Field(None, description="SSH: the private key to log in with.")
    host_keys: tuple[str, ...] = Field((), description="SSH: the server's public keys; any other is refused.")
    allow_local: bool = Field(False, description="Allow a path on this machine as the url.")
    timeout: float = Field(120.0, gt=0, description="Seconds for one fetch or push.")
    notes: bool = Field(True, description="Write the record of each pass that did something as a Git note.")
    signers_file: Path | None = Field(
        None,
        description="Who may sign commits with SSH (ALLOWED SIGNERS of ssh-keygen); every commit must be signed then.",
    )
    revoked_file: Path | None = Field(
        None, description="SSH keys whose signatures count no more: public keys, or a key revocation list."
    )
    gpg_keys_file: Path | None = Field(
        None, description="Who may sign commits with GnuPG: public keys, armoured; every commit must be signed then."
    )
    trusted_commit: str = Field(
        "",
        pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})?$",
        examples=["9fceb02d0ae598e95dc970b74767f19372d61af8"],
        description="Full id: this commit and those before it need no signature.",
    )

    @field_validator("url")
    @classmethod
    def _no_secret(cls, url: str) -> str:
        """A user name in an https URL may be a token as well. What is refused is never shown."""
        scheme, found, rest = url.rpartition("://")
        user, at, _ = rest.rpartition("@")
        if at and (":" in user or (found and scheme.lower().startswith("http"))):
            expected = "the URL alone; token_file or key_file names a file with the secret"
            raise PydanticCustomError(HIDDEN, "a URL with a password or a token in it", {"expected": expected})
        return url


class Ssh(_Section):
    """How machines are reached. Host keys are pinned in the manifests."""

    key_file: Path = Field(
        description="The controller's private key; its public half is in every machine's authorized_keys."
    )
    via: Mapping[str, str] = Field(
        default_factory=dict, description='Reach a machine elsewhere: name = "address:port" (tunnels, tests).'
    )
    look_timeout: float = Field(15.0, gt=0, description="Seconds that one look at a machine may take.")


class Secrets(_Section):
    directory: Path = Field(
        Path("/usr/local/etc/jailops/secrets"), description="Where the files lie that manifests name as secrets."
    )
    age_identity_file: Path | None = Field(
        None, description="The identity, made by age-keygen, for which secrets in the manifests are encrypted."
    )


class StoreSettings(_Section):
    directory: Path = Field(Path("/var/db/jailops"), description="The store and the Git mirror. Not on NFS.")


class Schedule(_Section):
    interval: float = Field(
        60.0,
        gt=0,
        description="Seconds between two looks when nothing else wakes it; a shorter interval of the Site counts.",
    )
    jitter: float = Field(
        5.0, ge=0, description="Seconds by which each interval varies, so that many do not ask at once."
    )
    progress: float = Field(5.0, gt=0, description="Seconds between two looks while something is under way.")


class Web(_Section):
    listen: str = Field(
        "127.0.0.1:9736",
        pattern=rf"^[^:]+:({_PORT})$",
        description="address:port of /metrics, /healthz and /readyz. Never a public address.",
    )


class Policy(_Section):
    """What a push may not do by itself."""

    max_removed: int = Field(2, ge=0, description="Objects that one revision may remove without an approval …")
    max_removed_percent: float = Field(
        10.0, ge=0, le=100, description="… or this share of all objects, whichever is more."
    )
    max_removed_per_day: int = Field(
        10, ge=0, description="Objects that the revisions of 24 hours may remove together without an approval."
    )
    addresses: tuple[IPv4Address, ...] = Field(
        (), description="Addresses of this controller, which no jail or host may take."
    )


class Log(_Section):
    format: Literal["human", "json"] = Field("human", description="human or json.")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is written.")


class Settings(BaseSettings):
    """All of jailops.toml. ``JAILOPS_GIT__URL`` and the like override single values."""

    model_config = SettingsConfigDict(
        env_prefix="JAILOPS_", env_nested_delimiter="__", extra="forbid", frozen=True, hide_input_in_errors=True
    )

    git: Git
    ssh: Ssh
    secrets: Secrets = Field(default_factory=lambda: Secrets.model_validate({}))
    store: StoreSettings = Field(default_factory=lambda: StoreSettings.model_validate({}))
    schedule: Schedule = Field(default_factory=lambda: Schedule.model_validate({}))
    web: Web = Field(default_factory=lambda: Web.model_validate({}))
    policy: Policy = Field(default_factory=lambda: Policy.model_validate({}))
    log: Log = Field(default_factory=lambda: Log.model_validate({}))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, which comes in as init arguments."""
        del settings_cls, dotenv_settings, file_secret_settings
        return env_settings, init_settings


def load(path: Path) -> Settings:
    """Read the file. Relative paths in it are relative to its directory."""
    try:
        text = path.read_text()
    except OSError as error:
        raise Stall(
            f"cannot read the settings {path}: {error.strerror}",
            hint="write one with: jailops init --settings DIRECTORY; or name it with --config",
        ) from error
    try:
        return _anchored(Settings(**tomllib.loads(text)), path.parent)
    except tomllib.TOMLDecodeError as error:
        raise Stall(
            f"cannot read the settings {path}: {error}", hint='it is TOML: key = "value" below [section]'
        ) from error
    except SettingsError as error:
        raise Stall(
            f"cannot use the settings of the environment: {error}",
            hint="a variable names one setting: JAILOPS_ and section, two underscores, and the setting's name",
        ) from None
    except ValidationError as error:
        told = "".join(f"\n  {line}" for line in problems(error, Source(path, text, os.environ), Settings))
        raise Stall(f"cannot use the settings {path}:{told}", hint="jailops init shows every setting") from None


_GIT_FILES = ("token_file", "ca_file", "key_file", "signers_file", "revoked_file", "gpg_keys_file")


def _anchored(settings: Settings, base: Path) -> Settings:
    def anchor(path: Path | None) -> Path | None:
        return None if path is None else base / path

    git = settings.git.model_copy(update={name: anchor(getattr(settings.git, name)) for name in _GIT_FILES})
    return settings.model_copy(
        update={
            "git": git,
            "ssh": settings.ssh.model_copy(update={"key_file": anchor(settings.ssh.key_file)}),
            "secrets": Secrets(
                directory=base / settings.secrets.directory,
                age_identity_file=anchor(settings.secrets.age_identity_file),
            ),
            "store": StoreSettings(directory=base / settings.store.directory),
        }
    )


def template() -> str:
    """A jailops.toml that names and explains every setting; what has a default is commented out."""
    lines = [
        "# jailops.toml: what the controller may do and where it finds things. Secrets are files, never values.",
        "",
    ]
    for name, field in Settings.model_fields.items():
        section: Any = field.annotation
        doc = (section.__doc__ or "").strip()
        lines += [f"# {doc}"] * bool(doc and section.__doc__ != _Section.__doc__)
        lines.append(f"[{name}]")
        for key, option in section.model_fields.items():
            lines.append(f"# {option.description}")
            lines.append(_example(key, option))
        lines.append("")
    return "\n".join(lines)


def _example(key: str, option: Any) -> str:
    if option.is_required():
        return f"{key} = {_REQUIRED[key]}"
    default = option.get_default(call_default_factory=True)
    return f"# {key} = {_toml(default) if default is not None else _toml(DEFAULT_PATH.parent / key)}"


_REQUIRED = {"url": '"ssh://git@git.example.org/site.git"', "key_file": '"/usr/local/etc/jailops/id_ed25519"'}


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return f'"{value}"'
