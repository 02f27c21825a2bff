"""What a user who is not root gets from commands that need it: the exit code 3, and what to do."""

import subprocess

import pytest

from lab.daemon.daemon import THROTTLED
from lab.network.netns import directory
from throttled.store.store import Store


@pytest.mark.root
@pytest.mark.parametrize(
    "command",
    [
        "report",
        "abuse 198.51.100.7",
        "suggest --store",
        "export banned",
        "fleet key",
        "mail list account:alice",
        "mail release --id 4jcT2p1kjCzKT37",
        "mode observe",
        "purge --yes",
        "replay --html /etc/replay.html /dev/null",
    ],
)
@pytest.mark.usefixtures("others")
def test_another_user_than_root_is_not_permitted(command: str) -> None:
    with directory("permissions") as home:
        Store.open(str(home / "throttled.db")).close()
        config = home / "throttled.toml"
        config.write_text(f'store.path = "{home}/throttled.db"\nfleet.secret = "{home}/key"\n')
        user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        done = subprocess.run(
            (*user, THROTTLED, "--config", str(config), *command.split()),
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert (done.returncode, "hint: run" in done.stderr) == (3, True), done.stderr
