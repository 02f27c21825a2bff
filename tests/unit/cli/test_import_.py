"""`throttled import`: what is sent to the daemon, and what is reported."""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from throttled.control.bulk import Refusal
from throttled.control.requests import MAX_ENTRIES, Entered, Import
from throttled.control.results import ImportResult
from throttled.errors import NotRunningError

if TYPE_CHECKING:
    from unit.cli.conftest import Cli, Daemon


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    path = tmp_path / "list"
    path.write_text("198.51.100.7\nnonsense\n198.51.100.8 2h # spam\n")
    return path


def test_bad_and_refused_lines_are_named(cli: "Cli", daemon: "Daemon", listed: Path) -> None:
    daemon.answer = ImportResult(1, [Refusal(1, "it is protected")], confirmed=True)
    ended = cli("import", "--as", "ban", str(listed))
    assert (ended.code, ended.out) == (1, "1 done, 2 skipped\n")
    assert ended.err.splitlines() == [
        "line 2: nonsense: not an IP address: 'nonsense'; skipped",
        "line 3: 198.51.100.8: it is protected; skipped",
    ]
    assert daemon.asked == [
        Import(
            [
                Entered("198.51.100.7", "ban"),
                Entered("198.51.100.8", "ban", None, 7200.0, "spam"),
            ]
        )
    ]
    result = cli("import", "--as", "ban", str(listed), "--json").json()
    assert (result["done"], [bad["line"] for bad in result["skipped"]]) == (1, [2, 3])


def test_long_lists_are_sent_in_pieces(cli: "Cli", daemon: "Daemon", listed: Path) -> None:
    listed.write_text("".join(f"198.51.{n >> 8}.{n & 255}\n" for n in range(2 * MAX_ENTRIES + 1)))
    daemon.answer = ImportResult(7, [], confirmed=True)
    ended = cli("import", "--as", "throttle", str(listed))
    assert (ended.code, ended.out) == (0, "21 done, 0 skipped\n")
    sizes = [len(asked.entries) for asked in daemon.asked if isinstance(asked, Import)]
    assert sizes == [MAX_ENTRIES, MAX_ENTRIES, 1]
    listed.write_text("".join(f"198.51.100.{n} # {'x' * 490}\n" for n in range(250)))
    assert cli("import", "--as", "ban", str(listed)).code == 0


def test_without_a_daemon_or_a_file_nothing_is_done(cli: "Cli", listed: Path) -> None:
    assert cli("import", "--as", "ban", str(listed)).code == NotRunningError.exit_code
    ended = cli("import", str(listed.with_name("missing")))
    assert (ended.code, "No such file" in ended.err, "hint: " in ended.err) == (2, True, True)


def test_what_the_kernel_did_not_confirm_is_a_failure(
    cli: "Cli", daemon: "Daemon", listed: Path
) -> None:
    listed.write_text("198.51.100.7")
    daemon.answer = ImportResult(1, [], confirmed=False)
    ended = cli("import", "--as", "ban", str(listed))
    assert (ended.code, "did not confirm" in ended.err) == (1, True)
