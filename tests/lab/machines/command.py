"""A long command of this host that ends with all it started, also when we are interrupted."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path


def run(*argv: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command to its end and return its standard output; `env` is added to the environment.

    Raises:
        RuntimeError: it failed; the text is the end of its output.
    """
    with subprocess.Popen(
        argv,
        cwd="/",
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # ^C is for us, and what it started can be ended with it
    ) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise RuntimeError(f"{argv[0]}: {process.returncode}: {(out + err)[-3000:]}")
    return out
