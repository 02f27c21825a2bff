"""Runs a system command and returns what it prints, within bounds on time and size.

Owns no state.
"""

import os
import selectors
import subprocess
from collections.abc import Sequence
from time import monotonic

from throttled.errors import HostError

#: Where Postfix's and other administrators' commands are, whatever the caller's PATH.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"

_NAMED = 100  # characters of a command in an error
_LARGEST = 4_194_304  # bytes of output; a master.cf of 1,000 services makes 1 MB


def run(*command: str, seconds: float = 10.0) -> str:
    """Return the standard output of a command.

    Args:
        command: the program and its arguments; no shell.
        seconds: it is killed after so long.

    Raises:
        HostError: it is not there, failed, took too long or wrote too much; names what it wrote.
    """
    environment = {"LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:{_PATH}".lstrip(":")}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
    except (OSError, ValueError) as error:  # ValueError: a null byte in an argument
        raise HostError(f"{command[0]} cannot be run: {error}", "is it installed?") from error
    with process:
        try:
            output, errors = _output(process, monotonic() + seconds)
            process.wait(seconds)
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            raise HostError(f"{_named(command)}: no answer within {seconds:.2g} s") from error
        except OverflowError as error:
            raise HostError(f"{_named(command)}: more than {_LARGEST} bytes of output") from error
        except OSError as error:  # no descriptor left to wait with
            raise HostError(f"{_named(command)}: {error.strerror}") from error
        finally:
            process.kill()
    if process.returncode:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise HostError(f"{_named(command)}: {last or f'exit status {process.returncode}'}")
    return output.decode(errors="replace")


def _named(command: Sequence[str]) -> str:
    """Return a command as an error names it: its first words."""
    text = " ".join(command)
    return text if len(text) <= _NAMED else f"{text[:_NAMED]}…"


def _output(process: subprocess.Popen[bytes], end: float) -> tuple[bytes, bytes]:
    """Return what a process writes to standard output and standard error, until it closes both.

    Raises:
        TimeoutError: it did not until `end`, on the monotonic clock.
        OverflowError: it wrote more than `_LARGEST` bytes to one of them.
    """
    assert process.stdout is not None  # noqa: S101 - both are pipes
    assert process.stderr is not None  # noqa: S101
    written = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
    with selectors.DefaultSelector() as readable:
        for stream in written:
            readable.register(stream, selectors.EVENT_READ)
        while readable.get_map():
            if monotonic() > end:
                raise TimeoutError
            for key, _ in readable.select(max(0.0, end - monotonic())):
                piece = os.read(key.fd, 65_536)
                if not piece:
                    readable.unregister(key.fd)
                written[key.fd] += piece
                if len(written[key.fd]) > _LARGEST:
                    raise OverflowError
    output, errors = written.values()
    return output, errors
