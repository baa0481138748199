"""What `jailops rollback` makes of a name, by what the last pass saw."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from controller.cli import cli
from controller.errors import Stall
from controller.model import Hops, Record, Ref, Status
from controller.pins import Rollback, known_image, rollback_to
from controller.store import Store

COMPLETE = {
    "old": {"finished": 1, "hosts": {"node1": "a"}},
    "mid": {"finished": 2, "hosts": {"node1": "b", "both": "b"}},
    "new": {"finished": 3, "hosts": {"node1": "c", "both": "c"}},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        hosts = (Hops("node1", "freebsd", "new", proved="old"), Hops("both", "dark", "new"))
        store.record(Record("r1", "", "", "", 0.0, 0.0, "", "converged", hosts=hosts))
        seen = {"generations": COMPLETE, "wanted": "new"}
        statuses = [Status(Ref("image", name), "Ready", detail=seen) for name in ("freebsd", "both")]
        store.set_statuses([*statuses, Status(Ref("image", "dark"), "Unknown")], 0.0)
        yield store


@pytest.mark.parametrize(
    ("what", "to", "target", "generation"),
    [
        ("host/node1", "", "host/node1", "old"),  # what proved itself there
        ("node1", "mid", "host/node1", "mid"),
        ("image/freebsd", "", "image/freebsd", "mid"),  # the newest before the wanted one
        ("freebsd", "old", "image/freebsd", "old"),
    ],
)
def test_where_it_leads(store: Store, what: str, to: str, target: str, generation: str) -> None:
    assert rollback_to(store, what, to) == Rollback(target, generation, "r1")


@pytest.mark.parametrize(
    ("what", "to", "message"),
    [
        ("nosuch", "", "cannot roll back nosuch: name a host or an image: there is none so called"),
        ("both", "", "cannot roll back both: name host/both or image/both: there are both"),
        ("jail/node1", "", "cannot roll back jail/node1: only host/NAME and image/NAME can be"),
        ("host/node2", "", "cannot use host node2: the last pass saw no such host, did you mean node1?"),
        ("image/x", "", "cannot use image x: the last pass saw no such image"),
        ("node1", "abc", "cannot roll back node1 to abc: there is no such generation of freebsd"),
        ("host/both", "", "cannot roll back host/both: the last pass could not see the generations of dark"),
    ],
)
def test_what_cannot_be_rolled_back(store: Store, what: str, to: str, message: str) -> None:
    with pytest.raises(Stall) as error:
        rollback_to(store, what, to)
    assert str(error.value) == message


def test_after_a_revert_nothing_newer_is_taken_for_the_way_back(store: Store) -> None:
    """The manifests want the oldest again: what came after it is what they turned away from."""
    reverted = Status(Ref("image", "freebsd"), "Ready", detail={"generations": COMPLETE, "wanted": "old"})
    store.set_statuses([reverted], 0.0)
    with pytest.raises(Stall, match="there is no complete generation of freebsd before the wanted one"):
        rollback_to(store, "freebsd", "")
    assert rollback_to(store, "freebsd", "mid").generation == "mid"


ABC = {name: {"finished": at, "hosts": {"n1": name, "n2": name}} for at, name in enumerate("abcd")}


def abc(tmp_path: Path, *hosts: Hops, wanted: str = "c", complete: str = "abc") -> Store:
    """What the last pass saw of one image."""
    store = Store(tmp_path / "store")
    store.record(Record("r1", "", "", "", 0.0, 0.0, "", "converged", hosts=hosts))
    seen = {"generations": {name: ABC[name] for name in complete}, "wanted": wanted}
    store.set_statuses([Status(Ref("image", "x"), "Ready", detail=seen)], 0.0)
    return store


@pytest.mark.parametrize(
    ("what", "hosts", "leads"),
    [
        # a was good, b failed on both, c mended it and is proved: nobody is led into b
        ("image/x", [("c", ("b",)), ("c", ("b",))], "a"),
        ("host/n1", [("c", ("b",)), ("c", ("b",))], "a"),
        # b failed on a canary only: the other never had it
        ("image/x", [("c", ("b",)), ("c", ())], "a"),
        ("host/n2", [("c", ("b",)), ("c", ())], "a"),
        # what a host proved is good for it, whoever it failed on
        ("host/n2", [("c", ("b",)), ("b", ())], "b"),
        ("host/n1", [("b", ("b",)), ("a", ())], "a"),
        # one whose memory was not seen says nothing, and is not rebooted either
        ("image/x", [("c", ("b",)), ("", None)], "a"),
    ],
)
def test_no_default_leads_to_what_is_known_to_be_bad(
    tmp_path: Path, what: str, hosts: list[tuple[str, tuple[str, ...] | None]], leads: str
) -> None:
    seen = [
        Hops(name, "x", "c", proved=good, marked=bad) for name, (good, bad) in zip(("n1", "n2"), hosts, strict=True)
    ]
    with abc(tmp_path, *seen) as store:
        assert rollback_to(store, what, "") == Rollback(what, leads, "r1")


@pytest.mark.parametrize(
    ("marked", "complete", "message", "hint"),
    [
        (
            ("a", "b"), "abc",
            "cannot choose for n1: every complete generation of x before the wanted one has failed: b on n1; a on n1",
            "name one with --to if it was not its fault",
        ),
        (
            None, "abc", "cannot choose for n1: the last pass could not see which generations failed on it",
            "name one with --to: b, a",
        ),
        (
            (), "c", "cannot roll back n1: there is no complete generation of x before the wanted one",
            "push a revert: what it wants is built anew",
        ),
        (
            (), "cd", "cannot roll back n1: there is no complete generation of x before the wanted one",
            "name a newer one with --to: d",
        ),
    ],
)  # fmt: skip
def test_when_there_is_no_default(
    tmp_path: Path, marked: tuple[str, ...] | None, complete: str, message: str, hint: str
) -> None:
    with abc(tmp_path, Hops("n1", "x", "c", proved="c", marked=marked), complete=complete) as store:
        with pytest.raises(Stall) as error:
            rollback_to(store, "n1", "")
        assert (str(error.value), error.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("failed", "warning"),
    [
        ((), "b did not prove itself on n1; it is booted all the same"),
        (("b",), "b did not prove itself on n1; it is booted only after: jailops retry boot/n1"),
    ],
)
def test_a_bad_one_that_is_named_is_taken_with_a_warning(tmp_path: Path, failed: tuple[str, ...], warning: str) -> None:
    with abc(tmp_path, Hops("n1", "x", "c", failed=failed, marked=("b",)), Hops("n2", "x", "c")) as store:
        assert rollback_to(store, "image/x", "b") == Rollback("image/x", "b", "r1", warning)
        assert rollback_to(store, "image/x", "a").warning == ""


def test_who_names_nothing_that_is_there_is_told_what_is(store: Store) -> None:
    with pytest.raises(Stall) as error:
        known_image(store, "nosuch")
    assert (str(error.value), error.value.hint) == (
        "cannot use image nosuch: the last pass saw no such image", "there is both, dark, freebsd"
    )  # fmt: skip


@pytest.mark.parametrize("more", [[], ["--reason", ""], ["--reason", "  "]])
def test_a_rollback_without_a_reason_says_why_there_must_be_one(more: list[str]) -> None:
    said = CliRunner().invoke(cli, ["rollback", "node1", *more])
    assert said.exit_code == 2
    assert said.stderr == (
        "jailops: cannot roll back node1: say why, it stands in the record of every pass: "
        'jailops rollback node1 --reason "the new kernel drops packets"\n'
    )


@pytest.mark.parametrize("what", ["world/x", "image/", "a/b/c"])
def test_only_images_are_explained(what: str) -> None:
    said = CliRunner().invoke(cli, ["explain", what])
    assert said.exit_code == 2
    assert said.stderr == f"jailops: cannot explain {what}: only images can be explained, NAME or image/NAME\n"


@pytest.mark.parametrize("name", ["freebsd", "image/freebsd"])
def test_a_rollout_is_paused_by_either_name(tmp_path: Path, name: str) -> None:
    """As people say it, and as status shows it."""
    config, kept = tmp_path / "jailops.toml", tmp_path / "store" / "jailops.sqlite"
    config.write_text(
        '[git]\nurl = "/srv/site.git"\nallow_local = true\n[ssh]\nkey_file = "k"\n[store]\ndirectory = "store"\n'
    )
    with Store(kept) as store:
        store.set_statuses([Status(Ref("image", "freebsd"), "Ready")], 0.0)
    for verb, paused in (("pause", ["freebsd"]), ("resume", [])):
        assert CliRunner().invoke(cli, ["rollout", verb, name, "-c", str(config)]).exit_code == 0
        with Store(kept, read_only=True) as store:
            assert store.requests("pause") == paused


@pytest.mark.parametrize("reason", ["fine\n  done          jail/x: nothing to see", "\x1b[2J"])
def test_a_reason_is_one_line_of_text(reason: str) -> None:
    """It stands in the commit's note, where further lines would pass for acts."""
    said = CliRunner().invoke(cli, ["rollback", "node1", "--reason", reason])
    assert said.exit_code == 2


def test_before_the_first_pass(tmp_path: Path) -> None:
    with Store(tmp_path / "store") as store:
        with pytest.raises(Stall, match="no pass has looked at anything yet"):
            rollback_to(store, "node1", "")
        with pytest.raises(Stall, match="cannot use image x: the last pass saw no such image"):
            known_image(store, "x")
