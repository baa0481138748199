"""jailops.toml: every problem at once, relative paths from its own place, secrets only as files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from controller.errors import Stall
from controller.settings import Settings, load, template
from controller.vault import Vault

CASES = Path(__file__).parents[1] / "cases" / "settings"
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


@pytest.mark.parametrize("case", sorted(CASES.glob("*.toml")), ids=lambda path: path.stem)
def test_what_is_wrong_is_said_with_its_place(case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem at once; a first line ``# environment NAME=VALUE`` sets one."""
    text = case.read_text()
    for name, _, value in (line.split()[2].partition("=") for line in text.splitlines() if "# environment" in line):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    Path("jailops.toml").write_text(text)
    with pytest.raises(Stall) as caught:
        load(Path("jailops.toml"))
    assert f"{caught.value}\n{caught.value.hint}\n" == case.with_suffix(".message").read_text()


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://git.example.org/site.git", True),
        ("ssh://git@git.example.org:2222/site.git", True),
        ("git@git.example.org:site.git", True),
        ("/srv/site.git", True),
        ("https://0pen-sesame@git.example.org/site.git", False),
        ("https://ops:0pen/se@same@git.example.org/site.git", False),
        ("HTTPS://ops:0pen-sesame@git.example.org/site.git", False),
        ("ssh://git:0pen-sesame@git.example.org/site.git", False),
        ("git:0pen-sesame@git.example.org:site.git", False),
    ],
)
def test_a_secret_in_the_url_is_refused_and_never_shown(tmp_path: Path, url: str, good: bool) -> None:
    file = tmp_path / "jailops.toml"
    file.write_text(f'[git]\nurl = "{url}"\n[ssh]\nkey_file = "id_ed25519"\n')
    if good:
        assert load(file).git.url == url
        return
    with pytest.raises(Stall, match=r"git\.url: found a URL with a password or a token in it") as caught:
        load(file)
    assert "same" not in f"{caught.value!r} {caught.value.hint} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    ("port", "good"), [("1", True), ("65535", True), ("0", False), ("65536", False), ("99999", False)]
)
def test_a_port_is_one_that_exists(tmp_path: Path, port: str, good: bool) -> None:
    (tmp_path / "jailops.toml").write_text(f'{LEAST}[web]\nlisten = "127.0.0.1:{port}"\n')
    if good:
        assert load(tmp_path / "jailops.toml").web.listen == f"127.0.0.1:{port}"
        return
    with pytest.raises(Stall, match=f'web.listen: found "127.0.0.1:{port}", expected'):
        load(tmp_path / "jailops.toml")


def test_a_variable_that_names_a_whole_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "jailops.toml").write_text(LEAST)
    monkeypatch.setenv("JAILOPS_GIT", "/srv/site.git")
    with pytest.raises(Stall, match="cannot use the settings of the environment") as caught:
        load(tmp_path / "jailops.toml")
    assert "JAILOPS_" in caught.value.hint


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
        assert Vault(tmp_path).values(frozenset({name}))[name].reveal() == text
