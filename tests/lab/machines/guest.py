"""A whole machine in qemu without KVM, and commands run in it by qemu's guest agent.

A nested KVM does not boot Debian's kernels, so one emulated core at about a tenth of the host's
speed: what is judged is whether something works, never how fast. The disk is an overlay of the
image, and all that a machine writes is in the directory given. The agent's protocol (one JSON
object a line, over a virtio port): https://qemu.readthedocs.io/en/latest/interop/qemu-ga-ref.html
"""

import base64
import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lab.machines.image import Image
from lab.machines.wire import TAP
from lab.network.netns import Namespace

#: Seconds after which an emulated machine on a busy host is taken for dead.
BOOT = 600.0

_ANSWER = 10.0  # seconds for an answer of the agent; it answers at once, or it is not there
_KERNEL = "quiet systemd.show_status=1 net.ifnames=0 mitigations=off"
#: Seconds between two looks at a running command: a tenth of the time that it ran, within these.
#: A look costs the guest some work, and its agent logs each to the journal.
_POLL = 0.3, 5.0
_ENVIRONMENT = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LC_ALL=C.UTF-8",
    "SYSTEMD_COLORS=0",
    "DEBIAN_FRONTEND=noninteractive",
)


class Failed(Exception):  # noqa: N818 - a command's result, no defect of the lab
    """A command in the machine ended with another exit code than 0; the text is its output."""


class Guest:
    """A running machine, made by `guest`."""

    def __init__(self, home: Path, process: "subprocess.Popen[str]") -> None:
        self._home = home
        self._process = process
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._serial = 0

    def run(self, command: str, seconds: float = 300.0) -> str:
        """Run a shell command to its end and return its standard output and error.

        What it leaves running must not have its output.

        Raises:
            Failed: its exit code is not 0.
            TimeoutError: it took longer than `seconds`.
            RuntimeError: the machine is gone.
        """
        script = ["-c", f"exec 2>&1; {command}"]
        pid = self._call(
            "guest-exec",
            {
                "path": "/bin/bash",
                "arg": script,
                "env": list(_ENVIRONMENT),
                "capture-output": True,
            },
        )["pid"]
        began = time.monotonic()
        while not (state := self._call("guest-exec-status", {"pid": pid}))["exited"]:
            ran = time.monotonic() - began
            if ran > seconds:
                self._call("guest-exec", {"path": "/bin/kill", "arg": ["-KILL", str(pid)]})
                raise TimeoutError(f"not within {seconds:g} s: {command}")
            least, most = _POLL
            time.sleep(min(most, max(least, ran / 10)))
        output = base64.b64decode(state.get("out-data", "")).decode(errors="replace")
        if state.get("exitcode") != 0:
            code = state.get("exitcode", f"signal {state.get('signal')}")
            raise Failed(f"{command}: {code}: {output.strip()[-1500:]}")
        return output

    def succeeds(self, command: str, seconds: float = 300.0) -> bool:
        """Run a command and return whether its exit code is 0."""
        try:
            self.run(command, seconds)
        except Failed:
            return False
        return True

    def wait(self, seconds: float = BOOT) -> None:
        """Wait until the machine is booted and all its jobs are done.

        Raises:
            TimeoutError: not within `seconds`; the text has the end of its console.
            RuntimeError: the machine is gone.
        """
        end = time.monotonic() + seconds
        while not self._answers():
            if time.monotonic() > end:
                raise TimeoutError(f"no answer within {seconds:g} s: {self.console()}")
        # "degraded" ends with 1: which units failed is for the checks to say.
        self.run("systemctl is-system-running --wait || true", seconds)

    def reboot(self) -> None:
        """Reboot in an orderly way and wait until the machine is booted again."""
        before = self.run("cat /proc/sys/kernel/random/boot_id")
        self._call("guest-exec", {"path": "/bin/systemctl", "arg": ["reboot"]})
        end = time.monotonic() + BOOT
        while True:
            with contextlib.suppress(TimeoutError, OSError, Failed):
                if self._answers() and self.run("cat /proc/sys/kernel/random/boot_id") != before:
                    break
            if time.monotonic() > end:
                raise TimeoutError(f"not rebooted within {BOOT:g} s: {self.console()}")
            time.sleep(1.0)
        self.wait()

    def console(self) -> str:
        """Return the end of what the machine wrote on its serial console, and qemu's errors."""
        names = ("serial.log", "qemu.log")
        texts = [self._home.joinpath(name).read_text(errors="replace") for name in names]
        return "\n".join(text[-1500:] for text in texts)

    def _answers(self) -> bool:
        """Synchronise with the agent: what it answered before is discarded."""
        self._serial += 1
        try:
            self._connect()
            self._send({"execute": "guest-sync", "arguments": {"id": self._serial}})
            while self._line().get("return") != self._serial:
                pass
        except TimeoutError:
            return False
        return True

    def _connect(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(f"qemu ended: {self._process.returncode}: {self.console()}")
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(_ANSWER)
            self._socket.connect(str(self._home / "agent"))

    def _call(self, command: str, arguments: Mapping[str, Any]) -> Any:
        self._connect()
        self._send({"execute": command, "arguments": arguments})
        answer = self._line()
        if "error" in answer:
            raise Failed(f"{command}: {answer['error']}")
        return answer["return"]

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._socket is not None
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _line(self) -> dict[str, Any]:
        """Return the next answer of the agent.

        Raises:
            TimeoutError: there is none.
            RuntimeError: qemu closed the connection.
        """
        assert self._socket is not None
        while b"\n" not in self._buffer:
            more = self._socket.recv(65536)
            if not more:
                raise RuntimeError(f"the machine is gone: {self.console()}")
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def guest(
    client: Namespace, image: Image, home: Path, shares: Mapping[str, Path], memory: int = 2048
) -> Iterator[Guest]:
    """Boot an image beside its client, wait until it is booted, and stop it at the end.

    Args:
        client: the namespace with the tap.
        image: what to boot; it is not written to.
        home: an empty directory for what the machine writes.
        shares: directories of this machine by their 9p tag; the machine cannot write to them.
        memory: MiB.
    """
    disk = home / "disk.qcow2"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", image.disk, "-F", "raw", disk],
        check=True,
    )
    with (home / "qemu.log").open("w") as log:
        process = client.popen(
            [*_qemu(image, home, memory), *_share(shares)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # ^C is for us: we end it
        )
    with contextlib.suppress(OSError):  # sched(7): nice(1) has no effect between sessions
        Path(f"/proc/{process.pid}/autogroup").write_text(str(os.nice(0)))
    try:
        while not (home / "agent").exists() and process.poll() is None:
            time.sleep(0.05)
        made = Guest(home, process)
        made.wait()
        yield made
    finally:
        process.kill()
        process.wait()


def _qemu(image: Image, home: Path, memory: int) -> list[str]:
    return [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"),
        *("-smp", "1", "-m", str(memory), "-display", "none", "-no-user-config"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", f"root=/dev/vda rw console=ttyS0 {_KERNEL}"),
        *("-drive", f"file={home}/disk.qcow2,if=virtio,format=qcow2,cache=unsafe"),
        *("-serial", f"file:{home}/serial.log", "-device", "virtio-rng-pci"),
        *("-netdev", f"tap,id=n0,ifname={TAP},script=no,downscript=no"),
        *("-device", "virtio-net-pci,netdev=n0", "-device", "virtio-serial-pci"),
        *("-chardev", f"socket,id=agent,path={home}/agent,server=on,wait=off"),
        *("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"),
    ]


def _share(shares: Mapping[str, Path]) -> list[str]:
    options = "security_model=none,readonly=on"
    return [
        word
        for tag, path in shares.items()
        for word in ("-virtfs", f"local,path={path},mount_tag={tag},{options}")
    ]
