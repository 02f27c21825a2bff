"""A real Postfix for the whole session, and for each test a daemon that knows nothing yet.

With several workers each has its own session, and so its own Postfix.
"""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.machine import booted, packages
from lab.mail import postfix
from lab.mail.postfix import Lab

#: As without stress, in which Postfix ends a session at its first error: one test's flood leaves it
#: to the tests after it. test_stock.py has none of this.
_CALM = ("smtpd_hard_error_limit = 20", "smtpd_junk_command_limit = 100")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with postfix.lab() as made:
        made.server.run("postconf", "-c", str(made.mail.config), "-e", *_CALM)
        yield made


@pytest.fixture
def guard(lab: Lab) -> Iterator[Daemon]:
    """Yield a daemon that is not started: no store, no log, no firewall of a test before."""
    lab.mail.log.write_text("")  # postlogd appends: it goes on at the new end
    with daemon(lab.server, lab.mail.config) as made:
        yield made
    lab.server.run("nft", "flush", "ruleset")


@pytest.fixture(scope="module")
def client() -> Callable[[], str]:
    """Return a maker of clients that no other test of the module has."""
    numbers = itertools.count(1)
    return lambda: f"198.18.{next(numbers)}.7"


@pytest.fixture
def emptied(lab: Lab) -> Iterator[None]:
    """Delete what a test leaves in Postfix's queue, after its daemon has ended."""
    yield
    lab.server.run("postsuper", "-c", str(lab.mail.config), "-d", "ALL")


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Return the Debian package, built once in a run, by whichever worker needs it first."""
    if reason := booted.impossible():
        pytest.skip(f"no systemd can be booted: {reason}")
    own = tmp_path_factory.getbasetemp()
    place = (own if worker_id == "master" else own.parent) / "package"
    place.mkdir(exist_ok=True)
    return packages.shared(place)
