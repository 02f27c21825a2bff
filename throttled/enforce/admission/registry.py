"""All means of admission control, by name."""

from collections.abc import Callable, Mapping

from throttled.enforce.admission.bpf import Bpf
from throttled.enforce.admission.protocol import Admission

#: The best first; each takes the seconds of its lease.
MEANS: Mapping[str, Callable[[float], Admission]] = {"bpf": Bpf}
