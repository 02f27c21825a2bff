"""`throttled parse` on logs written here, and on standard input."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unit.cli.conftest import Cli

PROGRAM = str(Path(sys.executable).with_name("throttled"))
LOG = (
    "2026-07-22T10:00:01.515840+02:00 mx postfix/smtpd[12]: connect from a.example[198.51.100.7]\n"
    "2026-07-22T10:00:01.9999+02:00 mx postfix/qmgr[13]: nothing of ours\n"
    "2026-07-22T08:00:02+00:00 mx postfix/submission/smtpd[12]: warning: a.example[198.51.100.7]: "
    "SASL LOGIN authentication failed: UGFz, sasl_username=caf\u00e9\u202e\x7f@example.com\n"
    "2026-07-22T10:00:03.9999+02:00 mx postfix/smtpd[12]: disconnect from a.example[198.51.100.7] "
    "ehlo=1 auth=0/1 quit=1 commands=2/3\n"
)


def _rows(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def test_events_as_json_lines(cli: "Cli", tmp_path: Path) -> None:
    (tmp_path / "log").write_text(LOG)
    ended = cli("parse", str(tmp_path / "log"))
    assert (ended.code, ended.err) == (0, "")
    first, failure, last = _rows(ended.out)
    assert first == {
        "line": 1,
        "time": "2026-07-22T10:00:01.516+02:00",
        "kind": "connect",
        "client": "198.51.100.7",
        "process": "smtpd",
        "instance": "postfix",
        "pid": 12,
        "count": 1,
        "host": "mx",
        "name": "a.example",
    }
    assert list(first)[:8] == "line time kind client process instance pid count".split()  # noqa: SIM905 - readable
    assert failure["line"] == 3
    assert failure["time"] == "2026-07-22T10:00:02+02:00"
    assert failure["user"] == "caf\u00e9\u202e\x7f@example.com"
    assert "\u202e" not in ended.out
    assert "\x7f" not in ended.out
    assert "caf\u00e9" in ended.out
    assert last["commands"]["auth"] == [0, 1]
    assert last["time"] == "2026-07-22T10:00:03.999+02:00"  # never the next second


def test_what_becomes_of_a_message(cli: "Cli", tmp_path: Path) -> None:
    head = "2026-07-22T08:00:02+00:00 mx postfix/"
    (tmp_path / "log").write_text(
        f"{head}qmgr[13]: 3A5C01F2B: from=<caf\u00e9@example.org>, size=412, "
        "nrcpt=1 (queue active)\n"
        f"{head}smtpd[13]: 3A5C01F2B: client=a.example[198.51.100.7]\n"
    )
    active, accepted = _rows(cli("parse", str(tmp_path / "log")).out)
    assert (active["kind"], active["client"]) == ("active", "")
    assert active["message"] == {
        "queue_id": "3A5C01F2B",
        "sender": "caf\u00e9@example.org",
        "size": 412,
        "recipients": 1,
    }
    assert accepted["message"] == {"queue_id": "3A5C01F2B"}


def test_several_files_are_distinguished_and_compressed_ones_are_read(
    cli: "Cli", tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(LOG)
    (tmp_path / "log.1.gz").write_bytes(gzip.compress(LOG.encode()))
    rows = _rows(cli("parse", "--json", str(tmp_path / "log"), str(tmp_path / "log.1.gz")).out)
    assert [(Path(row["file"]).name, row["line"]) for row in rows] == [
        (name, line) for name in ("log", "log.1.gz") for line in (1, 3, 4)
    ]


def test_zone_and_year_of_old_times(cli: "Cli", tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("Dec 31 23:00:00 mx postfix/smtpd[1]: connect from unknown[2001:db8::1]\n")
    os.utime(log, (1_767_312_000, 1_767_312_000))  # 2 January 2026
    assert _rows(cli("parse", str(log)).out)[0]["time"] == "2025-12-31T23:00:00+01:00"
    rows = _rows(cli("parse", "--zone", "America/New_York", str(log)).out)
    assert rows[0]["time"] == "2025-12-31T23:00:00-05:00"
    assert cli("parse", "--zone", "Mars", str(log)).code == 2


def test_a_line_without_time_has_none(cli: "Cli", tmp_path: Path) -> None:
    (tmp_path / "log").write_text(
        "<22>1 - mx postfix/smtpd 1 - - connect from unknown[198.51.100.7]\n"
    )
    assert _rows(cli("parse", str(tmp_path / "log")).out)[0]["time"] is None


def test_unknown_lines(cli: "Cli", tmp_path: Path) -> None:
    head = "2026-07-22T10:00:01+02:00 mx postfix/smtpd[1]: "
    strange = f"{head}caf\u00e9 denied from x[198.51.100.7]"
    rarer = f"{head}warning: Frobnication limit exceeded: 7 from x[198.51.100.7]"
    log = f"{LOG}{rarer}\n{strange}\n{strange.replace('.7', '.8')}\n"
    (tmp_path / "log").write_text(log)
    assert _rows(cli("parse", "--unknown", str(tmp_path / "log")).out) == [
        {"line": 6, "text": strange, "count": 2},
        {"line": 5, "text": rarer},
    ]


def test_any_number_of_unknown_shapes(cli: "Cli", tmp_path: Path) -> None:
    lines = (f"postfix/smtpd {'x' * (n % 180)}{'y' * (n // 180)} smtpd\n" for n in range(2_000))
    heads = (
        line.replace("postfix", f"{'a' * (n % 60)}{'b' * (n // 60)}")
        for n, line in enumerate(lines)
    )
    (tmp_path / "log").write_text("".join(heads))
    rows = _rows(cli("parse", "--unknown", str(tmp_path / "log")).out)
    assert len(rows) == 1_001
    assert sum(row.get("count", 1) for row in rows) == 2_000


def test_standard_input() -> None:
    ended = subprocess.run(
        [PROGRAM, "parse", "-"], input=LOG.encode(), capture_output=True, check=True
    )
    assert len(_rows(ended.stdout.decode())) == 3
    assert ended.stderr == b""


def test_without_a_file_the_logs_of_this_host_are_read(
    cli: "Cli", tmp_path: Path, config_file: Path
) -> None:
    log = tmp_path / "mail.log"
    log.write_text(LOG)
    (tmp_path / "mail.log.1.gz").write_bytes(gzip.compress(LOG.encode()))
    config_file.write_text(f'[log]\nfiles = ["{log}"]\njournal = false\n')
    rows = _rows(cli("parse").out)
    assert [row["file"] for row in rows] == [f"{log}.1.gz"] * 3 + [str(log)] * 3
    config_file.write_text("[log]\nfiles = []\njournal = false\n")
    ended = cli("parse")
    assert ended.code == 2
    assert "journal" in ended.err


def test_a_file_that_cannot_be_read(cli: "Cli", tmp_path: Path) -> None:
    ended = cli("parse", str(tmp_path / "nothing"))
    assert (ended.code, ended.out) == (1, "")
    assert "No such file" in ended.err
    (tmp_path / "log.gz").write_bytes(gzip.compress(LOG.encode() * 2000)[:-50])
    ended = cli("parse", str(tmp_path / "log.gz"))
    assert ended.code == 1
    assert "damaged" in ended.err


def test_any_number_of_seconds(cli: "Cli", tmp_path: Path) -> None:
    line = "2026-07-22T{:02}:{:02}:{:02}+02:00 mx postfix/smtpd[1]: connect from a[198.51.100.7]\n"
    seconds = range(11_000)  # more than are remembered
    text = "".join(line.format(s // 3600, s // 60 % 60, s % 60) for s in seconds)
    (tmp_path / "log").write_text(text)
    times = [row["time"] for row in _rows(cli("parse", str(tmp_path / "log")).out)]
    assert times == sorted(set(times))
    assert len(times) == len(seconds)
