"""What may stand where a log file's path stands: systemd's journal, a container's part of it.

Pure.
"""

#: Stands for systemd's journal where else the path of a log file stands.
JOURNAL = "journal"
_CONTAINER = f"{JOURNAL}:"


def container_journal(container: str) -> str:
    """Return the path that stands for what a container writes to systemd's journal."""
    return _CONTAINER + container


def container_of(path: str) -> str:
    """Return the name of the container whose entries in the journal a path stands for, or ""."""
    return path.removeprefix(_CONTAINER) if path.startswith(_CONTAINER) else ""


def is_journal(path: str) -> bool:
    """Return whether a path stands for systemd's journal, or a container's part of it."""
    return path == JOURNAL or path.startswith(_CONTAINER)
