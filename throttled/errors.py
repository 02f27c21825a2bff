"""The errors an operator can meet. Each says what is wrong and, in `hint`, what to do.

Programming errors are not in this tree: they surface as they are.
"""


def install(extra: str) -> str:
    """Return the hint that says how to install an extra of this package (pyproject.toml)."""
    return f"pip install 'postfix-throttled[{extra}]'"


class ThrottledError(Exception):
    """Root of the tree.

    Args:
        message: what is wrong, one sentence, no trailing full stop.
        hint: what the operator can do about it; may be empty.
    """

    #: Exit code of a command that ends with this error (design: 0, 1, 2, 3).
    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ThrottledError):
    """A request that cannot be understood: bad address, bad option, bad command."""

    exit_code = 2


class ConfigError(ThrottledError):
    """The configuration cannot be used."""

    exit_code = 2


class ExtraError(ThrottledError):
    """A Python package that only some hosts need is not installed.

    Args:
        what: what needs it, and the error of importing it.
        extra: of this package, which installs it.
    """

    exit_code = 3

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(what, install(extra))


class RefusedError(ThrottledError):
    """Understood, and not done: a protected subject, a network wider than the floor."""

    exit_code = 1


class NotRunningError(ThrottledError):
    """The daemon does not answer on its control socket."""

    exit_code = 3


class NotPermittedError(ThrottledError):
    """The operating system does not let us: no root, no capability, no group."""

    exit_code = 3


class SourceError(ThrottledError):
    """A log source cannot be read."""


class HostError(ThrottledError):
    """Facts about this host cannot be had (no postconf, no routes)."""


class StoreError(ThrottledError):
    """The database does not work: full disk, read-only, corrupted, from a newer version."""


class BackendError(ThrottledError):
    """The firewall does not do what it was told."""
