"""Words for what the operating system refuses."""

import errno

import pytest

from throttled.linux.failures import unreadable


@pytest.mark.parametrize(
    ("code", "message", "hint", "exit_code"),
    [
        (errno.EACCES, "Permission denied", "root", 3),
        (errno.ENOSPC, "No space left", "max_user_watches", 1),
        (errno.EMFILE, "Too many open files", "max_user_instances", 1),
        (errno.ENOENT, "No such file", "maillog_file", 1),
    ],
)
def test_says_what_to_do(code: int, message: str, hint: str, exit_code: int) -> None:
    error = unreadable("/var/log/mail.log", OSError(code, "whatever"))
    assert error.message.startswith(f"cannot read /var/log/mail.log: {message}")
    assert hint in error.hint
    assert error.exit_code == exit_code


def test_any_other_error_has_no_hint() -> None:
    assert unreadable("x", OSError(errno.EIO, "x")).hint == ""
    assert unreadable("x", OSError("no number")).message == "cannot read x: Success"
