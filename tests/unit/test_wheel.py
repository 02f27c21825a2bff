"""What hatch_build.py makes: a wheel for this machine, with objects of its byte order."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_build import compile_program

ROOT = Path(__file__).resolve().parents[2]
_ORDERS = {1: "little", 2: "big"}  # EI_DATA of elf(5)
_BPF = 247


def order_of(elf: bytes) -> str:
    order = _ORDERS[elf[5]]
    assert int.from_bytes(elf[18:20], order) == _BPF  # type: ignore[arg-type]  # two words
    return order


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, made)
    shutil.copytree(ROOT / "throttled", made / "throttled", ignore=shutil.ignore_patterns("*.o"))
    yield made
    shutil.rmtree(made)


def built(tree: Path, target: str) -> Path:
    subprocess.run(
        (sys.executable, "-m", "hatchling", "build", "-t", target, "-d", "built"),
        cwd=tree,
        check=True,
        capture_output=True,
    )
    (found,) = (tree / "built").glob("*.whl" if target == "wheel" else "*.tar.gz")
    return found


def test_a_wheel_is_for_this_platform(tree: Path) -> None:
    wheel = built(tree, "wheel")
    platform = sysconfig.get_platform().replace("-", "_")
    assert wheel.name.endswith(f"-py3-none-{platform}.whl")
    with zipfile.ZipFile(wheel) as archive:
        objects = [name for name in archive.namelist() if name.endswith(".o")]
        assert objects == [f"throttled/bpf/{name}.o" for name in ("admission", "sensor", "xdp")]
        assert {order_of(archive.read(name)) for name in objects} == {sys.byteorder}
        (about,) = (name for name in archive.namelist() if name.endswith("dist-info/WHEEL"))
        assert "Root-Is-Purelib: false" in archive.read(about).decode()


def test_a_source_distribution_has_no_objects(tree: Path) -> None:
    with tarfile.open(built(tree, "sdist")) as archive:
        names = archive.getnames()
    assert any(name.endswith("bpf/xdp.c") for name in names)
    assert not any(name.endswith(".o") for name in names)


@pytest.mark.parametrize("order", ["little", "big"])
def test_an_object_has_the_byte_order_that_is_asked_for(tree: Path, order: str) -> None:
    source = tree / "throttled" / "bpf" / "sensor.c"
    compile_program(source, order)
    assert order_of(source.with_suffix(".o").read_bytes()) == order
    source.with_suffix(".o").unlink()
