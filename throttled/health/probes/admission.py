"""What can limit strangers here, tried with the capabilities of the calling thread."""

from collections.abc import Iterator

from throttled.enforce.admission.bpf import load
from throttled.enforce.admission.registry import PURGES
from throttled.enforce.registry import choose, works
from throttled.errors import BackendError
from throttled.model import Finding


def check() -> Iterator[Finding]:
    """Load the programs, and if that fails, try what is used instead."""
    try:
        load()
    except BackendError as error:
        usable = [name for name in PURGES if works(choose(name, observing=False))]
        then = f"{usable[0]} is used, less exact" if usable else "everybody is admitted"
        what = f"overload: BPF cannot limit strangers: {error.message}; {then}"
        yield Finding("warning", what, error.hint)
    else:
        yield Finding("ok", "overload: BPF can limit strangers")
