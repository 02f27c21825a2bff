"""What `status` and `top` show of overload. Owns no state."""

from collections.abc import Iterator, Sequence

from throttled.cli import output
from throttled.cli.output import moment, number
from throttled.control.overload import OverloadStatus


def lines(rows: Sequence[OverloadStatus]) -> Iterator[str]:
    """Yield what `status` shows."""
    for row in rows:
        if not row.means:
            yield f"{row.scope}: everybody is admitted: {row.why or 'not started'}"
            continue
        note = "" if row.mode == "enforce" else ", only reported"
        yield (
            f"{row.scope}: strangers have {number(row.open)} of {number(row.cap)} connections "
            f"open, {number(row.known)} clients known good ({row.means}{note})"
        )
        for each in row.unusable:
            yield f"not by {each}"
        if row.why:
            yield f"everybody is admitted: {row.why}"
        dropped = row.over_cap + row.over_pace + row.over_turn
        if dropped or row.ended:
            would = "" if row.drops else "would be "
            yield (
                f"{number(dropped)} packets {would}dropped ({number(row.over_cap)} cap, "
                f"{number(row.over_pace)} pace, {number(row.over_turn)} turn), "
                f"{number(row.ended)} idle sessions ended"
            )
        if row.since:
            yield from _delayed(row)


def _delayed(row: OverloadStatus) -> Iterator[str]:
    verb = "delayed" if row.drops else "would be delayed"
    networks = f", {number(row.networks)} networks admitted lately" if row.networks else ""
    turn = f", each once in {output.lasting(row.turn)}" if row.turn else ""
    yield f"strangers {verb} since {moment(row.since)}{networks}{turn}"
    if row.delayed:
        some = ", ".join(f"{one.network} ({number(one.packets)})" for one in row.delayed)
        yield f"most packets dropped: {some}"


def short(rows: Sequence[OverloadStatus]) -> str:
    """Return what `top` shows in a line; "" where no stranger is delayed."""
    return "; ".join(
        f"{'' if row.drops else 'would: '}strangers delayed in {row.scope} since "
        f"{moment(row.since).partition(' ')[2]}, {number(row.open)} of {number(row.cap)} open"
        for row in rows
        if row.since
    )
