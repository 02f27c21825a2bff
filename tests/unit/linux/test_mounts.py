from pathlib import Path

import pytest

from lab.machine.limits import no_descriptors
from throttled.errors import BackendError
from throttled.linux import mounts

TABLE = """overlay / overlay rw 0 0
proc /proc proc rw 0 0
bpf /sys/fs/bpf bpf rw 0 0
cgroup2 /sys/fs/cgroup cgroup2 rw 0 0
tmpfs /sys/fs/bpf tmpfs rw 0 0
none /sys/fs/bpf/inside bpf rw 0 0
"""


@pytest.fixture(autouse=True)
def table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _path: TABLE)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/proc/1/absent", "proc"),
        ("/sys/fs", "overlay"),
        ("/sys/fs/bpf/throttled", "tmpfs"),  # mounted over the other
        ("/sys/fs/bpfx", "overlay"),
        ("/sys/fs/bpf/inside/throttled", "bpf"),
        ("relative", ""),
    ],
)
def test_the_file_system_of_a_path(path: str, kind: str) -> None:
    assert mounts.kind_at(Path(path)) == kind


def test_where_a_type_is_mounted() -> None:
    assert mounts.mounted("cgroup2") == Path("/sys/fs/cgroup")
    assert mounts.mounted("bpf") == Path("/sys/fs/bpf")
    assert mounts.mounted("nfs") is None


def test_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert mounts.kind_at(Path("/proc/self")) == "proc"


def test_without_descriptors_it_is_an_error_of_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with no_descriptors(), pytest.raises(BackendError, match="/proc/self/mounts: Too many open"):
        mounts.mounted("cgroup2")
