"""Descriptors that systemd stores: given to it, and taken by the next process."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.machine.descriptors import DescriptorStore
from throttled.linux.systemd import inherited, store, unstore


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DescriptorStore]:
    with DescriptorStore(tmp_path, monkeypatch) as made:
        yield made


def test_what_is_stored_is_passed_to_the_next_process_once(
    manager: DescriptorStore, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        path = tmp_path / name
        path.write_text(name)
        descriptor = os.open(path, os.O_RDONLY)
        store(name, descriptor)
        os.close(descriptor)
    unstore("b")
    assert list(manager.read()) == ["a", "c"]
    manager.passed()
    found = inherited()
    assert [(name, os.read(descriptor, 9)) for name, descriptor in found] == [
        ("a", b"a"),
        ("c", b"c"),
    ]
    assert not any(os.get_inheritable(descriptor) for _name, descriptor in found)
    for _name, descriptor in found:
        os.close(descriptor)
    assert inherited() == []
    assert not [name for name in os.environ if name.startswith("LISTEN_")]


def test_what_is_passed_to_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a child of one that was started by systemd."""
    monkeypatch.setenv("LISTEN_PID", str(os.getppid()))
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "a")
    assert inherited() == []
