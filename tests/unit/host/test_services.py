"""Which services of a real master.cf take mail from the network."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.mail.maincf import configure
from lab.network.netns import namespace
from throttled.facts import Service, Spool
from throttled.host import postconf
from throttled.host.services import alike, services, spool
from throttled.model import Scope


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., tuple[list[Service], list[str]]]:
    def find(
        main: str, master: str, scopes: dict[str, Scope] | None = None
    ) -> tuple[list[Service], list[str]]:
        lines = [
            f"{line} inet n - y - - smtpd" if " " not in line else line
            for line in master.split("\n")
        ]
        return services(postconf.read(configure(tmp_path, main, "\n".join(lines))), scopes or {})

    return find


Find = Callable[..., tuple[list[Service], list[str]]]


def only(result: tuple[list[Service], list[str]]) -> Service:
    [service], warnings = result
    assert warnings == []
    return service


@pytest.mark.parametrize(
    ("name", "port", "scope"),
    [
        ("smtp", 25, "mx"),
        ("25", 25, "mx"),
        ("submission", 587, "submission"),
        ("587", 587, "submission"),
        ("submissions", 465, "submission"),
        ("smtps", 465, "submission"),
        ("465", 465, "submission"),
        ("2525", 2525, "mx"),
        ("198.51.100.7:smtp", 25, "mx"),
        ("[2001:db8::7]:465", 465, "submission"),
        ("mail.example.com:2525", 2525, "mx"),
        ("0.0.0.0:2525", 2525, "mx"),
    ],
)
def test_ports_and_scopes(found: Find, name: str, port: int, scope: Scope) -> None:
    service = only(found("", name))
    assert (service.name, service.port, service.scope) == (name, port, scope)
    assert (service.process, service.tag) == ("smtpd", "postfix")


@pytest.mark.parametrize(
    "option",
    [
        "smtpd_sasl_auth_enable=yes",
        "smtpd_sasl_auth_enable=$enable",
        "smtpd_tls_wrappermode=yes",
        "syslog_name=postfix/submission2",
        "smtpd_recipient_restrictions=$mua_recipient_restrictions",
    ],
)
def test_a_port_of_its_own_for_users(found: Find, option: str) -> None:
    main = "enable = yes\nmua_recipient_restrictions ="
    assert only(found(main, f"2525 inet n - y - - smtpd -o {option}")).scope == "submission"
    assert only(found(main, f"25 inet n - y - - smtpd -o {option}")).scope == "mx"


@pytest.mark.parametrize(("option", "first"), [("yes", True), ("Yes", True), ("no", False)])
def test_tls_from_the_start(found: Find, option: str, first: bool) -> None:  # noqa: FBT001 - a column of the table
    line = f"465 inet n - y - - smtpd -o smtpd_tls_wrappermode={option}"
    assert only(found("", line)).tls is first


def test_logins_switched_on_for_all(found: Find) -> None:
    main = "smtpd_sasl_auth_enable = yes"
    assert only(found(main, "2525")).scope == "submission"
    off = "2525 inet n - y - - smtpd -o smtpd_sasl_auth_enable=no"
    assert only(found(main, off)).scope == "mx"


def test_the_operators_word_counts_more(found: Find) -> None:
    line = "2525 inet n - y - - smtpd -o syslog_name=postfix/submission2"
    assert only(found("", line, {"postfix/submission2": "mx"})).scope == "mx"
    assert only(found("", "2525", {"postfix": "submission"})).scope == "submission"


@pytest.mark.parametrize(
    "name",
    ["127.0.0.1:10025", "[::1]:10025", "localhost:10025", "127.0.0.2:25", "[127.0.0.1]:25"],
)
def test_what_only_loopback_reaches_is_none_of_ours(found: Find, name: str) -> None:
    assert found("", name) == ([], [])


@pytest.mark.parametrize(
    ("interfaces", "listens"),
    [
        ("all", True),
        ("loopback-only", False),
        ("localhost", False),
        ("127.0.0.1, [::1]", False),
    ],
)
def test_inet_interfaces(found: Find, interfaces: str, listens: bool) -> None:  # noqa: FBT001 - a column of the table
    assert bool(found(f"inet_interfaces = {interfaces}", "smtp")[0]) is listens


@pytest.mark.root
def test_one_address_outside_is_enough(found: Find) -> None:
    with namespace("postconf") as host:  # postconf wants an address that the host has
        host.run("ip", "address", "add", "198.51.100.7/24", "dev", "lo")
        assert host.call(lambda: only(found("inet_interfaces = localhost 198.51.100.7", "25")))


def test_an_address_in_master_cf_counts_more_than_inet_interfaces(found: Find) -> None:
    assert only(found("inet_interfaces = loopback-only", "198.51.100.7:25")).port == 25


@pytest.mark.parametrize(
    ("disabled", "ports"),
    [
        ("", [25, 587]),
        ("inet", []),
        ("smtp/inet", [587]),
        ("!smtp/inet, inet", [25]),
        ("other/inet pass", [25, 587]),
    ],
)
def test_services_that_are_switched_off(found: Find, disabled: str, ports: list[int]) -> None:
    result, _ = found(f"master_service_disable = {disabled}", "smtp\nsubmission")
    assert [service.port for service in result] == ports


def test_other_services_are_not_ours(found: Find) -> None:
    master = """\
lmtp unix - - y - - lmtp
qmqp inet n - y - - qmqpd
smtp unix - - y - - smtp
2525 inet n n n - 0 spawn user=nobody argv=/bin/false"""
    assert found("", master) == ([], [])


def test_postscreen_and_the_smtpd_behind_it(found: Find) -> None:
    master = """\
smtp  inet n - y - 1 postscreen
smtpd pass - - y - - smtpd -o syslog_name=postfix/mx -o smtpd_sasl_auth_enable=yes
other pass - - y - - smtpd"""
    result, warnings = found("", master)
    assert [(s.name, s.process, s.tag, s.port, s.scope) for s in result] == [
        ("smtp", "postscreen", "postfix", 25, "mx"),
        ("smtpd", "smtpd", "postfix/mx", 25, "mx"),
    ]
    assert warnings == []


def test_postscreen_with_another_smtpd(found: Find) -> None:
    master = """\
2525  inet n - y - 1 postscreen -o smtpd_service_name=other
smtpd pass - - y - - smtpd
other pass - - y - - smtpd"""
    result, _ = found("", master)
    assert [(s.name, s.port, s.scope) for s in result] == [
        ("2525", 2525, "mx"),
        ("other", 2525, "mx"),
    ]


@pytest.mark.parametrize("name", ["nosuchname", "0", "65536", "99999999999999999999", "²"])
def test_a_port_that_is_none(found: Find, name: str) -> None:
    result, [warning] = found("", f"smtp\n{name} inet n - y - - smtpd")
    assert [service.port for service in result] == [25]
    assert f"{name} has no known port" in warning


def test_a_known_name_that_the_system_does_not_know(
    found: Find, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mock: /etc/services cannot be absent here."""

    def unknown(name: str, protocol: str) -> int:
        raise OSError("service/proto not found", name, protocol)

    monkeypatch.setattr(socket, "getservbyname", unknown)
    assert [s.port for s in found("", "smtp\nsubmission\nsmtps")[0]] == [25, 587, 465]


@pytest.mark.parametrize(
    ("main", "line"),
    [
        ("", "smtp inet n - y - - smtpd -o smtpd_upstream_proxy_protocol=haproxy"),
        ("postscreen_upstream_proxy_protocol = haproxy", "smtp inet n - y - 1 postscreen"),
    ],
)
def test_clients_that_come_through_a_proxy(found: Find, main: str, line: str) -> None:
    [service], [warning] = found(main, line)
    assert (service.port, service.proxy) == (25, "haproxy")
    assert "smtp (port 25) gets its clients from a proxy (haproxy)" in warning


def test_services_that_the_log_cannot_distinguish(found: Find) -> None:
    result, _ = found("", "smtp\nsubmission\nsmtps")
    assert list(alike(result)) == [
        f"smtp (port 25) and {name} (port {port}) both log as postfix/smtpd, so their clients "
        f"cannot be distinguished; in {result[0].instance}/master.cf give {name} its own, for "
        "example -o syslog_name=postfix/submission"
        for name, port in (("submission", 587), ("smtps", 465))
    ]
    [warning] = alike(reversed(result[:2]))
    assert "give submission its own" in warning


def test_services_that_the_log_can_distinguish(found: Find) -> None:
    master = """\
smtp inet n - y - 1 postscreen
smtpd pass - - y - - smtpd
2525 inet n - y - - smtpd
submission inet n - y - - smtpd -o syslog_name=postfix/submission
smtps inet n - y - - smtpd -o syslog_name=postfix/submission"""
    result, _ = found("", master)
    assert len(result) == 5
    assert list(alike(result)) == []


SMALL = "587 inet n - y - 10 smtpd"


@pytest.mark.parametrize(
    ("main", "master", "processes"),
    [
        ("", "smtp inet n - y - - smtpd", 100),
        ("default_process_limit = 500", "smtp inet n - y - - smtpd", 500),
        ("", f"smtp inet n - y - - smtpd\n{SMALL}", 10),
        ("", "smtp inet n - y - 0 smtpd", 100),  # any number
        ("", "smtp inet n - y - 1 postscreen\nsmtpd pass - - y - 70 smtpd", 70),
        ("", "smtp inet n - y - - smtpd\n127.0.0.1:10026 inet n - n - 5 smtpd", 100),
        ("master_service_disable = 587/inet", f"smtp inet n - y - - smtpd\n{SMALL}", 100),
    ],
)
def test_the_queue_and_its_smallest_service(
    tmp_path: Path, main: str, master: str, processes: int
) -> None:
    more = f"queue_directory = /var/spool/other\nmail_owner = mail\n{main}"
    directory = configure(tmp_path, more, master)
    found = spool(postconf.read(directory))
    assert found == Spool(directory, "/var/spool/other", "mail", processes)


def test_a_queue_that_postconf_does_not_name(tmp_path: Path) -> None:
    directory = configure(tmp_path, "mail_owner =", "smtp inet n - y - - smtpd")
    assert spool(postconf.read(directory)) is None
