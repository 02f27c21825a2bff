"""Learns the senders of messages that were queued before the part of the log that was read.

Their `client=` lines may be days old. postqueue(1) lists the queue once, at the start, and
postcat(1) shows the sender of each message. Both need root's right to read, which the unit's
CAP_DAC_READ_SEARCH gives, and run in a thread: the loop never waits. A message takes 10 ms, so
there are pauses between them. While Postfix is stopped postqueue is called later: it would run
showq(8), which then has to change its user, which the unit forbids, and would log "fatal".

A message that a content filter returned, or that sendmail(1) queued, has no login or client in
its file: it is attributed to no sender. Owns no state.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from throttled.decide.queue import Queue
from throttled.errors import HostError
from throttled.facts import Spool
from throttled.host.command import run
from throttled.linux.unix_socket import is_bound
from throttled.parse.queue_file import listed, read

log = logging.getLogger(__name__)

#: Messages at most; seconds between two of them, for one answer and for the list.
MESSAGES = 20_000
PAUSE, _ANSWER, _LIST = 0.05, 5.0, 10.0
#: Seconds before each attempt to list a queue: at a boot we start before Postfix.
AGAIN = (0.0, 10.0, 60.0, 300.0)
#: Where postqueue asks, below queue_directory.
_SHOWQ = "public/showq"


async def learn(
    queue: Queue,
    spools: Iterable[Spool],
    command: Callable[..., str] = run,
    bound: Callable[[Path], bool] = is_bound,
) -> int:
    """Look up messages that the table does not have; return how many have a known sender.

    Args:
        queue: the table.
        spools: of each Postfix instance.
        command: runs a program and returns its output.
        bound: returns whether a process has a socket open.
    """
    known, left = 0, list(spools)
    failed: dict[Spool, HostError] = {}
    for pause in AGAIN:
        await asyncio.sleep(pause)
        failed = {}
        for spool in left:
            try:
                known += await _learn(queue, spool, command, bound)
            except HostError as error:
                failed[spool] = error
        if not (left := list(failed)):
            break
    for each in failed.values():
        log.info("messages already queued are not attributed: %s", each.message)
    return known


async def _learn(
    queue: Queue, spool: Spool, command: Callable[..., str], bound: Callable[[Path], bool]
) -> int:
    """Do it for one instance.

    Raises:
        HostError: its messages cannot be listed.
    """
    known, directory = 0, spool.instance
    try:
        runs = bound(Path(spool.directory, _SHOWQ))
    except OSError as error:  # no descriptor is left
        raise HostError(f"the Postfix of {directory}: {error.strerror}") from error
    if not runs:
        raise HostError(f"the Postfix of {directory} does not run")
    text = await asyncio.to_thread(command, "postqueue", "-c", directory, "-p", seconds=_LIST)
    for queue_id in listed(text)[:MESSAGES]:
        if queue.subject(queue_id):
            continue
        argv = ("postcat", "-c", directory, "-e", "-q", queue_id)
        try:
            text = await asyncio.to_thread(command, *argv, seconds=_ANSWER)
        except HostError:  # delivered since
            continue
        found = read(text)
        known += queue.learn(queue_id, found.login, found.client, found.sender)
        await asyncio.sleep(PAUSE)
    return known
