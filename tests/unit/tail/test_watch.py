"""What is watched on the way to a path."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from throttled.errors import SourceError
from throttled.tail.watch import Watch, way


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Watch]:
    watch = Watch(str(tmp_path / "d" / "log"))
    watch.resolve()
    yield watch
    watch.close()


def test_way_of_a_file_is_its_directories(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    path = tmp_path / "d" / "log"
    assert way(str(path))[0] == (Path("/"), tmp_path.parts[1])
    assert way(str(path))[-2:] == [(tmp_path, "d"), (tmp_path / "d", "log")]
    path.touch()
    assert way(str(path))[-1] == (tmp_path / "d", "log")


def test_way_ends_at_what_is_missing(tmp_path: Path) -> None:
    assert way(str(tmp_path / "a" / "b" / "c"))[-1] == (tmp_path, "a")


def test_way_ends_at_a_file_in_place_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert way(str(tmp_path / "a" / "b"))[-2:] == [(tmp_path, "a"), (tmp_path / "a", "b")]


def test_way_through_links(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "relative").symlink_to("./x/../real")
    (tmp_path / "x").mkdir()
    (tmp_path / "absolute").symlink_to(tmp_path / "relative")
    looked_up = way(str(tmp_path / "absolute" / "log"))
    assert looked_up[len(tmp_path.parts) - 1] == (tmp_path, "absolute")
    assert looked_up[-4:] == [
        (tmp_path, "relative"),
        (tmp_path, "x"),
        (tmp_path, "real"),
        (tmp_path / "real", "log"),
    ]


def test_way_in_a_circle_ends(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert 40 < len(way(str(tmp_path / "a"))) < 60


def test_only_the_names_on_the_way_count(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "other").mkdir()
    assert not watch.changed()
    (tmp_path / "d").mkdir()
    assert watch.changed()
    assert not watch.changed()


def test_directories_left_behind_are_not_watched(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "d").mkdir()
    watch.resolve()
    (tmp_path / "d").rename(tmp_path / "e")
    assert watch.changed()
    watch.resolve()
    watch.changed()  # takes what came of giving up watches
    (tmp_path / "e" / "log").touch()
    assert not watch.changed()


def test_removed_directory(tmp_path: Path, watch: Watch) -> None:
    (tmp_path / "d").mkdir()
    watch.resolve()
    (tmp_path / "d").rmdir()
    assert watch.changed()
    watch.resolve()
    watch.changed()
    (tmp_path / "d").mkdir()
    assert watch.changed()


def test_followed_file(tmp_path: Path, watch: Watch) -> None:
    file = tmp_path / "file"
    file.touch()
    fd = os.open(file, os.O_RDWR)
    descriptor = watch.follow(fd)
    file.unlink()
    os.write(fd, b"x")
    assert descriptor in {event.wd for event in watch._inotify.read(timeout=0)}
    watch.unwatch(descriptor)
    watch.unwatch(descriptor)
    watch.changed()
    os.write(fd, b"x")
    assert watch._inotify.read(timeout=0) == []
    os.close(fd)


def test_closed_file_cannot_be_followed(watch: Watch) -> None:
    with pytest.raises(SourceError):
        watch.follow(1_000_000)
