"""Words for what the operating system refuses."""

import errno

import pytest

from throttled.tail.failures import unreadable


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (errno.EACCES, "Permission denied", "root"),
        (errno.ENOSPC, "No space left", "max_user_watches"),
        (errno.EMFILE, "Too many open files", "max_user_instances"),
        (errno.ENOENT, "No such file", "maillog_file"),
    ],
)
def test_says_what_to_do(code: int, message: str, hint: str) -> None:
    error = unreadable("/var/log/mail.log", OSError(code, "whatever"))
    assert error.message.startswith(f"cannot read /var/log/mail.log: {message}")
    assert hint in error.hint


def test_any_other_error_has_no_hint() -> None:
    assert unreadable("x", OSError(errno.EIO, "x")).hint == ""
    assert unreadable("x", OSError("no number")).message == "cannot read x: Success"
