"""Files that a fleet needs: its secret, passwords and certificates. Owns no state."""

from pathlib import Path

from throttled.errors import ConfigError
from throttled.fleet import wire

_LARGEST = 65_536  # bytes of a file


def read_secret(path: str) -> bytes:
    """Return the secret of the fleet, which only root may be able to read.

    Raises:
        ConfigError: there is no such file, others may read it, or it is too short.
    """
    data = _read(path)
    if Path(path).stat().st_mode & 0o077:
        raise ConfigError(f"{path} is readable by others", f"chmod 600 {path}")
    if len(data) != wire.SECRET:
        raise ConfigError(f"{path} does not have {wire.SECRET} bytes", "throttled fleet key")
    return data


def text(path: str) -> str:
    """Return what a file has; "" without a path.

    Raises:
        ConfigError: it cannot be read.
    """
    return _read(path).decode("ascii", "replace").strip() if path else ""


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise ConfigError(
            f"{path}: {error.strerror}", "see [fleet] in the configuration"
        ) from error
