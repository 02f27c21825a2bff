"""Which means of admission control there are, the best first. Owns no state."""

from collections.abc import Sequence

from throttled.enforce.admission.memory import Memory
from throttled.enforce.admission.protocol import Admission


def choose(observing: bool) -> Sequence[Admission]:  # noqa: FBT001, ARG001 - one for all so far
    """Return means of admission control in the order in which they are to be tried.

    Args:
        observing: nothing may be put into the kernel.
    """
    return [Memory()]
