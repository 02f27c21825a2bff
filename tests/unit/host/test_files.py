"""Changes of files: by name, in place, behind links; and what happens without inotify."""

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from throttled.errors import HostError
from throttled.host import files
from throttled.host.files import FileWatch, fingerprint


@pytest.fixture
def watch() -> Iterator[FileWatch]:
    made = FileWatch()
    yield made
    made.close()


@pytest.fixture
def main(tmp_path: Path) -> Path:
    path = tmp_path / "postfix/main.cf"
    path.parent.mkdir()
    path.write_text("a = b\n")
    return path


def seen(watch: FileWatch) -> bool:
    return bool(select.select([watch], [], [], 0)[0]) and watch.drain()


def replace(path: Path) -> None:
    other = path.with_suffix(".tmp")
    other.write_text("a = c\n")
    other.rename(path)


def edit(path: Path) -> None:
    with path.open("a") as file:
        file.write("a = c\n")


@pytest.mark.parametrize("change", [replace, edit, Path.unlink, lambda path: path.chmod(0o600)])
def test_each_way_of_changing_a_file(
    watch: FileWatch, main: Path, change: Callable[[Path], object]
) -> None:
    watch.follow([str(main)])
    assert not seen(watch)
    main.read_text()
    (main.parent / "other").write_text("x")
    assert not seen(watch)
    change(main)
    assert seen(watch)
    assert not seen(watch)


def test_a_file_that_appears(watch: FileWatch, main: Path) -> None:
    main.unlink()
    watch.follow([str(main)])
    main.write_text("a = b\n")
    assert seen(watch)


def test_behind_a_link(watch: FileWatch, main: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere/main.cf.1"
    target.parent.mkdir()
    target.write_text("a = b\n")
    main.unlink()
    main.symlink_to(target)
    watch.follow([str(main)])
    edit(target)
    assert seen(watch)
    main.unlink()
    assert seen(watch)
    main.symlink_to(main)  # a loop, and a directory that is not there
    watch.follow([str(main), "/nowhere/at/all"])
    main.unlink()
    assert seen(watch)


def test_what_is_followed_no_longer(watch: FileWatch, main: Path, tmp_path: Path) -> None:
    watch.follow([str(main)])
    other = tmp_path / "other"
    watch.follow([str(other)])
    seen(watch)
    edit(main)
    assert not seen(watch)
    other.touch()
    assert seen(watch)
    main.unlink()
    main.parent.rmdir()
    watch.follow([str(main), str(other)])
    watch.follow([])


def test_the_directory_goes(watch: FileWatch, main: Path) -> None:
    watch.follow([str(main)])
    main.unlink()
    seen(watch)
    main.parent.rmdir()
    assert seen(watch)
    watch.follow([])


def test_the_kernel_has_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_options: bool) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(files, "INotify", refuse)
    with pytest.raises(HostError, match="Too many open files"):
        FileWatch()


def test_the_fingerprint_changes_with_every_change(tmp_path: Path) -> None:
    main, master = tmp_path / "main.cf", tmp_path / "master.cf"
    main.touch()
    master.touch()
    paths = [str(main), str(master)]
    found = {fingerprint(paths)}
    assert fingerprint(paths) in found
    os.utime(main, ns=(1, 1))
    found.add(fingerprint(paths))
    stat = master.stat()
    other = tmp_path / "new"
    other.touch()
    os.utime(other, ns=(stat.st_mtime_ns, stat.st_mtime_ns))
    other.rename(master)  # as editors and tools do: another file, even of the same age
    found.add(fingerprint(paths))
    main.unlink()
    found.add(fingerprint(paths))
    found.add(fingerprint([]))
    assert len(found) == 5
