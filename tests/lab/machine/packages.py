"""The Debian package of this work tree: built, and what it depends on."""

import fcntl
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NAME = "postfix-throttled"


def build(directory: Path) -> Path:
    """Build the package into a directory: 20 CPU seconds.

    Raises:
        RuntimeError: it could not be built; the text is what was printed.
    """
    path = Path(_run(str(ROOT / "scripts/build-deb"), str(directory)).splitlines()[-1])
    assert path.name.startswith(f"{NAME}_")
    return path


def shared(directory: Path) -> Path:
    """Return the package in a directory; built by the first process that asks, others wait."""
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return next(directory.glob("*.deb"), None) or build(directory)


def renumbered(package: Path, directory: Path, version: str) -> Path:
    """Return the same package with another version: what `apt` compares, no file in it."""
    tree, path = directory / "tree", directory / f"{NAME}_{version}.deb"
    _run("dpkg-deb", "--raw-extract", str(package), str(tree))
    control = tree / "DEBIAN/control"
    text, count = re.subn(r"(?m)^Version: .*", f"Version: {version}", control.read_text())
    assert count == 1
    control.write_text(text)
    _run("dpkg-deb", "-Zgzip", "--build", str(tree), str(path))
    return path


def dependencies(package: Path) -> list[str]:
    """Return the names of the packages that it depends on."""
    depends = _run("dpkg-deb", "--field", str(package), "Depends")
    return sorted(set(re.findall(r"(?:^|, )([a-z0-9.+-]+)", depends)))


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")
    return done.stdout
