"""Writes main.cf and files beside it, and reverts changes of them; what others changed stays.

Owns no state; the caller has the lock.
"""

from collections.abc import Iterable

from throttled.errors import RefusedError
from throttled.host import maincf
from throttled.host.changes import Change, Replacement, Setting
from throttled.host.maincf import MainCf

#: Attempts while another program writes main.cf.
_TRIES = 3


def reverted(main: MainCf, change: Change) -> tuple[bytes, list[Setting], list[str]]:
    """Return a main.cf without a change.

    Returns:
        The text, what differs, and the parameters that others changed since, which stay.

    Raises:
        HostError: postconf refuses.
    """
    if main.text == change.after:
        return change.before, [setting.backwards() for setting in change.settings], []
    now = maincf.written(main, [setting.name for setting in change.settings])
    ours = [s for s in change.settings if now.get(s.name) == s.after and s.after != s.before]
    kept = [s.name for s in change.settings if now.get(s.name) not in (s.after, s.before)]
    text = maincf.edited(main, {s.name: s.before for s in ours}) if ours else main.text
    return text, [setting.backwards() for setting in ours], kept


def revert(directory: str, change: Change) -> tuple[list[str], bool]:
    """Write main.cf, and files beside it, without a change.

    Returns:
        What others changed, which stays; and whether anything was written.

    Raises:
        ThrottledError: a file cannot be written.
    """
    kept_files, files = _revert_files(directory, change)
    for left in reversed(range(_TRIES)):
        main = maincf.read(directory)
        text, _, kept = reverted(main, change)
        try:
            if differs := text != main.text:
                maincf.replace(main, text)
        except RefusedError:  # another program writes it at this moment
            if not left:
                raise
        else:
            break
    maincf.release(directory)
    return [*kept, *kept_files], differs or files


def write(directory: str, main: MainCf, text: bytes, more: Iterable[Replacement]) -> None:
    """Replace files without a reload or a verdict, main.cf last. The caller has the lock.

    Raises:
        ThrottledError: one cannot be replaced.
    """
    for one in more:
        replace(directory, one)
    if text != main.text:
        maincf.replace(main, text)


def replace(directory: str, one: Replacement) -> None:
    """Replace a file beside main.cf.

    Raises:
        ThrottledError: it cannot be, or is no more what it was.
    """
    file = maincf.read(directory, one.name)
    if file.text != one.before:
        raise RefusedError(f"{file.path} was changed meanwhile by another program", "try again")
    maincf.replace(file, one.after)


def _revert_files(directory: str, change: Change) -> tuple[list[str], bool]:
    """Write the files beside main.cf as before; return those that others changed, and whether."""
    kept, any_reverted = [], False
    for one in reversed(change.more):
        text = maincf.read(directory, one.name).text
        if text == one.after and text != one.before:
            replace(directory, one.backwards())
            any_reverted = True
        elif text != one.before:
            kept.append(one.name)
    return kept, any_reverted
