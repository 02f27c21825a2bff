"""`throttled postfix` as it prints; what it changes is tested on a real Postfix."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.mail.maincf import configure

if TYPE_CHECKING:
    from unit.cli.conftest import Cli

CLIENT = "mx.example.org[198.51.100.7]"


@pytest.fixture
def config(tmp_path: Path) -> str:
    main = "smtpd_recipient_limit = 50\nmydestination = a.test"
    master = "smtp inet n - n - - smtpd\n2525 inet n - n - - smtpd\n  -o smtpd_timeout=77s"
    directory = configure(tmp_path / "postfix", main, master)
    now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
    (tmp_path / "mail.log").write_text(
        f"{now} m postfix/smtpd[9]: too many errors after RCPT from {CLIENT}\n" * 2
        + f"{now} m postfix/smtpd[9]: disconnect from {CLIENT} rcpt=1/9 data=1 commands=4/12\n"
    )
    path = tmp_path / "throttled.toml"
    path.write_text(
        f'[postfix]\nconfig_directories = ["{directory}"]\n'
        f'[log]\nfiles = ["{tmp_path}/mail.log"]\njournal = false\n'
        f'[store]\npath = "{tmp_path}/throttled.db"\n'
    )
    return str(path)


def test_the_first_line_answers(cli: "Cli", config: str, tmp_path: Path) -> None:
    ended = cli("--config", config, "postfix")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0].startswith(f"{tmp_path}/postfix (Postfix ")
    assert lines[0].endswith("changes advised; 1 limit was hit within the last day")
    assert lines[1] == "to set what is advised: throttled postfix set --advised"
    cells = {line.split()[0]: line.split()[1:] for line in lines[2:] if line}
    assert cells["smtpd_recipient_limit"] == ["50", "1000", "silent", "1000"]
    assert cells["smtpd_hard_error_limit"] == ["20", "2", "8", "="]
    assert "hit: smtpd_hard_error_limit: 2 times, most often by 198.51.100.7 (2)" in lines
    assert "smtpd_timeout = 77s at 2525/inet (master.cf)" in lines
    assert any(line.startswith("advised: smtpd_recipient_limit = 1000: ") for line in lines)


def test_json(cli: "Cli", config: str) -> None:
    (one,) = cli("--config", config, "postfix", "--json").json()["instances"]
    rows = {row["name"]: row for row in one["rows"]}
    assert rows["smtpd_hard_error_limit"]["clients"] == {"198.51.100.7": 2}
    assert rows["smtpd_hard_error_limit"]["honest"] == 8
    assert rows["smtpd_timeout"]["services"] == {"2525/inet": "77s"}
    assert (rows["smtpd_recipient_limit"]["silent"], rows["smtpd_recipient_limit"]["hits"]) == (
        True,
        None,
    )


def test_a_log_that_cannot_be_read_hides_nothing_else(
    cli: "Cli", config: str, tmp_path: Path
) -> None:
    (tmp_path / "mail.log").unlink()
    ended = cli("--config", config, "postfix")
    assert ended.code == 0
    assert "whether limits were hit is not known" in ended.out.splitlines()[0]
    assert "No such file" in ended.out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("show", "a=b"), "show takes no values"),
        (("undo", "--advised"), "undo takes no values"),
        (("set",), "set what?"),
        (("set", "a=b"), "no terminal to ask"),
        (("set", "a", "--yes"), "no NAME=VALUE: a"),
        (("set", "a=b", "a=c", "--yes"), "a is there twice"),
        (("set", "a=b", "--yes"), "no parameter that this command sets: a"),
        (("set", "smtpd_timeout=1\x07", "--yes"), "cannot be printed"),
        (("set", "smtpd_timeout=20s", "--yes", "--instance", "x"), "no such Postfix instance"),
    ],
)
@pytest.mark.root
def test_bad_usage(cli: "Cli", config: str, argv: tuple[str, ...], message: str) -> None:
    ended = cli("--config", config, "postfix", *argv)
    assert ended.code == 2
    assert message in ended.err


@pytest.mark.root
def test_a_postfix_that_does_not_run_is_not_changed(cli: "Cli", config: str) -> None:
    ended = cli("--config", config, "postfix", "set", "smtpd_timeout=20s", "--yes")
    assert ended.code == 1
    assert "is not running" in ended.err


@pytest.mark.root
@pytest.mark.parametrize(("limit", "hit"), [(8, True), (9, False)])
def test_a_limit_that_honest_senders_would_have_hit(
    cli: "Cli", config: str, limit: int, *, hit: bool
) -> None:
    main = Path(config).parent / "postfix/main.cf"
    settings = {"smtpd_hard_error_limit": limit, "smtpd_soft_error_limit": 5}
    settings |= {"smtpd_client_connection_count_limit": 0}
    main.write_text(main.read_text() + "".join(f"{n} = {v}\n" for n, v in settings.items()))
    argv = [f"{name}={value}" for name, value in settings.items()]
    ended = cli("--config", config, "postfix", "set", *argv, "--yes")
    assert ended.code == 0, ended.err
    lines = [line for line in ended.out.splitlines() if "honest" in line]
    expected = "would have hit honest senders: they reached 8 (198.51.100.7)"
    assert f"smtpd_soft_error_limit = 5 {expected}" in lines
    assert (f"smtpd_hard_error_limit = {limit} {expected}" in lines) == hit
    assert len(lines) == 1 + hit


@pytest.mark.root
def test_nothing_to_change(cli: "Cli", config: str) -> None:
    ended = cli("--config", config, "postfix", "set", "mailbox_size_limit=51200000", "--yes")
    assert ended.code == 1  # it is the default, and not written yet
    main = Path(config).parent / "postfix/main.cf"
    main.write_text(main.read_text() + "smtpd_timeout = 20s\n")
    ended = cli("--config", config, "postfix", "set", "smtpd_timeout=20s", "--yes")
    assert ended.code == 0
    assert ended.out.startswith("nothing to change: main.cf says so already\n")
    assert "smtpd_timeout is 77s for 2525/inet all the same" in ended.out
    assert "honest" not in ended.out
    ended = cli("--config", config, "postfix", "undo", "--yes")
    assert (ended.code, "nothing to undo" in ended.err) == (1, True)
