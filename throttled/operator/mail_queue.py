"""Lists and changes the mail in an instance's queue: postqueue(1), postcat(1), postsuper(1).

What a message's file says of login and client was written by smtpd(8), not by the sender. Owns no
state. Needs root and Postfix 3.1.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice

import msgspec
from msgspec import Struct

from throttled.errors import HostError
from throttled.host import postconf
from throttled.host.command import run
from throttled.parse.queue_file import Queued, read

#: Messages in one call of a program.
_BATCH = 100
_SECONDS = 60.0
#: Released messages that are each named to the queue manager: some milliseconds for each.
_FEW = 10
_BEGIN = re.compile(r"^\*\*\* ENVELOPE RECORDS \S*?([^/\s]+) \*\*\*$", re.MULTILINE)


class Listed(Struct, frozen=True):
    """A message in the queue."""

    queue_name: str  # hold, deferred, active, incoming, maildrop
    queue_id: str
    arrival_time: int = 0  # wall clock
    message_size: int = 0
    sender: str = ""


def listed(directory: str) -> Iterator[Listed]:
    """Yield the messages in an instance's queue.

    Raises:
        HostError: it cannot be listed.
    """
    decode = msgspec.json.Decoder(Listed).decode
    command = ("postqueue", "-c", directory, "-j")
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError as error:
        raise HostError(f"postqueue cannot be run: {error.strerror}") from error
    with process:
        assert process.stdout is not None  # noqa: S101 - a pipe
        for line in process.stdout:
            with suppress(msgspec.MsgspecError):
                yield decode(line)
    if process.returncode:
        what = f"{' '.join(command)}: exit status {process.returncode}"
        raise HostError(what, "it needs Postfix 3.1 or later")


def unfinished(directory: str) -> set[str]:
    """Return the queue ids in the incoming queue, also of messages that are still received.

    Raises:
        HostError: postconf refuses.
    """
    queue = postconf.value(directory, "queue_directory")
    return {name for _, _, names in os.walk(f"{queue}/incoming") for name in names}


def owners(directory: str, ids: Sequence[str]) -> Iterator[tuple[str, Queued]]:
    """Yield who handed each message to Postfix; those that are gone by now are left out."""
    remaining = list(ids)
    while remaining:
        batch = remaining[:_BATCH]
        text = _output("postcat", "-c", directory, "-e", "-q", *batch)
        found = _BEGIN.split(text)[1:]
        names, texts = found[::2], found[1::2]
        yield from zip(names, map(read, texts), strict=True)
        # It ends at the first message that is gone.
        whole = len(names) == len(batch)
        remaining = remaining[len(batch) if whole else len(names) + 1 :]


def release(directory: str, ids: Iterable[str]) -> None:
    """Release messages from hold, and have them sent at once.

    postqueue(1) takes one queue id at a time. For more than a few the queue manager is asked to
    look at its deferred queue, as it does every `queue_run_delay` (qmgr(8), trigger D): a message
    that was deferred before it was put on hold is then tried when it is due.

    Raises:
        HostError: postsuper refuses.
    """
    names = list(ids)
    _change(directory, "-H", names)
    with suppress(HostError):  # it is sent already, or in the next queue run
        if len(names) > _FEW:
            run("postkick", "-c", directory, "public", "qmgr", "D")
    for name in names if len(names) <= _FEW else ():
        with suppress(HostError):
            run("postqueue", "-c", directory, "-i", name)


def hold(directory: str, ids: Iterable[str]) -> None:
    """Put messages on hold.

    Raises:
        HostError: postsuper refuses.
    """
    _change(directory, "-h", ids)


def delete(directory: str, ids: Iterable[str]) -> None:
    """Delete messages.

    Raises:
        HostError: postsuper refuses.
    """
    _change(directory, "-d", ids)


def _change(directory: str, option: str, ids: Iterable[str]) -> None:
    every = iter(ids)
    while batch := list(islice(every, _BATCH)):
        words = [word for name in batch for word in (option, name)]
        run("postsuper", "-c", directory, *words, seconds=_SECONDS)


def _output(*command: str) -> str:
    """Return what a program prints, though it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("latin-1")  # as log lines are: the same login, the same text
