"""What the packages and pages promise, as far as the files tell; the rest is in test_package.py."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

from throttled import __version__
from throttled.cli import import_
from throttled.errors import install

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (ROOT / "packaging/debian/postfix-throttled.docs").read_text().split()
PAGES = [
    page
    for place in SHIPPED
    for page in ([ROOT / place] if place.endswith(".md") else (ROOT / place).rglob("*.md"))
]

#: PyPI's `throttled` is another project.
FOREIGN = re.compile(r"pip install [^\n]*['\" ]throttled\b")


def test_the_version_stands_in_one_place() -> None:
    files = [ROOT / "pyproject.toml", *ROOT.glob("packaging/debian/*"), *ROOT.glob("scripts/*")]
    texts = {path.name: path.read_text() for path in files if path.is_file()}
    assert [name for name, text in texts.items() if __version__ in text] == []


def test_the_distribution_and_the_package_have_one_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    control = (ROOT / "packaging/debian/control").read_text()
    assert project["name"] == "postfix-throttled"
    assert re.findall(r"^(?:Source|Package): (.*)$", control, re.MULTILINE) == [project["name"]] * 2
    assert "\nConflicts: throttled\n" in control
    assert list(project["scripts"]) == ["throttled"]
    names = [each for extra in project["optional-dependencies"].values() for each in extra]
    assert not [name for name in names if name.startswith("throttled")]
    assert not FOREIGN.search(install("top"))


def test_the_copyright_file_names_what_the_package_contains() -> None:
    pinned = (ROOT / "packaging/debian/vendored.txt").read_text()
    contained = {
        name.replace("-", "_") for name in re.findall(r"^([\w-]+)==", pinned, re.MULTILINE)
    }
    stated = (ROOT / "packaging/debian/copyright").read_text()
    assert set(re.findall(r"^Files: wheels/(\w+)\*$", stated, re.MULTILINE)) == contained
    # A licence without a text in its own stanza has one below.
    texts = re.findall(r"^License: (\S+)\n (?=\S)", stated, re.MULTILINE)
    named = re.findall(r"^License: (.+)$", stated, re.MULTILINE)
    assert {each for name in named for each in name.split(" or ")} == set(texts)


def test_units_that_are_off_at_first_are_those_of_the_page() -> None:
    page = (ROOT / "docs/install.md").read_text()
    promised = set(re.findall(r"^\| `(\S+)` \|.* off until you enable it", page, re.MULTILINE))
    rules = (ROOT / "packaging/debian/rules").read_text()
    [off] = re.findall(r"^OFF := (.*)$", rules, re.MULTILINE)
    assert promised == set(off.split()) == {"throttled-fleet.service", "throttled-report.timer"}


def test_the_metadata_is_complete() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "MIT"
    assert project["authors"]
    assert project["classifiers"]
    assert {"Homepage", "Changelog", "Documentation", "Issues"} <= set(project["urls"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_packaged_pages_link_to_packaged_files(page: Path) -> None:
    text = page.read_text()
    assert not FOREIGN.search(text)
    for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", text):
        path = (page.parent / target).resolve().relative_to(ROOT)
        assert path.parts[0] in SHIPPED, target
        assert (ROOT / path).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_name_files_that_exist(page: Path) -> None:
    rooms = "|".join(path.name for path in (ROOT / "throttled").iterdir() if path.is_dir())
    for found in re.findall(
        rf"`((?:throttled|tests|scripts|packaging|{rooms})/[^`\s]+)`", page.read_text()
    ):
        if "NAME" not in found:
            places = [*ROOT.glob(found), *(ROOT / "throttled").glob(found)]
            assert places, found


def test_the_unit_finds_the_program_from_a_checkout_and_from_the_package() -> None:
    """A name without a path is looked for in /usr/local/sbin, then in /usr/sbin (systemd.exec)."""
    for unit in ROOT.glob("packaging/systemd/*.service"):
        assert re.search(r"^ExecStart=throttled ", unit.read_text(), re.MULTILINE), unit
    assert "/usr/local/sbin/throttled\n" in (ROOT / "docs/install.md").read_text()
    assert "$(ROOT)/usr/sbin/throttled\n" in (ROOT / "packaging/debian/rules").read_text()


def test_the_example_units_are_right(tmp_path: Path) -> None:
    """systemd takes them, and the command that they run is one."""
    for path in (ROOT / "packaging/examples").iterdir():
        (tmp_path / path.name.replace("@", "@drop")).write_text(path.read_text())
    units = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if "throttled-list@" in line]
    # throttled is not installed here, which systemd 257 notices.
    assert [line for line in complaints if "Command throttled is not exec" not in line] == []
    text = (ROOT / "packaging/examples/throttled-list@.service").read_text()
    (line,) = re.findall(r"^ExecStart=throttled (.*)$", text, re.MULTILINE)
    words = line.replace("$OPTIONS", "--as throttle").replace("%i", "drop").split()
    assert words.pop(0) == "import"
    import_.command.make_context("import", words)


def test_the_architecture_page_names_what_there_is() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`([A-Z]\w+)(?:\.(\w+))?`", page)
    assert len(named) > 30
    methods: dict[str, set[str]] = {name: set() for name, _ in named}
    found = set()
    for path in (ROOT / "throttled").rglob("*.py"):
        for each in ast.parse(path.read_text()).body:
            if isinstance(each, ast.ClassDef) and each.name in methods:
                found.add(each.name)
                methods[each.name] |= {getattr(part, "name", "") for part in each.body}
                parts = ast.walk(each)
                methods[each.name] |= {p.attr for p in parts if isinstance(p, ast.Attribute)}
    assert methods.keys() - found == set()
    assert [(name, of) for name, of in named if of and of not in methods[name]] == []
    for name in re.findall(r"`([\w/]+\.py)`", page):
        assert list((ROOT / "throttled").rglob(name)), name


def test_the_architecture_page_has_the_layers_that_are_checked() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    table = re.search(r"^\| in `throttled/` .*\n.*\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert table is not None
    rows = [line.split("|")[1] for line in table[1].splitlines()]
    shown = [set(re.findall(r"`(\w+)/?`", row)) for row in rows]
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (each["layers"] for each in linter["contracts"] if "layers" in each)
    assert shown == [set(layer.split(" | ")) for layer in layers]
    places = (ROOT / "throttled").iterdir()
    present = {
        path.stem for path in places if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert set().union(*shown) == present - {"__init__", "__main__"}
