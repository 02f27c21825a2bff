"""Debian's fail2ban with a configuration in a directory of ours; nothing of it runs."""

import shutil
import subprocess
from pathlib import Path

from throttled.analysis.fail2ban import jails
from throttled.analysis.fail2ban.jails import Jail


def configured(conf: Path, local: str) -> Path:
    """Copy Debian's configuration to a directory, add jails of ours, and return the directory."""
    shutil.copytree("/etc/fail2ban", conf)
    (conf / "jail.d" / "test.local").write_text(local)
    return conf


def enabled(conf: Path) -> dict[str, Jail]:
    """Return the jails that fail2ban itself makes of a configuration, by name."""
    argv = ["fail2ban-client", "-c", str(conf), "-d"]
    dump = subprocess.run(argv, capture_output=True, text=True, check=True)
    return jails.dumped(dump.stdout).jails
