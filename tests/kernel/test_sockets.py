"""Ending sessions of banned subjects: real TCP connections between namespaces."""

import errno
import logging
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator

import pytest

from lab.daemon.guarded import Host
from lab.network.netns import DEADMAN, SERVER4, SERVER6, Namespace, pair, until, without
from throttled.enforce import sockets
from throttled.enforce.sessions import Endings, Ports
from throttled.model import Decision, Entry, Scope

pytestmark = pytest.mark.root

PORTS: dict[Scope, tuple[int, ...]] = {"mx": (25, 2525), "submission": (587,)}
Ends = tuple[socket.socket, socket.socket]


def ban(subject: str, scope: Scope = "mx") -> Decision:
    return Decision(0.0, "ban", subject, scope, "errors", 1, 600.0, "because")


def throttle(subject: str, pid: int = 0, port: int = 0) -> Decision:
    why = (0.0, "throttle", subject, "mx", "errors", 0, 600.0, "because")
    return Decision(*why, pid=pid, port=port)  # type: ignore[arg-type]  # as they are named


def end_sessions(
    subjects: Iterable[tuple[str, Scope]],
    ports: Ports,
    spared: Callable[[str], object] = lambda _address: False,
) -> int:
    return Endings().end([ban(*subject) for subject in subjects], ports, 0.0, spared)


class Server:
    """A server's namespace with sessions from a client's."""

    def __init__(self, server: Namespace, client: Namespace) -> None:
        self.client = client
        self.kept: list[socket.socket] = []
        self.listeners = {
            (address, port): server.listen(address, port)
            for address in (SERVER4, SERVER6)
            for port in (25, 2525, 587, 80)
        }

    def session(self, source: str, port: int = 25) -> socket.socket:
        """Open a session and return the server's end."""
        target = SERVER6 if ":" in source else SERVER4
        self.kept.append(self.client.connect(source, target, port))
        peer, _ = self.listeners[target, port].accept()
        self.kept.append(peer)
        return peer


@pytest.fixture(scope="module")
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    with pair() as made:
        yield made


@pytest.fixture
def server(namespaces: tuple[Namespace, Namespace]) -> Iterator[Server]:
    sockets._say.cache_clear()
    with namespaces[0].entered():
        made = Server(*namespaces)
        yield made
        for each in (*made.kept, *made.listeners.values()):
            each.close()


def is_ended(end: socket.socket) -> bool:
    """Return whether an smtpd that reads from this would see its end."""
    end.setblocking(False)
    try:
        end.recv(1)
    except BlockingIOError:
        return False
    except ConnectionAbortedError:
        return True
    return False


def open_sessions() -> str:
    return subprocess.run(
        ("ss", "-Htn", "state", "established", "sport", "=", "25"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.parametrize(
    ("subject", "inside", "outside"),
    [
        ("198.18.0.1", "198.18.0.1", "198.18.0.2"),
        ("198.18.1.0/24", "198.18.1.200", "198.18.2.1"),
        ("198.18.16.0/20", "198.18.31.1", "198.18.32.1"),
        ("2001:db8:b::1", "2001:db8:b::1", "2001:db8:b::2"),
        ("2001:db8:b:1::/64", "2001:db8:b:1::9", "2001:db8:b:2::9"),
    ],
)
def test_only_the_sessions_of_a_subject_end(
    server: Server, subject: str, inside: str, outside: str
) -> None:
    ended = [server.session(inside), server.session(inside, 2525)]
    kept = [server.session(inside, 587), server.session(inside, 80), server.session(outside)]
    assert end_sessions([(subject, "mx")], PORTS) == 2
    assert [is_ended(end) for end in ended] == [True, True]
    assert [is_ended(end) for end in kept] == [False, False, False]
    assert inside not in open_sessions()
    assert outside in open_sessions()


def test_sessions_of_both_versions_at_one_port(server: Server) -> None:
    """An IPv4 address is neither a banned IPv6 network's nor in the way of looking for one."""
    kept, ended = server.session("198.18.0.1"), server.session("2001:db8:b::1")
    assert end_sessions([("2001:db8:b::1", "mx")], PORTS) == 1
    assert (is_ended(kept), is_ended(ended)) == (False, True)


def test_the_session_of_a_protected_address_in_a_banned_network_goes_on(server: Server) -> None:
    banned, protected = server.session("198.18.1.1"), server.session("198.18.1.2")
    assert end_sessions([("198.18.1.0/24", "mx")], PORTS, {"198.18.1.2"}.__contains__) == 1
    assert (is_ended(banned), is_ended(protected)) == (True, False)


def test_ipv4_in_a_socket_for_both(namespaces: tuple[Namespace, Namespace], server: Server) -> None:
    listener = socket.create_server(("::", 26), family=socket.AF_INET6, dualstack_ipv6=True)
    server.kept.append(listener)
    ends = []
    for source in ("198.18.0.1", "198.18.0.2"):
        server.kept.append(namespaces[1].connect(source, SERVER4, 26))
        peer, address = listener.accept()
        server.kept.append(peer)
        assert address[0] == f"::ffff:{source}"
        ends.append(peer)
    assert end_sessions([("198.18.0.1", "mx")], {"mx": (26,)}) == 1
    assert [is_ended(end) for end in ends] == [True, False]
    assert end_sessions([("198.18.0.0/24", "mx")], {"mx": (26,)}) == 1


def test_many_subjects_and_many_sessions(server: Server) -> None:
    subjects: list[tuple[str, Scope]] = [(f"198.18.0.{n}", "mx") for n in range(1, 256)]
    ends = [server.session(subject) for subject, _scope in subjects[:250]]
    kept = server.session("198.18.1.1")
    wanted = [*subjects, ("2001:db8::/32", "submission"), ("198.18.128.0/17", "submission")]
    assert end_sessions(wanted, PORTS) == 250
    assert all(is_ended(end) for end in ends)
    assert not is_ended(kept)
    assert end_sessions(wanted, PORTS) == 0


def test_a_session_that_nobody_has_accepted_yet_ends(server: Server) -> None:
    server.kept.append(server.client.connect("198.18.0.1", SERVER4, 25))
    until(lambda: "198.18.0.1" in open_sessions(), "the session was open")
    assert end_sessions([("198.18.0.1", "mx")], PORTS) == 1
    assert open_sessions() == ""


def test_a_session_whose_client_has_hung_up_ends(server: Server) -> None:
    end = server.session("198.18.0.1")
    server.kept[-2].shutdown(socket.SHUT_WR)
    end.settimeout(DEADMAN)
    assert end.recv(1) == b""
    assert end_sessions([("198.18.0.1", "mx")], PORTS) == 1


def test_the_client_is_reported_although_its_packets_are_dropped(host: Host) -> None:
    ends = host.session("198.18.0.1")
    assert ends
    host.backend.apply([Entry("198.18.0.1", "mx", "ban", 60.0)])
    assert end_sessions([("198.18.0.1", "mx")], PORTS) == 1
    assert is_ended(ends[1])
    ends[0].settimeout(DEADMAN)
    ends[0].setblocking(True)
    with pytest.raises(ConnectionResetError):
        ends[0].recv(1)


def test_nothing_to_do_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    assert end_sessions([], PORTS) == 0
    assert end_sessions([("198.18.0.1", "submission")], {"mx": (25,)}) == 0


def test_without_the_right_it_is_said_once() -> None:
    code = (
        "import socket\n"
        "from throttled.enforce.sessions import Endings\n"
        "from throttled.model import Decision\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "port = listener.getsockname()[1]\n"
        "clients = [socket.create_connection(('127.0.0.1', port)) for _ in range(3)]\n"
        "for _ in range(3):\n"
        "    ban = Decision(0.0, 'ban', '127.0.0.1', 'mx', 'errors', 1, 600.0, '')\n"
        "    print(Endings().end([ban], {'mx': (port,)}, 0.0))\n"
    )
    done = without(["net_admin"], code)
    assert done.stdout == "0\n0\n0\n"
    (line,) = done.stderr.splitlines()
    assert "time out: Operation not permitted" in line


def test_a_kernel_that_cannot_is_named_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Stands for a kernel without CONFIG_INET_DIAG_DESTROY, which cannot be had here: what it would
    # answer to the destroying, not to the asking.
    monkeypatch.setattr(sockets, "error", lambda _answer: errno.EOPNOTSUPP)
    end = server.session("198.18.0.1")
    with caplog.at_level(logging.WARNING):
        assert end_sessions([("198.18.0.1", "mx")], PORTS) == 0
        server.session("198.18.0.1")
        assert end_sessions([("198.18.0.1", "mx")], PORTS) == 0
    assert is_ended(end)  # as this kernel can, whatever the answer
    (record,) = caplog.records
    assert "time out: this kernel has no CONFIG_INET_DIAG_DESTROY" in record.message


def test_accepted_connections_are_seen_and_for_a_minute_after_they_ended(server: Server) -> None:
    both = [server.session("198.18.0.1"), server.session("2001:db8:b::1")]
    server.session("198.18.0.1", 80)
    assert len(sockets.connections({25, 587})) == 2
    server.kept.append(server.client.connect("198.18.0.2", SERVER4, 25))
    until(lambda: "198.18.0.2" in open_sessions(), "it waits to be accepted")
    assert len(sockets.connections({25, 587})) == 2
    before = sockets.connections({25})
    for end in both:
        end.close()  # the server hangs up first, as Postfix does
    for end in server.kept[:4]:
        end.close()
    until(lambda: "198.18.0.1" not in open_sessions(), "they are over")
    assert sockets.connections({25}) == before


def test_who_listens(server: Server) -> None:
    assert server.listeners
    assert sockets.listened() == {25, 2525, 587, 80}


# Who speaks next


def spoken(end: socket.socket, said: bytes) -> None:
    """Wait until an end has received what the other one said."""
    end.setblocking(True)
    end.settimeout(DEADMAN)
    assert end.recv(100) == said


def test_a_session_ends_where_the_server_waits_for_the_client(server: Server) -> None:
    end = server.session("198.18.0.1")
    end.sendall(b"220 hello")
    spoken(server.kept[-2], b"220 hello")
    assert end_sessions([("198.18.0.1", "mx")], PORTS) == 1
    assert is_ended(end)


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("source", ["198.18.0.1", "2001:db8:b::1"])
def test_a_session_goes_on_while_the_server_owes_a_reply(
    server: Server, source: str, *, read: bool
) -> None:
    end, client = server.session(source), server.kept[-2]
    end.sendall(b"354 go on")
    spoken(client, b"354 go on")
    client.sendall(b"a message.")  # at once: in the same tick of the kernel's clock
    if read:
        spoken(end, b"a message.")
    endings = Endings()
    assert endings.end([ban(source)], PORTS, 0.0) == 0
    assert endings.end([], PORTS, 299.0) == 0
    if not read:
        spoken(end, b"a message.")
    assert endings.end([], PORTS, 299.0) == 0
    end.sendall(b"250 taken")
    until(lambda: endings.end([], PORTS, 299.0) == 1, "the session ended after the reply")
    assert (is_ended(end), endings.pending) == (True, {})
    assert client.recv(100) == b"250 taken"


def test_the_time_in_which_a_reply_is_waited_for_is_bounded(server: Server) -> None:
    end, client = server.session("198.18.0.1"), server.kept[-2]
    client.sendall(b"EHLO x")
    spoken(end, b"EHLO x")
    cause = throttle("198.18.0.1", port=client.getsockname()[1])
    for decision, seconds in ((ban("198.18.0.1"), 300.0), (cause, 5.0)):
        endings = Endings()
        assert endings.end([decision], PORTS, 1000.0) == 0
        assert endings.end([], PORTS, 1000.0 + seconds - 0.1) == 0
        assert len(endings.pending) == 1
        assert endings.end([], PORTS, 1000.0 + seconds) == 0
        assert endings.pending == {}
    assert not is_ended(end)


def test_a_throttle_ends_only_the_session_that_caused_it(server: Server) -> None:
    ends = [server.session("198.18.0.1") for _ in range(3)]
    port = server.kept[2].getsockname()[1]
    assert Endings().end([throttle("198.18.0.1", port=port)], PORTS, 0.0) == 1
    assert [is_ended(end) for end in ends] == [False, True, False]
    assert Endings().end([throttle("198.18.0.1", port=port)], PORTS, 0.0) == 0


def test_a_throttle_that_no_session_caused_ends_none(server: Server) -> None:
    end = server.session("198.18.0.1")
    assert Endings().end([throttle("198.18.0.1")], PORTS, 0.0) == 0
    assert not is_ended(end)


def test_a_session_is_known_by_the_sockets_of_its_smtpd(server: Server) -> None:
    ends = [server.session("198.18.0.1") for _ in range(2)]
    with subprocess.Popen(("sleep", "60"), stdin=ends[1].fileno()) as smtpd:
        assert Endings().end([throttle("198.18.0.1", smtpd.pid)], PORTS, 0.0) == 1
        smtpd.kill()
    assert [is_ended(end) for end in ends] == [False, True]


def test_of_an_unknown_smtpd_all_sessions_end_that_wait_for_the_client(server: Server) -> None:
    waiting, other = server.session("198.18.0.1"), server.session("198.18.0.2")
    busy, client = server.session("198.18.0.1"), server.kept[-2]
    client.sendall(b"EHLO x")
    spoken(busy, b"EHLO x")
    endings = Endings()
    assert endings.end([throttle("198.18.0.1", 1)], PORTS, 0.0) == 1
    assert [is_ended(end) for end in (waiting, busy, other)] == [True, False, False]
    assert endings.pending == {}


def test_a_throttled_network_ends_the_session_that_caused_it_or_none(server: Server) -> None:
    ends = [server.session("198.18.0.1"), server.session("198.18.0.2")]
    assert Endings().end([throttle("198.18.0.0/24", 1)], PORTS, 0.0) == 0
    port = server.kept[0].getsockname()[1]
    assert Endings().end([throttle("198.18.0.0/24", 1, port)], PORTS, 0.0) == 1
    assert [is_ended(end) for end in ends] == [True, False]
