"""What is printed: nothing that disturbs a terminal, values unchanged, lines within the width."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled.cli import output
from throttled.control.results import AllowRow
from throttled.model import Finding

NOW = 1_790_000_000.25

#: The characters that matter, without Hypothesis's table of all of Unicode (seconds to build).
NASTY = st.one_of(
    st.integers(0, 0x2FF).map(chr),
    st.sampled_from("\u0591\u05d0\u0627\u0660\u200b\u200f\u2028\u202e\u2066\ufeff\u0301\U000e0001"),
    st.sampled_from("é漢€\U0001f600\ud800\uffff"),
)


@given(st.text(NASTY))
def test_nothing_but_harmless_characters_is_printed(text: str) -> None:
    shown = output.printable(text)
    assert shown.isprintable()
    assert output.printable(shown) == shown


def test_log_text_is_read_as_utf8_where_it_is() -> None:
    assert output.log_text("caf\xc3\xa9") == "café"
    assert output.log_text("caf\xe9") == "caf\ufffd"
    assert output.log_text("\xe2\x80\xae") == r"\u202e"
    assert output.log_text("plain") == "plain"
    assert output.from_log("漢") == "?"


@given(st.text(NASTY.filter(lambda char: char != "\ud800")))
def test_json_keeps_its_value_and_disturbs_no_terminal(text: str) -> None:
    line = output.to_json({"text": text})
    assert json.loads(line) == {"text": text}
    assert line.endswith(b"\n")
    shown = line.decode()[:-1]
    assert output.printable(shown) == shown


def test_times() -> None:
    assert output.moment(NOW) == "2026-09-21 16:13:20"
    assert output.moment(0.0) == "never"
    assert output.iso(NOW) == "2026-09-21T16:13:20.250+02:00"
    assert output.short_moment(0.0) == "01-01"
    at = time.time()
    assert output.short_moment(at) == time.strftime("%H:%M", time.localtime(at))
    assert output.left(at + 91_800) == "1d1h"  # and half an hour, in which it may be printed
    assert output.left(0.0) == "0s"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (59, "59s"), (590, "9m50s"), (277_000, "3d4h"), (-1, "0s")]
)
def test_durations_have_two_units(seconds: float, shown: str) -> None:
    assert output.lasting(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0"), (9999, "9999"), (10_000, "10k"), (9_999_999, "9999k"), (10**7, "10M")],
)
def test_counts_are_short(count: int, shown: str) -> None:
    assert output.short_number(count) == shown


@given(st.integers(0, 10**15))
def test_counts_have_five_characters_at_most(count: int) -> None:
    assert len(output.short_number(count)) <= 5


def test_a_span_has_dates_unless_all_of_it_is_today() -> None:
    midnight = time.mktime((*time.localtime()[:3], 0, 0, 0, 0, 0, -1))
    assert output.span(midnight, midnight + 90) == "from 00:00 to 00:01"
    assert output.span(midnight, midnight + 30) == "at 00:00"
    day = time.strftime("%Y-%m-%d", time.localtime(midnight))
    before = output.span(midnight - 60, midnight)
    assert before.startswith("from ")
    assert before.endswith(f" 23:59 to {day} 00:00")


def test_wall_clock_times_become_iso_and_never_becomes_null() -> None:
    named = {"note": "", "name": "probe.example.net"}
    rows = [
        AllowRow("x", NOW, None, "", "probe.example.net", NOW),
        AllowRow("y", 0.0, NOW, "", "probe.example.net"),
    ]
    then = "2026-09-21T16:13:20.250+02:00"
    assert output.plain(rows) == [
        {"what": "x", "since": then, "until": None, **named, "missing": then},
        {"what": "y", "since": None, "until": then, **named, "missing": None},
    ]


@pytest.mark.parametrize(
    ("terminal", "end"), [(True, "a long rea…"), (False, "a long reason\\x1b here")]
)
def test_tables_are_cut_on_a_terminal_and_whole_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *, terminal: bool, end: str
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    rows = [("198.51.100.7", "5", "short"), ("2001:db8::1", "12345", "a long reason\x1b here")]
    output.print_table(("ADDRESS", ">COUNT", "WHY"), rows)
    assert capsys.readouterr().out.splitlines() == [
        "ADDRESS      COUNT WHY",
        "198.51.100.7     5 short",
        f"2001:db8::1  12345 {end}",
    ]


@pytest.mark.parametrize(
    ("environment", "terminal", "shown"),
    [
        ({}, True, "\x1b[31mban\x1b[0m"),
        ({}, False, "ban"),
        ({"NO_COLOR": "1"}, True, "ban"),
        ({"NO_COLOR": ""}, True, "\x1b[31mban\x1b[0m"),
        ({"TERM": "dumb"}, True, "ban"),
    ],
)
def test_colours_are_for_terminals(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    *,
    terminal: bool,
    shown: str,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    rows = [("ban", "ban", "ban"), ("x", "other 1", "y")]
    output.print_table(("A", "B", "C"), rows, {"ban": "red"})
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first == f"ban {shown}     ban"
    assert second == "x   other 1 y"


def test_a_text_is_cut_once_it_is_printable() -> None:
    assert output.cut_to(5, "a\x1bcde") == r"a\x1…"
    assert output.cut_to(5, "abcde") == "abcde"


def test_a_locale_that_knows_few_characters() -> None:
    program = str(Path(sys.executable).with_name("throttled"))
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    ended = subprocess.run(
        [program, "list", "--help"], env=environment, capture_output=True, check=True
    )
    assert rb"\u2026" in ended.stdout


def test_a_finding_of_several_lines_has_one_state() -> None:
    finding = Finding("fault", "refused\n0: R1=ctx()\nok       forged", "do this\nand that")
    assert output.paragraph(finding) == [
        ("error", "refused"),
        ("", "0: R1=ctx()"),
        ("", "ok       forged"),
        ("", "do this"),
        ("", "and that"),
    ]
    assert output.paragraph(Finding("ok", "well")) == [("ok", "well")]


def test_accounts_have_no_scope() -> None:
    assert output.scope("account:alice", "submission") == "-"
    assert output.within("account:alice", "submission") == ""
    assert output.scope("2001:db8::7", "submission") == "subm"
    assert output.within("198.51.100.7", "mx") == " in mx"
