"""Lets a script be started with any Python: it goes on with the one of `.venv`."""

import os
import sys
from pathlib import Path

_VENV = Path(__file__).resolve().parents[3] / ".venv"


def enter() -> None:
    """Start the script that runs again with the Python of `.venv`, unless it has it already."""
    python = _VENV / "bin" / "python"
    if Path(sys.prefix).resolve() == _VENV:
        return
    if not python.exists():
        sys.exit("there is no .venv here yet; make it with: make setup")
    os.execv(python, [str(python), *sys.argv])
