"""What only some hosts need is not required: nothing else fails without it."""

import os
import pty
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lab.daemon.daemon import daemon
from lab.network.netns import namespace
from throttled.enforce.iptables import tables
from throttled.errors import BackendError

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"top": "textual", "iptables": "iptc", "fleet": "redis"}
#: Runs a command as where no extra is installed.
WITHOUT = f"""
import sys
sys.modules.update(dict.fromkeys({list(EXTRAS.values())}))
sys.argv[0] = "throttled"
from throttled.cli.main import main
main()
"""


def without_extras(*argv: str) -> list[str]:
    return [sys.executable, "-c", WITHOUT, *argv]


def config(folder: Path) -> str:
    log, file = folder / "mail.log", folder / "throttled.toml"
    log.touch()
    file.write_text(
        f'log.files = ["{log}"]\nlog.journal = false\nstore.path = "{folder}/throttled.db"\n'
        f'control.socket = "{folder}/control.sock"\nmetrics.listen = ""\n'
    )
    return str(file)


def test_all_names_every_extra() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras.pop("all")
    assert everything == f"postfix-throttled[{','.join(sorted(extras))}]"
    assert set(extras) == set(EXTRAS)


def test_the_debian_package_has_or_suggests_every_extra() -> None:
    debian = ROOT / "packaging/debian"
    packaged = (debian / "vendored.txt").read_text() + (debian / "control").read_text()
    extras = PROJECT["optional-dependencies"]
    for package in (one.partition(">=")[0] for name in EXTRAS for one in extras[name]):
        debians = f"python3-{package.removeprefix('python-')}"
        assert f"\n{package}==" in packaged or f" {debians} (" in packaged, package


def test_help_and_list_work_without_extras(tmp_path: Path) -> None:
    file = config(tmp_path)
    asked = subprocess.run(without_extras("--help"), capture_output=True, text=True, check=True)
    assert "throttled list" in asked.stdout
    missing = subprocess.run(
        without_extras("--config", file, "list"), capture_output=True, text=True, check=False
    )
    assert missing.returncode == 3  # no daemon, no database: nothing about a package
    assert "No module" not in missing.stderr


@pytest.mark.root
def test_run_works_without_extras(tmp_path: Path) -> None:
    with namespace("extras") as server, daemon(server, tmp_path) as guard:
        guard.program = without_extras()
        guard.start("--mode", "observe")
        assert guard.command("list").stdout == "nothing would be active\n"
        assert guard.stop() == 0
        assert "Traceback" not in guard.log.read_text()


def test_top_names_the_extra_to_install(tmp_path: Path) -> None:
    ours, terminal = pty.openpty()
    try:
        asked = subprocess.run(
            without_extras("--config", config(tmp_path), "top"),
            stdout=terminal,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(terminal)
    assert asked.returncode == 3
    assert asked.stderr.splitlines() == [
        "throttled: top needs textual: import of textual halted; None in sys.modules",
        "hint: pip install 'postfix-throttled[top]'",
    ]


def test_the_iptables_backend_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "throttled.enforce.iptables.library", raising=False)
    monkeypatch.setitem(sys.modules, "iptc", None)
    monkeypatch.setattr(tables, "find_library", lambda name: name)
    with pytest.raises(BackendError, match="python-iptables: import of iptc halted") as caught:
        tables.remove(4, ())
    assert caught.value.hint.startswith("pip install 'postfix-throttled[iptables]'")
