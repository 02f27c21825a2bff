"""Configuration directories for Postfix's own tools, without a Postfix that runs."""

import os
from pathlib import Path


def configure(directory: Path, main: str = "", master: str = "") -> str:
    """Write a main.cf and a master.cf and return their directory, for `postconf -c`."""
    directory.mkdir(exist_ok=True)
    head = "compatibility_level = 3.6\nmyhostname = m.example.com\n"
    (directory / "main.cf").write_text(f"{head}{main}\n")
    (directory / "master.cf").write_text(f"{master}\n")
    settle(directory / "main.cf")
    return str(directory)


def settle(path: Path) -> None:
    """Make a file look old: Postfix waits up to two seconds for a young one (dict_load_file)."""
    os.utime(path, (1e9, 1e9))
