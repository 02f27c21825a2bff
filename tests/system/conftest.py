"""A real Postfix for the whole session, and for each test a daemon that knows nothing yet.

With several workers each has its own session, and so its own Postfix.
"""

from collections.abc import Iterator

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.mail import postfix
from lab.mail.postfix import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with postfix.lab() as made:
        yield made


@pytest.fixture
def guard(lab: Lab) -> Iterator[Daemon]:
    """Yield a daemon that is not started: no store, no log, no firewall of a test before."""
    lab.mail.log.write_text("")  # postlogd appends: it goes on at the new end
    with daemon(lab.server, lab.mail.config) as made:
        yield made
    lab.server.run("nft", "flush", "ruleset")
