"""`throttled check`: each thing that works, and each that does not, with what to do."""

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from throttled.cli.check import _overload
from throttled.config.schema import Config
from throttled.control.results import Done
from throttled.facts import Facts, Service
from throttled.model import Finding
from throttled.store.store import Store

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon, Ended

HOST = socket.gethostname()
EVENT = "2026-07-22T10:00:01+02:00 {} postfix/smtpd[1]: connect from unknown[198.51.100.7]\n"


def _find(ended: "Ended", words: str) -> dict[str, Any]:
    found = [finding for finding in ended.json()["problems"] if words in finding["what"]]
    assert len(found) == 1, ended.out
    finding: dict[str, Any] = found[0]
    return finding


def _follow(config_file: Path, *logs: Path) -> None:
    files = ", ".join(f'"{log}"' for log in logs)
    config_file.write_text(config_file.read_text() + f"[log]\nfiles = [{files}]\n")


def test_an_unforeseen_error_stops_no_other_probe(
    cli: "Cli", monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(_logs: object) -> None:
        raise ValueError("odd\n")

    monkeypatch.setattr("throttled.health.probes.loggers.check", check)
    ended = cli("check", "--json")
    assert ended.code == 1
    found = _find(ended, "logger: check aborted: unexpected ValueError: odd")
    assert found["state"] == "fault"
    assert _find(ended, "store: ")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_a_log_that_is_no_file_is_reported_at_once(
    cli: "Cli", config_file: Path, tmp_path: Path, kind: str
) -> None:
    log = tmp_path / "mail.log"
    if kind == "fifo":
        os.mkfifo(log)
    elif kind == "directory":
        log.mkdir()
    else:
        log.symlink_to("/dev/zero")
    _follow(config_file, log)
    ended = cli("check", "--json")
    assert ended.code == 1
    assert _find(ended, "not a regular file")["state"] == "fault"


def test_text_and_exit_code(cli: "Cli", config_file: Path, tmp_path: Path) -> None:
    _follow(config_file, tmp_path / "absent")
    ended = cli("check")
    assert ended.code == 1
    lines = ended.out.splitlines()
    assert lines[0] == f"ok       configuration: {config_file}"
    error = lines.index(f"error    cannot read {tmp_path}/absent: No such file or directory")
    assert lines[error + 1].startswith("         see where Postfix logs")


def test_json_has_the_same(cli: "Cli", config_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(EVENT.format(HOST))
    _follow(config_file, log)
    ended = cli("check", "--json")
    assert _find(ended, "1 events in its last 1 lines")["state"] == "ok"
    assert _find(ended, "throttled.db will be created")["state"] == "ok"
    assert _find(ended, "the daemon is not running")["state"] == "warning"


def test_a_daemon_that_runs_and_does_not_answer_is_an_error(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = asyncio.CancelledError()  # the connection ends
    ended = cli("check", "--json")
    assert ended.code == 1
    assert _find(ended, "without an answer")["state"] == "fault"


def test_a_log_without_events_is_a_warning(cli: "Cli", config_file: Path, tmp_path: Path) -> None:
    log, empty = tmp_path / "mail.log", tmp_path / "empty.log"
    log.write_text("Jul 22 10:00:01 mx sshd[1]: nothing\n")
    empty.write_text("")
    _follow(config_file, log, empty)
    ended = cli("check", "--json")
    found = _find(ended, "mail.log, 0 events in its last 1 lines, none from Postfix")
    assert found["state"] == "warning"
    assert _find(ended, "empty.log, 0 events")["state"] == "ok"


def test_a_postfix_that_served_nobody_yet_is_no_warning(
    cli: "Cli", config_file: Path, tmp_path: Path
) -> None:
    log = tmp_path / "mail.log"
    log.write_text("Jul 22 10:00:01 mx postfix/master[1]: daemon started -- version 3.7.11\n")
    _follow(config_file, log)
    assert _find(cli("check", "--json"), "mail.log, 0 events")["state"] == "ok"
    offence = "warning: too many frobs from host.example[198.51.100.7]: <a@host.example>"
    log.write_text(f"Jul 22 10:00:02 mx postfix/smtpd[2]: {offence}\n")
    found = _find(cli("check", "--json"), "mail.log, 0 events")
    assert found["state"] == "warning"
    assert "parse --unknown" in found["hint"]


def test_a_log_of_another_host_is_a_fault(cli: "Cli", config_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(EVENT.format("elsewhere"))
    _follow(config_file, log)
    found = _find(cli("check", "--json"), "mail.log, 1 events in its last 1 lines")
    assert found["state"] == "fault"
    assert 'hosts = ["elsewhere"]' in found["hint"]
    config_file.write_text(config_file.read_text() + '[postfix]\nhosts = ["elsewhere"]\n')
    assert _find(cli("check", "--json"), "mail.log, 1 events")["state"] == "ok"


# The default backend keeps a netlink socket for as long as the process lives.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_faulty_configuration_is_reported_and_the_rest_checked(
    cli: "Cli", config_file: Path
) -> None:
    config_file.write_text("nonsense = 1")
    ended = cli("--socket", "/nonexistent/socket", "check", "--json")
    assert ended.code == 1
    assert _find(ended, "nonsense")["state"] == "fault"
    assert _find(ended, "the daemon is not running")["state"] == "warning"
    ended = cli("check", "--json")
    assert _find(ended, "nonsense")["state"] == "fault", "reported once"
    assert _find(ended, "were not checked")["state"] == "warning"


def test_the_store(cli: "Cli", config_file: Path, tmp_path: Path) -> None:
    Store.open(str(tmp_path / "throttled.db")).close()
    assert _find(cli("check", "--json"), "throttled.db, 0 active throttles")["state"] == "ok"
    (tmp_path / "throttled.db").write_text("This is no database, whatever it is called. " * 20)
    assert _find(cli("check", "--json"), "throttled.db")["state"] == "fault"
    text = config_file.read_text().replace("throttled.db", "absent/throttled.db")
    config_file.write_text(text)
    assert _find(cli("check", "--json"), "/absent does not exist")["state"] == "warning"
    config_file.write_text(text.replace("absent", "x" * 300))  # as a directory that is root's
    assert _find(cli("check", "--json"), "File name too long")["state"] == "fault"


def test_the_daemon(cli: "Cli", daemon: "Daemon") -> None:
    daemon.answer = Done()  # to everything, also where more is expected
    assert _find(cli("check", "--json"), "unexpected answer")["state"] == "warning"


def test_no_postfix(cli: "Cli", config_file: Path, tmp_path: Path) -> None:
    config_file.write_text(
        config_file.read_text() + f'[postfix]\nconfig_directories = ["{tmp_path}"]\n'
    )
    ended = cli("check", "--json")
    assert ended.code == 1
    assert _find(ended, "Postfix has no SMTP service")["state"] == "fault"


def test_postfix_in_a_container(cli: "Cli", config_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    log.write_text(EVENT.format("mx"))
    _follow(config_file, log)
    postfix = f'[postfix]\nconfig_directories = ["{tmp_path}"]\nhosts = ["mx"]\n'
    named = "[firewall]\nports = { submission = [2525] }\n"
    config_file.write_text(postfix + config_file.read_text().replace("[firewall]\n", named))
    findings = cli("check", "--json").json()["problems"]
    here = [
        p for p in findings if not p["what"].startswith(("firewall ", "sensor"))
    ]  # not this host's
    assert not [p for p in here if p["state"] == "fault"]
    assert any("ports: 25, 2525 filtered; Postfix seems to run" in p["what"] for p in here)


def test_a_file_and_the_journal_would_count_lines_twice(cli: "Cli", config_file: Path) -> None:
    log = config_file.with_name("mail.log")
    log.write_text(EVENT.format(HOST))
    _follow(config_file, log)
    config_file.write_text(config_file.read_text() + "journal = true\n")
    ended = cli("check", "--json")
    assert ended.code == 1
    assert _find(ended, "both read")["state"] == "fault"


def test_two_files_with_the_same_lines_would_count_them_twice(
    cli: "Cli", config_file: Path
) -> None:
    log, link, syslog = map(config_file.with_name, ("mail.log", "maillog", "syslog"))
    log.write_text(EVENT.format(HOST) * 2)
    link.symlink_to(log)
    bare = config_file.read_text()
    _follow(config_file, log, link)
    findings = cli("check", "--json").json()["problems"]
    assert not any("same lines" in finding["what"] for finding in findings), "followed once"
    syslog.write_text("Nov 22 10:00:01 mx cron[1]: x\n" + EVENT.format(HOST))
    config_file.write_text(bare)
    _follow(config_file, log, syslog, link)
    findings = cli("check", "--json").json()["problems"]
    (finding,) = [finding for finding in findings if "same lines" in finding["what"]]
    assert finding["state"] == "fault"
    assert {str(log), str(syslog)} < set(finding["what"].split())


def test_for_want_of_a_file_the_journal_is_looked_for(cli: "Cli", config_file: Path) -> None:
    _follow(config_file)
    findings = cli("check", "--json").json()["problems"]
    assert any("journal" in finding["what"] for finding in findings)


def test_files_beside_the_configuration(cli: "Cli", config_file: Path) -> None:
    beside = config_file.with_suffix(".d")
    beside.mkdir()
    secret = beside / "notify.toml"
    secret.write_text('[notify]\nurl = "http://127.0.0.1/x"\n[firewall]\nbackend = "iptables"\n')
    secret.chmod(0o644)
    found = cli("check", "--no-visit").out.splitlines()
    assert f"ok       configuration: {config_file}, {secret}" in found
    assert f"         firewall.backend: {secret}:4 counts, not {config_file}:6" in found
    readable = f"every local user can read the webhook's URL, a secret, in {secret}"
    assert any(readable in line for line in found)


@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize(
    ("processes", "proxy", "why"),
    [
        (100, "", ""),
        (2, "", "Postfix has fewer than 5 processes here (2); set [overload] cap"),
        (0, "", "Postfix has no process limit here; set [overload] cap"),
        (100, "haproxy", "Postfix's services here get their clients from a proxy"),
    ],
)
def test_where_strangers_are_not_limited_it_says_why(
    processes: int, proxy: str, why: str, *, running: bool
) -> None:
    """In one line that is no warning; a daemon reports it, but for services behind a proxy."""
    service = Service("/etc/postfix", "smtp", "smtpd", "postfix", 25, "mx", proxy, processes)
    found = list(_overload(Config(), Facts(services=(service,)), running=running))
    text = f"everybody is admitted: {why}" if why else "strangers may have 80 connections open"
    reported = not running or proxy
    assert found == ([Finding("ok", f"overload: mx: {text}")] if reported else [])
