"""Every line in tests/samples against its expectation; the format is in the README there."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec
import pytest

from throttled.model import Event, Kind
from throttled.parse.parser import Parser

SAMPLES = Path(__file__).parents[2] / "samples"
REFERENCE = datetime(2026, 11, 22, 23, 59, tzinfo=UTC).timestamp()
_FIELD = re.compile(r'([a-z_.]+)=("(?:[^"\\]|\\.)*"|\S*)')


class Sample(NamedTuple):
    where: str
    version: str
    line: str
    expected: str


def read_samples() -> list[Sample]:
    samples = []
    for path in sorted(SAMPLES.glob("*.txt")):
        version, line = "", ""
        for number, text in enumerate(path.read_bytes().decode("latin-1").split("\n"), 1):
            where = f"{path.name}:{number}"
            if text.startswith("["):
                version = text
            elif text.startswith("="):
                assert line, f"{where}: an expectation without a line"
                samples.append(Sample(where, version, line, text[1:].strip()))
                line = ""
            elif text and not text.startswith("#"):
                assert not line, f"{where}: the line before has no expectation"
                line = text
        assert not line, f"{path.name}: the last line has no expectation"
    return samples


SAMPLES_READ = read_samples()


def shown(event: Event) -> dict[str, str]:
    """An event as the sample files write it."""
    fields = {name: str(value) for name, value in msgspec.structs.asdict(event).items()}
    moment = datetime.fromtimestamp(event.time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    fields["time"] = f"{moment.rstrip('0').rstrip('.')}Z" if event.time else "0"
    del fields["commands"], fields["message"]
    if event.message is not None:
        message = msgspec.structs.asdict(event.message)
        fields |= {name: str(value) for name, value in message.items()}
    for command, (accepted, total) in (event.commands or {}).items():
        fields[f"commands.{command}"] = f"{accepted}/{total}"
    if event.commands is None:
        fields["commands"] = "none"
    return fields


@pytest.mark.parametrize("sample", SAMPLES_READ, ids=lambda sample: sample.where)
def test_sample(sample: Sample) -> None:
    parser = Parser(UTC, REFERENCE)
    event = parser.event(sample.line)
    if sample.expected in {"no event", "unknown"}:
        assert event is None
        assert bool(parser.unknown(sample.line)) == (sample.expected == "unknown")
        return
    assert event is not None
    assert not parser.unknown(sample.line)
    kind, client, *_ = sample.expected.split(" ")
    expected = {"kind": kind, "client": "" if client == "-" else client}
    for name, value in _FIELD.findall(sample.expected):
        expected[name] = json.loads(value) if value.startswith('"') else value
    assert {name: shown(event).get(name) for name in expected} == expected


def variant(sample: Sample) -> tuple[str, str]:
    """Who writes a line (the version), and its form without what differs from client to client."""
    body = sample.line.partition("]: ")[2].rstrip("\r")
    body = re.sub(r"[\w.-]*\[[0-9a-f.]*:[0-9a-f:.]*\]", "IPv-six", body)
    body = re.sub(r"[\w.-]*\[[0-9.]+\]", "IPv-four", body)
    return sample.version, re.sub(r"[0-9]+", "N", body)


def test_every_kind_has_three_variants() -> None:
    """As logged by another version, in another form, or of a client of the other family."""
    kinds = set(get_args(Kind)) - {"policy_request"}  # asked by Postfix, never logged
    variants: dict[str, set[tuple[str, str]]] = {kind: set() for kind in kinds}
    for sample in SAMPLES_READ:
        variants.setdefault(sample.expected.split(" ")[0], set()).add(variant(sample))
    assert {kind: known for kind, known in variants.items() if len(known) < 3} == {}


def test_every_sample_names_its_version() -> None:
    assert [sample.where for sample in SAMPLES_READ if not sample.version] == []


def test_the_innocent_address_is_never_blamed() -> None:
    parser = Parser(UTC, REFERENCE)
    hostile = [sample for sample in SAMPLES_READ if sample.where.startswith("hostile.txt")]
    assert sum("198.51.100.1" in sample.line for sample in hostile) > 10
    for sample in hostile:
        event = parser.event(sample.line)
        assert event is None or event.client != "198.51.100.1"
