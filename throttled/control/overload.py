"""What `status` says of overload. Pure."""

from msgspec import Struct

from throttled.model import Scope
from throttled.settings import OverloadMode

#: `OverloadStatus.why` in the first moments after a start.
READING = "the known good clients are being read"
NOBODY = "no client is known good yet"


class Delayed(Struct, frozen=True):
    """A network whose connections are delayed."""

    network: str
    packets: int  # dropped of late; forged ones count too


class OverloadStatus(Struct, frozen=True):
    """Strangers (clients without good evidence) in one scope."""

    scope: Scope
    mode: OverloadMode  # "report": also where the daemon only observes
    means: str  # what counts and drops: bpf, nftables …; "": nothing does
    cap: int  # connections that strangers may have open at a time
    open: int  # that they have
    known: int  # addresses that are known good
    since: float  # wall clock, since when strangers are delayed; 0.0: they are not
    turn: float  # seconds in which a network is admitted once; 0.0: as often as it likes
    networks: int  # admitted lately
    admitted: int  # connections, since the start
    over_cap: int  # packets dropped (or that would have been), since the start
    over_pace: int
    over_turn: int
    ended: int  # sessions, since the start
    why: str = ""  # nothing is delayed: the reason
    unusable: list[str] = []  # better means than `means`, and why each cannot be used
    delayed: list[Delayed] = []  # those with the most packets dropped, while they are delayed

    @property
    def drops(self) -> bool:
        """Return whether packets of strangers are dropped, or only what would be is reported."""
        return bool(self.means) and self.mode == "enforce" and not self.why
