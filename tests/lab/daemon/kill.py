"""`throttled`, killed at a named step: `python -m lab.daemon.kill STEP NUMBER ARGUMENT…`.

The seam between two rooms is replaced by one that ends the process with SIGKILL at the NUMBER-th
time that something goes through, as no signal from outside could: before or after a certain call
of the very same batch. The product knows nothing of this. Owns nothing.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from throttled.cli.main import main
from throttled.core.counting import Counting
from throttled.decide.ladder import Ladder
from throttled.enforce.nftables.backend import Nftables
from throttled.service.announce import Announcer
from throttled.store import record
from throttled.store.store import Store
from throttled.tail.file import FileTail


class Step(NamedTuple):
    """A place in the code, right behind a call."""

    owner: Any  # a class or a module
    name: str
    counts: Callable[[tuple[Any, ...], Any], object]  # (arguments, result): does this call count?


STEPS = {
    "read": Step(FileTail, "read", lambda _, batch: batch and batch.lines),
    "counted": Step(Counting, "read", lambda *_: True),
    "asked": Step(Store, "pasts", lambda *_: True),
    "judged": Step(Ladder, "judge", lambda _, ruling: ruling.decisions),
    "ahead": Step(Store, "write_ahead", lambda *_: True),
    "applied": Step(Nftables, "apply", lambda *_: True),
    "written": Step(record, "decisions", lambda *_: True),  # the transaction is not ended yet
    "recorded": Step(Store, "record", lambda args, _: args[2]),
    "reported": Step(Announcer, "__call__", lambda args, _: args[1]),
    "offset": Step(Store, "record", lambda args, _: not args[2] and args[4]),
}


def arm(step: Step, number: int) -> None:
    """Put the trap in place."""
    original = getattr(step.owner, step.name)
    left = number

    def trap(*args: Any, **options: Any) -> Any:
        nonlocal left
        result = original(*args, **options)
        left -= bool(step.counts(args, result))
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(step.owner, step.name, trap)


if __name__ == "__main__":
    _, name, count, *sys.argv[1:] = sys.argv
    arm(STEPS[name], int(count))
    main()
