"""Logs of several instances, read for hits and honest peaks."""

import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from throttled import model
from throttled.analysis.limits import Reader, stored
from throttled.facts import Facts
from throttled.maincf.evidence import Evidence
from throttled.model import Peak
from throttled.store.store import Store

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()
C = "mx.example.org[198.51.100.7]"


def line(hour: int, tag: str, body: str, host: str = "mx") -> str:
    return f"2026-11-29T{hour:02}:00:00+00:00 {host} {tag}[99]: {body}\n"


def test_lines_of_each_instance_and_this_host_only(tmp_path: Path) -> None:
    log = tmp_path / "mail.log"
    hit = f"too many errors after RCPT from {C}"
    anvil = "statistics: max connection rate 7/60s for (smtp:198.51.100.7) at Nov 29 10:00:00"
    log.write_text(
        line(3, "postfix/smtpd", hit)  # too old
        + line(10, "postfix/smtpd", hit)
        + line(10, "postfix/submission/smtpd", f"disconnect from {C} data=1 commands=1/3")
        + line(10, "postfix/anvil", anvil)
        + line(10, "postfix/smtpd", hit, "elsewhere")
        + line(10, "postfix-out/smtpd", hit)
        + line(10, "postfix-out/smtpd", hit + "\r")
        + line(10, "other/smtpd", hit)
        + "no line of syslog\n"
    )
    old = tmp_path / "mail.log.1"
    old.write_text(line(10, "postfix/smtpd", hit))
    os.utime(old, (NOW - 90_000, NOW - 90_000))
    instances = {"/a": ["postfix", "postfix/submission"], "/b": ["postfix-out"]}
    reader = Reader(instances, Facts(hostnames=frozenset({"mx.example.test"})), UTC, NOW - 6 * 3600)
    read: list[tuple[str, int]] = []
    logs = [str(old), str(log), str(tmp_path / "none")]
    reader.read(logs, lambda path, consumed: read.append((path, consumed)))
    one, two = reader.found["/a"], reader.found["/b"]
    assert one.hits["smtpd_hard_error_limit"].count == 1
    assert one.highest("errors") == (2, "198.51.100.7")
    assert one.highest("connection rate") == (7, "198.51.100.7")
    assert two.hits["smtpd_hard_error_limit"].count == 2
    assert [text.rpartition(": ")[2] for text in reader.unread] == ["No such file or directory"]
    assert set(read) == {(str(log), log.stat().st_size)}


def test_what_the_daemon_stored(tmp_path: Path) -> None:
    def peak(client: str, value: int, count: str = "connections", within: float = 60.0) -> Peak:
        return Peak(client, "mx", "connections", count, within, value)

    peaks = [
        peak("198.51.100.7", 40),
        peak("203.0.113.9", 90),
        peak("198.51.100.7", 99, "errors"),
        peak("198.51.100.7", 98, within=3600.0),
    ]
    watched = {(p.scope, p.limit, p.count, p.within) for p in peaks}
    found = Evidence()
    with closing(Store.open(str(tmp_path / "throttled.db"))) as store:
        store.record(NOW, [], [model.Evidence("198.51.100.7", NOW, 1)])
        store.peaks.write(peaks, watched, NOW)
        stored([found], store, NOW)
    assert found.reached == {"connection rate": {"198.51.100.7": 40}}
    assert found.highest("connection rate") == (40, "198.51.100.7")
