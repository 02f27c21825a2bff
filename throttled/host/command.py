"""Runs a system command and returns what it prints, within a bound on time. Owns no state."""

import os
import subprocess

from throttled.errors import HostError

#: Where Postfix's and other administrators' commands are, whatever the caller's PATH.
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


def run(*command: str, seconds: float = 10.0) -> str:
    """Return the standard output of a command.

    Args:
        command: the program and its arguments; no shell.
        seconds: it is killed after so long.

    Raises:
        HostError: it is not there, failed, or took too long; says what it wrote last.
    """
    environment = {"LC_ALL": "C", "PATH": f"{os.environ.get('PATH', '')}:{_PATH}".lstrip(":")}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environment,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{' '.join(command)}: no answer within {seconds:.2g} s") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in an argument
        raise HostError(f"{command[0]} cannot be run: {error}", "is it installed?") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise HostError(f"{' '.join(command)}: {last or f'exit status {done.returncode}'}")
    return done.stdout.decode(errors="replace")
