"""Who may command this host is read only from files that nobody else can write; nothing is allowed by default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.cli import main
from agent.commands.policy import keyring, keys, parse_keys, trust_faults, verb_faults
from agent.commands.signing import Signer
from agent.config.load import read
from agent.config.ownership import read_owned
from agent.config.schema import CommandsConfig
from agent.errors import CommandError

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
ONE, TWO, THREE = (Signer.new(f"ops-{number}")[0].public for number in (1, 2, 3))


class Host:
    """An agent.toml with [commands], its keys file and its jobs file, all as they should be."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "agent.toml"
        self.keys = directory / "keys"
        self.jobs = directory / "jobs.toml"
        self.keys.write_text(f"trusted {ONE}  # the collector's\n")
        self.jobs.write_text('[jobs.hello]\nargv = ["/bin/echo", "hello"]\n')
        self.write(f'trusted_keys = {{ file = "{self.keys}" }}')
        for file in (self.config, self.keys, self.jobs):
            file.chmod(0o644)

    def write(self, lines: str, more: str = "") -> None:
        self.config.write_text(f'[commands]\nallow = ["status", "job"]\njobs = "{self.jobs}"\n{lines}\n{more}\n')

    def read(self) -> CommandsConfig:
        reading = read(self.config)
        assert reading.faults == []
        return reading.config.commands


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_by_default_a_host_takes_no_commands() -> None:
    commands = CommandsConfig()
    assert commands.allow == ()
    assert trust_faults(commands) == []
    with pytest.raises(CommandError) as refused:
        keyring(commands)
    assert refused.value.code == "disabled"


def test_keys_stand_in_the_file_or_beside_it(host: Host) -> None:
    assert keys(host.read()) == ([ONE], [])
    host.write(f'trusted_keys = ["{ONE}", "{TWO}"]')
    assert keys(host.read()) == ([ONE, TWO], [])
    assert trust_faults(host.read()) == []


@pytest.mark.parametrize("which", ["config", "keys", "jobs"])
@pytest.mark.parametrize(
    "wrong",
    ["group-writable", "world-writable", "symlink", pytest.param("owner", marks=root_only)],
)
def test_a_file_that_others_could_have_written_enables_nothing(
    host: Host, which: str, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    commands, file = host.read(), getattr(host, which)
    if wrong == "symlink":
        file.rename(file.with_suffix(".real"))
        file.symlink_to(file.with_suffix(".real"))
    elif wrong == "owner":
        os.chown(file, 4343, 4343)
    else:
        file.chmod(0o664 if wrong == "group-writable" else 0o646)
    faults = trust_faults(commands)
    assert len(faults) == 1
    assert str(file) in faults[0]
    with pytest.raises(CommandError) as refused:
        keyring(commands)
    assert refused.value.code == "disabled"
    assert main(["check", "-c", str(host.config)]) == 78
    assert "no commands are taken" in capsys.readouterr().err


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_directory_that_others_can_write_enables_nothing(tmp_path: Path, mode: int) -> None:
    """An older file of root's, in which a key is not yet revoked, could be renamed to the name."""
    directory = tmp_path / "tocsin"
    directory.mkdir()
    host = Host(directory)
    directory.chmod(mode)
    faults = trust_faults(host.read())
    assert f"expected chmod go-w {directory}" in faults[0].text
    with pytest.raises(CommandError) as refused:
        keyring(host.read())
    assert refused.value.code == "disabled"


@pytest.mark.parametrize(("mode", "fine"), [(0o775, False), (0o1777, True), (0o755, True)])
def test_so_does_one_above_it_in_which_it_could_be_exchanged(tmp_path: Path, mode: int, fine: bool) -> None:
    above = tmp_path / "srv"
    (above / "tocsin").mkdir(parents=True)
    host = Host(above / "tocsin")
    above.chmod(mode)
    assert (trust_faults(host.read()) == []) is fine


def test_a_link_on_the_way_is_looked_at_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "open" / "tocsin").mkdir(parents=True)
    Host(tmp_path / "open" / "tocsin")
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "etc").symlink_to(tmp_path / "open" / "tocsin")
    with pytest.raises(ValueError, match=rf"expected chmod go-w {tmp_path}/open$"):
        read_owned(tmp_path / "etc" / "keys")


@root_only
def test_a_link_of_somebody_elses_could_be_made_to_lead_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    Host(tmp_path / "etc")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "way").symlink_to(tmp_path / "etc")
    read_owned(shared / "way" / "keys")
    os.chown(shared / "way", 4343, 4343, follow_symlinks=False)
    (tmp_path / "first").symlink_to(shared / "way")
    for way in (shared / "way", tmp_path / "first"):
        with pytest.raises(ValueError, match=rf"{shared}/way belongs to user 4343"):
            read_owned(way / "keys")


def test_links_in_a_circle_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(ValueError, match="cannot be read"):
        read_owned(tmp_path / "a" / "keys")


@root_only
def test_nor_may_a_directory_be_somebody_elses(tmp_path: Path) -> None:
    host = Host(tmp_path)
    os.chown(tmp_path, 4343, 4343)
    assert "belongs to user 4343" in trust_faults(host.read())[0].text


def test_jobs_may_be_missing_where_job_is_not_allowed(host: Host) -> None:
    host.jobs.unlink()
    assert "there is no" in trust_faults(host.read())[0]
    host.config.write_text(host.config.read_text().replace('"status", "job"', '"status"'))
    assert trust_faults(host.read()) == []


def test_a_revocation_holds_at_once(host: Host) -> None:
    commands = host.read()
    assert keys(commands) == ([ONE], [])
    host.keys.write_text(f"trusted {TWO}\nrevoked {ONE}\n")
    assert keys(commands) == ([TWO], [ONE])


@pytest.mark.parametrize(
    "text",
    [
        f"trusted {ONE}\ntrusted {TWO}\ntrusted {THREE}\n",
        f"believed {ONE}\n",
        "trusted ops-1:AAAA\n",
        f"trusted Ops-1:{str(ONE)[6:]}\n",
        f"trusted {ONE} {TWO}\n",
        "trusted\n",
    ],
    ids=["too many", "unknown word", "short key", "bad name", "two in a line", "no key"],
)
def test_a_faulty_keys_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected|at most 2"):
        parse_keys(text)


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ('allow = ["reboot"]', "commands.allow[0]: expected a verb of hosts"),
        ('allow = ["hosts"]', "commands.allow[0]: expected a verb of hosts"),
        ('[[commands.grants]]\nusers = ["U1"]\nverbs = ["reboot"]', 'expected "*" or a verb'),
    ],
)
def test_an_unknown_verb_is_a_fault(tmp_path: Path, lines: str, fault: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f"[commands]\n{lines}\n")
    found = read(file).lines([str(one) for one in verb_faults(read(file).config.commands)])
    assert fault in found[0]


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ('trusted_keys = ["ops-1"]', "ID:BASE64"),
        ('trusted_keys = "ops-1"', "a list of at most two keys"),
        (f'trusted_keys = ["{ONE}", "{TWO}", "{THREE}"]', "at most two keys"),
        (f'trusted_keys = ["{ONE}", "{ONE}"]', "at most two keys"),
        ('jobs = "jobs.toml"', "a path from the root"),
        ('signing_key = "ops-1:AAAA"', "expected { env"),
        ('[[commands.grants]]\nverbs = ["status"]', "users and usergroups"),
        ('[[commands.grants]]\nusers = ["ada"]\nverbs = ["*"]', "an id of Slack"),
        ('[[commands.grants]]\nusers = ["U1A"]', "the verbs that are granted"),
    ],
)
def test_faults_of_the_table_have_a_hint(tmp_path: Path, lines: str, fault: str) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(f"[commands]\n{lines}\n")
    assert fault in "\n".join(read(file).lines())


def test_a_host_need_not_have_the_collectors_key(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[commands]\nsigning_key = { env = "NOT_SET_HERE" }\n')
    assert "missing secret" in "\n".join(read(file).lines())
    assert read(file, elsewhere="collector").faults == []
