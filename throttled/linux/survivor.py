"""Work that is finished although the process that asked for it is killed.

The work is done by a child in a session of its own. If the parent is killed the child continues; if
the child is killed the parent does what remains. SIGINT, SIGTERM and SIGHUP are ignored by both
meanwhile. Only both killed at once leave it unfinished. Owns no state.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def survive(work: Callable[[], bytes], recover: Callable[[], bytes]) -> bytes:
    """Do some work and return its result.

    Args:
        work: done in the child.
        recover: done here if the child ends without a result.
    """
    with _ignored():
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)  # so that the result fails to be written once the parent is gone
            _child(work, writer)
        os.close(writer)
        with os.fdopen(reader, "rb") as results:
            result = results.read()
        _, status = os.waitpid(child, 0)
        return result if status == 0 and result else recover()


def _child(work: Callable[[], bytes], writer: int) -> None:
    """Do the work and end."""
    code = 1
    try:
        os.setsid()
        result = work()
        with suppress(BrokenPipeError), os.fdopen(writer, "wb") as results:  # the parent is gone
            results.write(result)
        code = 0
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        traceback.print_exc(file=sys.stderr)
    finally:
        os._exit(code)


@contextmanager
def _ignored() -> Iterator[None]:
    # A function, and not SIG_IGN, which the commands that are run meanwhile would inherit.
    before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
