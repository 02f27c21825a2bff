"""A report's page as a file. Owns no state."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import click

from throttled.analysis.report import Overview
from throttled.cli.report_page import page

#: What `--html` accepts.
HTML = click.Path(dir_okay=False, allow_dash=True)


def write_page(found: Overview, path: str) -> None:
    """Write the page of a period: to a file, in one step, or to standard output ("-")."""
    content = page(found)
    if path == "-":
        click.echo(content, nl=False)
        return
    target = Path(path).resolve()
    if target.exists() and not target.is_file():  # /dev/stdout, a pipe
        target.write_text(content, "utf-8")
        return
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            file.write(content)
            if target.exists():  # who may read it stays; a new one is for its owner alone
                before = target.stat()
                os.fchown(descriptor, before.st_uid, before.st_gid)
                os.fchmod(descriptor, before.st_mode & 0o777)
        Path(name).replace(target)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
