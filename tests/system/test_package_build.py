"""The Debian package as it is built, without a machine on which it is installed."""

import re
import subprocess
from pathlib import Path

import pytest

from lab.machine.packages import NAME, build

ROOT = Path(__file__).resolve().parents[2]
SERVICE = ROOT / "packaging/systemd/throttled.service"

pytestmark = [
    pytest.mark.root,
    pytest.mark.systemd,
    pytest.mark.long,
    pytest.mark.timeout(600),
]


def test_links_of_packaged_pages_lead_somewhere(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", package, tmp_path], check=True)
    pages = list((tmp_path / "usr/share/doc" / NAME).rglob("*.md"))
    assert {"README.md", "install.md", "config.md"} <= {page.name for page in pages}
    for page in pages:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text()):
            assert (page.parent / target).exists(), (page, target)


def test_the_same_sources_give_the_same_package(package: Path, tmp_path: Path) -> None:
    assert build(tmp_path).read_bytes() == package.read_bytes()


def test_lintian_finds_nothing(package: Path) -> None:
    subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", package], check=True)


def test_the_sandbox_is_tight() -> None:
    """2.4, of which docs/security.md names each part.

    Of these 0.2 because all processes are visible: who started one that asks at the policy socket.
    """
    answer = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=24", SERVICE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout.splitlines()[-1]
