"""A report's page as a file. Owns no state."""

from pathlib import Path

import click

from throttled.analysis.report import Overview
from throttled.cli.report_page import page
from throttled.linux.replacement import replace

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
    replace(target, content, 0o600)  # a new one is for its owner alone
