"""What is wrong, as `status`, metrics and the service's status line tell it. Owns nothing.

Each problem has a `key` that stays the same while it lasts and says which kind it is: lower-case
words, for problems of one log followed by `:` and its path. No client-written text is in a key.
"""

from typing import TYPE_CHECKING

from throttled.errors import StoreError
from throttled.model import Problem
from throttled.system import now

if TYPE_CHECKING:
    from throttled.daemon import Daemon


def problems(daemon: "Daemon") -> list[Problem]:
    """Return what is wrong; nothing when all is well."""
    pipeline, logs = daemon.pipeline, daemon.logs
    found = [
        Problem("fault", error.message, error.hint, key)
        for key, error in (
            ("store-unusable", daemon.store_problem),
            ("store-unwritten", pipeline.store_fault),
            ("store-unread", pipeline.history_fault or daemon.upkeep.fault),
            ("firewall", pipeline.backend_fault),
        )
        if error is not None
    ]
    unread = logs.unopened | {f.path: f.problem for f in logs.followers if f.problem}
    found += [
        Problem("fault", what, "see: throttled check", f"log-unread:{path}")
        for path, what in unread.items()
    ]
    found += daemon.guard.problems(now().boot)
    if not logs.followers:
        hint = "name the log in [log] files, or set maillog_file in Postfix's main.cf"
        found.append(Problem("fault", "no log is followed: nothing can be seen", hint, "no-log"))
    found += daemon.handshakes.problems()
    if daemon.hook.problem:
        found.append(daemon.hook.problem)
    if error := daemon.metrics_problem:
        found.append(Problem("warning", error.message, error.hint, "metrics"))
    if lost := pipeline.counts.lines_lost:
        what, hint = f"the logger lost {lost} lines", "raise its rate limit"
        found.append(Problem("warning", what, hint, "lines-lost"))
    hint = "see: throttled check"
    return found + [Problem("warning", what, hint, "host") for what in daemon.facts.warnings]


def summary(daemon: "Daemon") -> str:
    """Return one line for `systemctl status`: what is wrong first, or how many are in force."""
    wrong = problems(daemon)
    if wrong:
        first = next((p for p in wrong if p.state == "fault"), wrong[0])
        more = f" (and {len(wrong) - 1} more: throttled status)" if len(wrong) > 1 else ""
        return f"{first.state}: {first.what}{more}".replace("\n", " ")
    try:
        counts = daemon.store.counts(now().wall)
    except StoreError as error:
        return f"fault: {error.message}"
    banned, throttled = (
        sum(count for (_, action), count in counts.items() if action == wanted)
        for wanted in ("ban", "throttle")
    )
    return f"well; {banned} banned, {throttled} throttled"
