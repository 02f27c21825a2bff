"""Runs a program with a message on standard input, and ends it with its children in time.

Nothing of it can hold the event loop. Owns the child while `run` runs.
"""

import asyncio
import os
import signal
from asyncio.subprocess import Process, SubprocessStreamProtocol
from collections.abc import Mapping, Sequence
from contextlib import suppress

from throttled.printable import blanked

#: Seconds that a killed child has to end.
_KILLED = 1.0
_ERROR = 300  # bytes stored of what a failing command says


async def run(
    name: str, argv: Sequence[str], more: Mapping[str, str], message: bytes, seconds: float
) -> str:
    """Run a program; return what went wrong as one sentence, "" for nothing.

    Args:
        name: as it is called in the sentence.
        argv: the program and its arguments.
        more: variables of its environment, beside PATH and LANG.
        message: its standard input.
        seconds: after this time it is killed, with its process group.
    """
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **more}
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.subprocess_exec(
            lambda: SubprocessStreamProtocol(limit=1 << 16, loop=loop),
            *argv,
            stdin=pipe,
            stdout=null,
            stderr=pipe,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        return f"{name}: {error}"
    child = Process(transport, protocol, loop)
    try:
        async with asyncio.timeout(seconds):
            said = await _feed(child, message)
            code = await child.wait()
    except TimeoutError:
        return f"{name} took longer than {seconds:g}s and was killed"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # also what it left behind
        # One that the kernel holds up (a dead NFS server) does not end even so.
        with suppress(TimeoutError):
            async with asyncio.timeout(_KILLED):
                await child.wait()
        transport.close()  # what left its group may have the pipes open for ever
    return f"{name} ended with {code}: {said}" if code else ""


async def _feed(child: Process, message: bytes) -> str:
    """Give a child its input; return the beginning of what it says on standard error."""
    assert child.stdin is not None  # noqa: S101 - both are pipes
    assert child.stderr is not None  # noqa: S101
    with suppress(BrokenPipeError, ConnectionResetError):  # it need not read
        child.stdin.write(message)
        await child.stdin.drain()
    child.stdin.close()
    said = b""
    while piece := await child.stderr.read(65536):
        said = (said + piece)[:_ERROR]
    return blanked(said.decode("utf-8", "replace")).strip()
