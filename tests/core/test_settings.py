"""jailops.toml: every problem at once, relative paths from its own place, secrets only as files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from controller.errors import Stall
from controller.settings import Settings, load, template
from controller.vault import Vault

LEAST = '[git]\nurl = "/srv/site.git"\nallow_local = true\n[ssh]\nkey_file = "id_ed25519"\n'


def test_the_template_is_valid_and_names_every_setting(tmp_path: Path) -> None:
    text = template()
    (tmp_path / "jailops.toml").write_text(text)
    load(tmp_path / "jailops.toml")
    for section, field in Settings.model_fields.items():
        assert f"[{section}]" in text
        for name in field.annotation.model_fields:  # type: ignore[union-attr]
            assert f"\n{name} = " in text or f"\n# {name} = " in text, (section, name)


def test_the_template_with_every_comment_removed_is_toml() -> None:
    lines = [re.sub(r"^# (?=[a-z_]+ = )", "", line) for line in template().splitlines()]
    parsed = tomllib.loads("\n".join(line for line in lines if not line.startswith("#")))
    assert parsed["schedule"]["interval"] == 60.0


def test_relative_paths_begin_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "jailops.toml").write_text(LEAST + '[store]\ndirectory = "state"\n')
    loaded = load(tmp_path / "jailops.toml")
    assert loaded.ssh.key_file == tmp_path / "id_ed25519"
    assert loaded.store.directory == tmp_path / "state"
    assert loaded.secrets.directory == Path("/usr/local/etc/jailops/secrets")


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jailops.toml").write_text(LEAST)
    monkeypatch.setenv("JAILOPS_SCHEDULE__INTERVAL", "7")
    assert load(tmp_path / "jailops.toml").schedule.interval == 7.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[git\n", "cannot read the settings"),
        ('[git]\nurl = "x"\n', "ssh: Field required"),
        (LEAST + '[web]\nlisten = "everywhere"\n', "web.listen: String should match pattern"),
        (LEAST + "[schedule]\ninterval = 0\nintervall = 3\n", "schedule.intervall: Extra inputs are not permitted"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "jailops.toml").write_text(text)
    with pytest.raises(Stall, match=message.replace(".", r"\.")) as caught:
        load(tmp_path / "jailops.toml")
    assert caught.value.hint


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Stall, match="cannot read the settings") as caught:
        load(tmp_path / "none.toml")
    assert "jailops init" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        ("", "it is empty or holds"),
        ("it's", "it is empty or holds"),
        ("two\nlines", "it is empty or holds"),
        ("back`tick`", "it is empty or holds"),
    ],
)
def test_an_unusable_secret_is_named_and_never_shown(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "chap").write_text(content)
    with pytest.raises(Stall, match=message) as caught:
        Vault(tmp_path).values(frozenset({"chap"}))
    assert "secret chap" in str(caught.value)
    assert not content or content not in str(caught.value) + caught.value.hint


def test_a_secret_outside_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "key").write_text("abc")
    (tmp_path / "secrets" / "link").symlink_to(tmp_path / "key")
    with pytest.raises(Stall, match="cannot read the secret link"):
        Vault(tmp_path / "secrets").values(frozenset({"link"}))


def test_keys_hashes_and_words_are_secrets(tmp_path: Path) -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc+/=\n-----END OPENSSH PRIVATE KEY-----"
    for name, text in {"key": key, "hash": "$6$salt$abc./", "word": "Secret12.secret"}.items():
        (tmp_path / name).write_text(text + "\n")
        assert Vault(tmp_path).values(frozenset({name})) == {name: text}
