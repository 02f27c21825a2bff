"""A sliding window in one integer: how many within T, with an error of at most T/8. Pure.

A meter is `tick << 216 | lanes`: nine lanes of 24 bits, the newest lowest, each holding the count
of one eighth of the window; `tick` is the number of the newest eighth. The current eighth and the
eight before it are summed, so whatever happened within T is counted and nothing older than 9/8 T
is. One integer of 64 bytes a client instead of a list; adding to the current eighth is one
addition, and the sum of the lanes is one remainder (2^24 = 1 modulo 2^24 - 1, so a number in base
2^24 is congruent to the sum of its digits).

The sum saturates at `FULL`, far above any threshold the configuration allows.
"""

_LANE = 24
_LANES = 9
_BITS = _LANE * _LANES
_MASK = (1 << _BITS) - 1
_SUM = (1 << _LANE) - 1

#: Eighths that a window has; a table's tick is `at / (within / EIGHTHS)`.
EIGHTHS = _LANES - 1
FULL = 1 << 23


def add(meter: int, tick: int, count: int) -> tuple[int, int]:
    """Return the meter with `count` more at `tick`, moved on to `tick` if later, and its total.

    A tick before the newest one is put where it belongs, or ignored if it is out of the window.
    """
    ahead = tick - (meter >> _BITS)
    if ahead >= _LANES:  # as `advance` does it; a call would cost as much as all the rest
        meter = tick << _BITS
    elif ahead > 0:
        meter = tick << _BITS | (meter << _LANE * ahead) & _MASK
    before = (meter & _MASK) % _SUM
    after = before + count
    if after > FULL:
        after, count = FULL, FULL - before
    if ahead >= 0:
        return meter + count, after
    if ahead <= -_LANES:
        return meter, before
    return meter + (count << -ahead * _LANE), after


def subtract(meter: int, tick: int, count: int) -> int:
    """Return the meter with `count` less at `tick`, but not below what that eighth holds."""
    shift = ((meter >> _BITS) - tick) * _LANE
    if not 0 <= shift < _BITS:
        return meter
    return meter - (min(count, meter >> shift & _SUM) << shift)


def advance(meter: int, tick: int) -> int:
    """Return the meter as it is at `tick`; unchanged when its newest eighth is later."""
    ahead = tick - (meter >> _BITS)
    if ahead <= 0:
        return meter
    lanes = (meter << (_LANE * ahead)) & _MASK if ahead < _LANES else 0
    return tick << _BITS | lanes


def total(meter: int) -> int:
    """Return what the window holds, as of the meter's newest eighth."""
    return (meter & _MASK) % _SUM


def eighths(meter: int) -> int:
    """Return in how many of the window's eighths something was counted."""
    return sum(meter >> lane & _SUM > 0 for lane in range(0, _BITS, _LANE))
