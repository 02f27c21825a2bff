"""Many entries at once: a real daemon, store and kernel, and lists with 10,000 entries."""

import json
import re
import ssl
import subprocess
import threading
import time
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from lab.daemon.daemon import THROTTLED, Daemon
from lab.mail.postfix import Lab
from throttled.model import Evidence
from throttled.store.store import Store

pytestmark = [pytest.mark.root, pytest.mark.postfix]

COUNT = 10_000
ROOT = Path(__file__).resolve().parents[2]


def kernel(lab: Lab) -> str:
    return lab.server.run("nft", "list", "ruleset").stdout


def test_ten_thousand_from_standard_input_and_by_a_filter(
    lab: Lab, guard: Daemon, tmp_path: Path
) -> None:
    guard.start()
    names = [f"198.18.{n >> 8}.{n & 255}" for n in range(COUNT)]
    path = tmp_path / "list"
    path.write_text("".join(f"{name} mx 1h # spam\n" for name in names))
    assert guard.command("import", "--as", "ban", str(path)).returncode == 0
    assert guard.command("ban", "203.0.113.7", "--scope", "mx").returncode == 0
    done = guard.command("unban", "--within", "198.18.0.0/17", "--json")

    result = json.loads(done.stdout)
    assert (done.returncode, result["done"], result["confirmed"]) == (0, COUNT, True)
    assert "198.18." not in kernel(lab)
    assert guard.ask("list")["total"] == 1
    assert guard.command("import", "--as", "ban", str(path)).returncode == 0
    words = (THROTTLED, "--config", str(guard.config), "unban", "-", "--json")
    done = lab.server.run(*words, stdin=path.read_text(), check=False)
    result = json.loads(done.stdout)
    assert (done.returncode, result["done"], result["confirmed"]) == (0, COUNT, True)
    assert "198.18." not in kernel(lab)
    rows = guard.ask("audit")["rows"]
    assert [(row["op"], row["outcome"]) for row in rows] == [
        ("unban-many", f"{COUNT} done, 0 refused"),
        ("import", f"{COUNT} done, 0 refused"),
        ("unban-many", f"{COUNT} done, 0 refused"),
        ("ban", "203.0.113.7 is banned in mx"),
        ("import", f"{COUNT} done, 0 refused"),
    ]
    assert guard.status().health == []


def test_a_list_by_name_is_replaced_and_removed(lab: Lab, guard: Daemon, tmp_path: Path) -> None:
    guard.start()
    path = tmp_path / "drop.txt"
    path.write_text("; DROP\n198.51.100.0/24 ; SBL1\n203.0.112.0/20 ; SBL2\n")
    assert guard.command("ban", "198.51.100.7", "--for", "1h").returncode == 0
    done = guard.command("import", "--list", "drop", "--as", "ban", str(path))
    assert (done.returncode, done.stdout) == (0, "list drop: 4 banned\n")
    assert "203.0.112.0" in kernel(lab)
    rows = guard.ask("list", "--list", "drop")["rows"]
    assert {(row["subject"], row["why"], row["origin"]) for row in rows} == {
        ("198.51.100.0/24", "SBL1", "list:drop"),
        ("203.0.112.0/20", "SBL2", "list:drop"),
    }
    path.write_text("; DROP\n198.51.100.0/24 ; SBL1\n")
    done = guard.command("import", "--list", "drop", "--as", "ban", str(path))
    assert (done.returncode, done.stdout) == (0, "list drop: 2 unchanged, 2 removed\n")
    assert "203.0.112.0" not in kernel(lab)
    path.write_text("<html>")
    assert guard.command("import", "--list", "drop", str(path)).returncode == 2
    assert guard.ask("list", "--list", "drop")["total"] == 2
    assert guard.command("unban", "--list", "drop").stdout == "2 unbanned\n"
    assert {row.subject for row in guard.rows()} == {"198.51.100.7"}
    outcomes = [row["outcome"] for row in guard.ask("audit")["rows"]]
    assert outcomes[:2] == ["2 done, 0 refused", "0 done, 0 refused, 2 removed"]


def test_two_lists_and_a_good_sender_in_one_of_their_networks(
    lab: Lab, guard: Daemon, tmp_path: Path
) -> None:
    guard.start()
    good = "203.0.113.77"

    def imported(name: str, *subjects: str) -> str:
        path = tmp_path / name
        days = {"one": 7, "two": 1}[name]  # what is active for longer stays the other's
        path.write_text("".join(f"{subject} mx {days}d\n" for subject in subjects))
        done = guard.command("import", "--list", name, "--as", "ban", str(path))
        assert done.returncode == 0, done.stderr
        return done.stdout

    now = time.time()
    with closing(Store.open(str(guard.home / "throttled.db"))) as store:
        store.record(now, [], [Evidence(good, now - n * 86400, 2) for n in range(4)])
    one, two = ("ban", "list:one"), ("ban", "list:two")

    def owners() -> dict[str, tuple[str, str]]:
        rows = guard.ask("list")["rows"]
        text = kernel(lab)
        assert all(row["subject"].partition("/")[0] in text for row in rows)
        return {row["subject"]: (row["action"], row["origin"]) for row in rows}

    assert imported("one", "203.0.112.0/20", "198.51.100.7") == "list one: 2 banned\n"
    found = owners()
    assert found.pop(good)[0] == "exempt"
    assert found == {"203.0.112.0/20": one, "198.51.100.7": one}
    assert imported("two", "198.51.100.7", "198.51.100.9") == "list two: 1 banned, 1 known\n"
    assert imported("one", "198.51.100.10") == "list one: 1 banned, 2 removed\n"
    assert owners() == {"198.51.100.7": two, "198.51.100.9": two, "198.51.100.10": one}
    assert good not in kernel(lab)
    # The second list names an address no longer that is the first one's: nothing else changes.
    assert imported("two", "198.51.100.9") == "list two: 1 unchanged, 1 removed\n"
    assert imported("two", "198.51.100.9", "198.51.100.10") == "list two: 1 unchanged, 1 known\n"
    assert imported("two", "198.51.100.9") == "list two: 1 unchanged\n"
    assert imported("one", "198.51.100.11") == "list one: 1 banned, 1 removed\n"
    assert owners() == {"198.51.100.9": two, "198.51.100.11": one}
    assert guard.command("unban", "--list", "two").stdout == "1 unbanned\n"
    assert owners() == {"198.51.100.11": one}
    assert guard.status().health == []


class Served:
    """An HTTPS server on loopback in the server's namespace; `body` is what it answers."""

    def __init__(self, lab: Lab, tmp_path: Path) -> None:
        self.body = b""
        self.certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
        subject = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject),
                *("-keyout", key, "-out", self.certificate),
            ],
            check=True,
            capture_output=True,
        )
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                with suppress(OSError):  # who reads no more than it wants goes away
                    self.wfile.write(served.body)
                with suppress(OSError):  # curl of Debian 13 wants TLS ended as TLS says
                    self.connection.unwrap()

            def log_message(self, *_args: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.server = HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
        self.server.socket.close()
        self.server.socket = context.wrap_socket(
            lab.server.listen("127.0.0.1", 8443), server_side=True
        )
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


def test_the_example_units_fetch_a_list_and_trust_nothing(
    lab: Lab, guard: Daemon, tmp_path: Path
) -> None:
    unit = (ROOT / "packaging/examples/throttled-list@.service").read_text()
    assert "LimitFSIZE=4M\n" in unit
    unit = unit.replace("\\\n", "").replace("%i", "drop")
    commands = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)

    def fetch(url: str = "https://127.0.0.1:8443/drop") -> int:
        for command in commands:
            text = command.replace("/run/throttled-list-drop", str(tmp_path))
            words = text.replace("${URL}", url).replace("$OPTIONS", "--as ban").split()
            if words[0] == "throttled":
                words[:1] = [THROTTLED, "--config", str(guard.config)]
            limit = f"--fsize={4 << 20}"  # LimitFSIZE; before 8.4 curl needs Content-Length
            words = ["prlimit", limit, "env", f"CURL_CA_BUNDLE={served.certificate}", *words]
            if code := lab.server.run(*words, check=False).returncode:
                return code
        return 0

    guard.start()
    served = Served(lab, tmp_path)
    try:
        served.body = b'{"cidr":"203.0.113.0/24","sblid":"SBL1"}\n{"type":"metadata","records":1}\n'
        assert fetch() == 0
        assert {row.subject for row in guard.rows()} == {"203.0.113.0/24"}
        large = (b"192.0.2.7 # " + b"x" * 1000 + b"\n") * 5000
        for body in (b"", b"<html>", served.body.replace(b":1}", b":2}"), large):
            served.body = body
            assert fetch() != 0
        assert fetch("http://127.0.0.1:8443/drop") != 0
        assert {row.subject for row in guard.rows()} == {"203.0.113.0/24"}
    finally:
        served.close()
