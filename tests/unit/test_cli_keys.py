"""`tocsin keys`: a key pair is made, believed, and no longer believed; nobody else can read or slip one in."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import pytest

from agent.cli import main
from agent.commands.journal import FILE, Entry, Journal, entries
from agent.commands.policy import parse_keys
from agent.commands.signing import Signer


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `tocsin keys …` with agent.toml in tmp_path; (exit code, what it said)."""
    (tmp_path / "agent.toml").write_text(f'[commands]\ntrusted_keys = {{ file = "{tmp_path}/trusted" }}\n')
    monkeypatch.setenv("TOCSIN_CONFIG", str(tmp_path / "agent.toml"))

    def keys(*words: str) -> tuple[int, str]:
        code = main(["keys", *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    return keys


def test_from_nothing_to_a_trusted_key(keys, tmp_path: Path) -> None:
    code, said = keys("new", "ops-1", "--file", f"{tmp_path}/private")
    assert code == 0
    public = re.search(r"keys trust (ops-1:\S+)", said)[1]
    private = tmp_path / "private"
    assert private.stat().st_mode & 0o777 == 0o600
    assert str(Signer.parse(private.read_text()).public) == public
    assert private.read_text().split()[1] not in said
    assert '{ credential = "private" }' in said
    assert keys("new", "ops-1", "--file", f"{tmp_path}/private") == (1, f"tocsin: {private}: File exists\n")
    assert keys("trust", public)[0] == 0
    trusted = tmp_path / "trusted"
    assert trusted.stat().st_mode & 0o777 == 0o644
    assert [str(key) for key in parse_keys(trusted.read_text())[0]] == [public]
    assert public in keys("list")[1]


def test_rotation_with_overlap_and_what_is_refused_in_it(keys, tmp_path: Path) -> None:
    lines = [str(Signer.new(f"ops-{number}")[0].public) for number in (1, 2, 3)]
    trusted = tmp_path / "trusted"
    trusted.write_text("# ours\n")
    trusted.chmod(0o644)
    assert keys("trust", lines[0])[0] == keys("trust", lines[1])[0] == 0
    assert "revoke the older one first" in keys("trust", lines[2])[1]
    assert keys("revoke", "ops-1")[0] == 0
    assert keys("trust", lines[2])[0] == 0
    assert trusted.read_text().splitlines() == ["# ours", f"revoked {lines[0]}", *(f"trusted {x}" for x in lines[1:])]
    for words, why in (
        (("trust", lines[0]), "ops-1 is revoked here; make a new key"),
        (("trust", "other:" + lines[0].partition(":")[2]), "is revoked here"),
        (("trust", lines[1]), "trusted already"),
        (("trust", "ops-9"), "ID:BASE64"),
        (("trust", "tocsin-private-key " + lines[0]), "ID:BASE64"),
        (("revoke", "ops-9"), "no key ops-9 is trusted here"),
        (("revoke", "ops-1"), "revoked already"),
        (("trust",), "expected KEY"),
        (("new", "Ops 1"), "lower-case letters"),
    ):
        before = trusted.read_text()
        code, said = keys(*words)
        assert code in (1, 2)
        assert why in said
        assert trusted.read_text() == before


def test_unblocked_only_by_root_and_with_no_key_that_ever_signed(
    keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal reaches into the future; what was signed until now must not run again."""
    state = tmp_path / "state"
    state.mkdir()
    now = time.time()
    with contextlib.closing(Journal.open(state / FILE, now + 400 * 86400)) as journal:
        journal.note(Entry(now, "refused", "key ops-0", reason="future"))
    unblock = ("unblock", "--state-dir", str(state))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "only root may" in keys(*unblock)[1]
    monkeypatch.setattr("os.geteuid", lambda: 0)
    trusted = tmp_path / "trusted"
    lines = [str(Signer.new(f"ops-{number}")[0].public) for number in (0, 1)]
    for text, names in (
        ("", "ops-0"),
        (f"trusted {lines[0]}\n", "ops-0"),
        (f"revoked {lines[0]}\ntrusted {lines[1]}\n", "ops-1"),
    ):
        trusted.write_text(text)
        trusted.chmod(0o644)
        assert keys(*unblock) == (
            1,
            f"tocsin: keys unblock: what {names} signed could run again; revoke, and trust a new key later\n",
        )
    trusted.write_text(f"revoked {lines[0]}\nrevoked {lines[1]}\n")
    with contextlib.closing(Journal.open(state / FILE, now)):
        assert "stop the agent first" in keys(*unblock)[1]
    unread = state / f"{FILE}.corrupt-1"
    unread.touch()
    assert f"{unread.name}: nobody can read there which keys have signed" in keys(*unblock)[1]
    unread.unlink()
    code, said = keys(*unblock)
    assert code == 0
    assert "trust a new key" in said
    assert "nothing to do" in keys(*unblock)[1]
    assert [entry.verb for _, entry, _ in entries(state / FILE)] == ["", "unblock"]


@pytest.mark.parametrize("wrong", ["writable", "link", "garbage"])
def test_a_list_that_others_could_have_written_is_not_edited(keys, tmp_path: Path, wrong: str) -> None:
    line = str(Signer.new("ops-1")[0].public)
    trusted = tmp_path / "trusted"
    if wrong == "link":
        (tmp_path / "real").write_text("")
        trusted.symlink_to(tmp_path / "real")
    else:
        trusted.write_text("let everybody in\n" if wrong == "garbage" else "")
        trusted.chmod(0o666 if wrong == "writable" else 0o644)
    before = trusted.read_text()
    assert keys("trust", line)[0] == 1
    assert trusted.read_text() == before
    assert trusted.is_symlink() == (wrong == "link")


def test_no_list_is_made_where_others_could_exchange_it(keys, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    code, said = keys("trust", str(Signer.new("ops-1")[0].public))
    assert code == 1
    assert f"expected chmod go-w {tmp_path}" in said
    assert not (tmp_path / "trusted").exists()
