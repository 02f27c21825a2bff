"""What the operating system refuses, in words and with what to do about it. Owns no state."""

import errno
from os import strerror

from throttled.errors import NotPermittedError, SourceError

_HINTS = {
    errno.EACCES: "run as root, or give the user read permission on it and its directories (adm)",
    errno.EPERM: "run as root, or give the user read permission on it and its directories (adm)",
    errno.EISDIR: "name the log files themselves, not their directory",
    errno.ENOENT: (
        "see where Postfix logs: postconf maillog_file, and the syslog configuration; "
        "for systemd's journal write: journal"
    ),
    errno.ELOOP: "a symbolic link leads back to itself",
    errno.ENOSPC: "raise the limit: sysctl -w fs.inotify.max_user_watches=…",
    errno.EMFILE: (
        "raise the limits: sysctl -w fs.inotify.max_user_instances=…, and LimitNOFILE of the unit"
    ),
    errno.ENFILE: "raise the limit of open files of this host: sysctl -w fs.file-max=…",
}
#: Errors that say nothing of the file: this host or process lacks something just now.
_SHORTAGES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}


def shortage(error: BaseException) -> bool:
    """Return whether the same may work a moment later, as it is no error of the file."""
    return isinstance(error, OSError) and error.errno in _SHORTAGES


def unreadable(what: str, error: OSError) -> SourceError:
    """Return the error to raise when a log, or the watch on it, is refused."""
    code = error.errno or 0
    refused = SourceError(f"cannot read {what}: {strerror(code)}", _HINTS.get(code, ""))
    if code in (errno.EACCES, errno.EPERM):
        refused.exit_code = NotPermittedError.exit_code
    return refused
