"""A short run of scripts/fuzz, and that it notices a broken promise."""

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

import pytest
from msgspec.structs import replace

from throttled.model import Event

FUZZ = Path(__file__).parents[3] / "scripts" / "fuzz"


@pytest.fixture
def fuzz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("SECONDS", "20")
    monkeypatch.setenv("SEED", "1")
    spec = spec_from_loader("fuzz", SourceFileLoader("fuzz", str(FUZZ)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec.loader.exec_module(module)
    return module


def test_a_short_run_keeps_every_promise() -> None:
    run = subprocess.run(
        [sys.executable, FUZZ],
        env={"SECONDS": "2"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "every promise kept" in run.stdout


def test_another_client_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = fuzz.PARSER.event

    def blame(line: str) -> Event | None:
        event: Event | None = good(line)
        if event is None or "198.51.100.1" not in line or not event.client:
            return event
        return replace(event, client="198.51.100.1")

    monkeypatch.setattr(fuzz.PARSER, "event", blame)
    assert fuzz.main() == 1
    assert "198.51.100.1 is blamed for" in capsys.readouterr().out


def test_an_exception_is_noticed(
    fuzz: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(line: str) -> None:
        if "\x00" in line:
            raise ValueError("nul")

    monkeypatch.setattr(fuzz.PARSER, "event", fail)
    assert fuzz.main() == 1
    assert "ValueError('nul')" in capsys.readouterr().out
