"""The backend that touches nothing: it remembers what the kernel would hold.

For `--mode observe` and for looking before leaping: `list`, `lookup` and `status` answer as they
would, and no packet is dropped. State is in memory, see `throttled.enforce.memory`.
"""

from throttled.enforce.memory import Memory
from throttled.model import Finding


class DryRun(Memory):
    """Remembers throttles and bans, and when each would end."""

    name = "dryrun"
    enforces = False

    def check(self) -> list[Finding]:
        """Say that nothing is enforced."""
        return [Finding("ok", "dry run: entries are only in memory, nothing is enforced")]
