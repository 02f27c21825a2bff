import socket
import time
from pathlib import Path

import pytest

from lab.network.netns import DEADMAN
from throttled.clock import _BEFORE_BOOT, booted, now
from throttled.core.counting import _PLAUSIBLE
from throttled.linux.systemd import notify


def test_both_clocks() -> None:
    before = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    moment = now()
    after = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before[0] <= moment.wall <= after[0]
    assert before[1] <= moment.boot - _BEFORE_BOOT <= after[1]


def test_a_boot_has_a_name() -> None:
    assert booted() == booted()
    assert "time:[" in booted()


def test_a_line_from_before_the_boot_has_its_time() -> None:
    assert now().boot - time.clock_gettime(time.CLOCK_BOOTTIME) > _PLAUSIBLE


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_notified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool
) -> None:
    name = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name if abstract else name)
        manager.settimeout(DEADMAN)
        monkeypatch.setenv("NOTIFY_SOCKET", ("@" if abstract else "") + name)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("path", ["", "relative", "/nobody/listens/here"])
def test_without_a_service_manager_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    notify("READY=1")
