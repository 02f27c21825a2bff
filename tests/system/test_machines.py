"""What `make machines` counts and runs, without a machine: it takes too long for `make test`."""

from pathlib import Path

import pytest

from lab.machines.command import run
from lab.machines.knock import Knocks, knock
from lab.network import netns
from lab.network.netns import SERVER4, SERVER6

pytestmark = pytest.mark.root


@pytest.mark.parametrize(
    ("source", "server", "family"),
    [("198.18.90.7", SERVER4, "ip"), ("2001:db8:b:90::7", SERVER6, "ip6")],
)
def test_knocks_are_counted_and_not_once_they_are_dropped(
    source: str, server: str, family: str
) -> None:
    with netns.pair() as (host, client), host.listen(server, 25):
        assert knock(client, source, 30, rate=300.0) == Knocks(30, 30)
        rule = "add table inet t; add chain inet t c { type filter hook input priority 0; }; "
        host.run("nft", f"{rule} add rule inet t c {family} saddr {source} drop")
        assert knock(client, source, 30, rate=300.0) == Knocks(30, 0)
        assert knock(client, f"{source}7", 30, rate=300.0) == Knocks(30, 30)


def test_a_command_that_fails_says_why() -> None:
    assert run("echo", "well") == "well\n"
    with pytest.raises(RuntimeError, match=r"ls: 2: .*nowhere"):
        run("ls", Path("/nowhere"))
