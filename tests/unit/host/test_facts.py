"""Everything together: what Postfix says, what the kernel says, and what happens without either."""

import socket
from pathlib import Path

import pytest

from lab.mail.maincf import configure
from lab.network.netns import Namespace, namespace
from throttled.errors import HostError
from throttled.facts import Facts, Service
from throttled.host.facts import gather

MAIN = """\
maillog_file = /var/log/postfix.log
mynetworks = 127.0.0.0/8 198.51.100.0/24
relayhost = [203.0.113.25]:587
proxy_interfaces = 203.0.113.1, [2001:db8::1], outside.example.com
"""
MASTER = """\
smtp inet n - y - - smtpd
submission inet n - y - - smtpd -o syslog_name=postfix/submission
127.0.0.1:10025 inet n - y - - smtpd
"""


def test_an_instance(tmp_path: Path) -> None:
    directory = configure(tmp_path, MAIN, MASTER)
    facts = gather([directory], {"postfix/other": "submission"}, ["backup-mx"])
    assert facts.services == (
        Service(directory, "smtp", "smtpd", "postfix", 25, "mx"),
        Service(directory, "submission", "smtpd", "postfix/submission", 587, "submission"),
    )
    assert facts.log_files == ("/var/log/postfix.log",)
    assert facts.mynetworks == ("127.0.0.0/8", "198.51.100.0/24")
    assert facts.relays == {"203.0.113.25"}
    assert {"203.0.113.1", "2001:db8::1", "127.0.0.1"} <= facts.own
    assert {"m.example.com", socket.gethostname(), "backup-mx"} == facts.hostnames
    assert all(map(facts.ours, ("m", "M.example.COM", "backup-mx.example.org")))
    assert not facts.ours("m.example.org")
    assert facts.config_directories == (directory,)
    assert facts.scope_of("postfix/other") == "submission"
    assert facts.warnings == ()


def test_who_may_name_other_clients(tmp_path: Path) -> None:
    main = "smtpd_authorized_xforward_hosts = 198.51.100.9"
    master = "smtp inet n - y - - smtpd -o smtpd_authorized_xclient_hosts="
    facts = gather([configure(tmp_path, main, f"{master}127.0.0.1")])
    assert (facts.xclient, facts.xforward) == (("127.0.0.1",), ("198.51.100.9",))
    assert facts.warnings == ()
    facts = gather([configure(tmp_path, main, f"{master}127.0.0.1,[::1],198.51.100.7")])
    [warning] = facts.warnings
    assert warning.startswith("198.51.100.7 may name other clients")
    (tmp_path / "main.cf").write_text("broken")
    assert gather([str(tmp_path)], before=facts).xclient == ("127.0.0.1", "::1", "198.51.100.7")


def test_several_instances(tmp_path: Path) -> None:
    one = configure(tmp_path / "one", "mynetworks = 198.51.100.1", "smtp inet n - y - - smtpd")
    two = configure(
        tmp_path / "two",
        "mynetworks = 198.51.100.1, 198.51.100.2\nmultiple = 1\nmyhostname = n.example.net",
        "2525 inet n - y - - smtpd\nsubmission inet n - y - - smtpd",
    )
    facts = gather([one, two])
    assert [(s.instance, s.port) for s in facts.services] == [(one, 25), (two, 2525), (two, 587)]
    assert facts.mynetworks == ("198.51.100.1", "198.51.100.2")
    assert {"m.example.com", "n.example.net"} <= facts.hostnames
    [warning] = facts.warnings
    assert warning.startswith("smtp (port 25) and submission (port 587) both log as postfix/smtpd")
    assert f"in {two}/master.cf" in warning


@pytest.mark.parametrize(("existing", "found"), [([], []), (["b"], ["b"]), (["a", "b"], ["a"])])
def test_the_log_of_the_syslog_daemon(
    tmp_path: Path, existing: list[str], found: list[str]
) -> None:
    directory = configure(tmp_path / "postfix")
    for name in existing:
        (tmp_path / name).touch()
    candidates = [f"{tmp_path}/a", f"{tmp_path}/b"]
    for directories in ([directory], [directory, directory], [str(tmp_path / "absent")]):
        facts = gather(directories, log_files=candidates)
        assert facts.log_files == tuple(f"{tmp_path}/{name}" for name in found)


def test_a_log_that_is_no_file(tmp_path: Path) -> None:
    facts = gather([configure(tmp_path, "maillog_file = /dev/stdout", MASTER)])
    assert facts.log_files == ()
    assert facts.warnings == (
        "Postfix logs to /dev/stdout, which no other program can read: see [log] files",
    )


def test_the_postfix_installed_here() -> None:
    facts = gather()
    assert facts.config_directories[0] == "/etc/postfix"
    assert facts.ports("mx") == (25,)


def test_a_postfix_that_takes_no_mail_from_the_network(tmp_path: Path) -> None:
    facts = gather([configure(tmp_path, "inet_interfaces = loopback-only", MASTER)])
    assert facts.services == ()
    assert facts.warnings == (
        "no service of Postfix accepts mail from the network: nothing to protect",
    )


def test_a_broken_configuration_keeps_what_was_known(tmp_path: Path) -> None:
    one = configure(tmp_path / "one", MAIN, MASTER)
    two = configure(tmp_path / "two", "mynetworks = 198.18.0.0/16", "2525 inet n - y - - smtpd")
    before = gather([one, two])
    configure(tmp_path / "one", "half a li", MASTER)
    configure(tmp_path / "two", "mynetworks = 198.18.5.5", "2626 inet n - y - - smtpd")
    now = gather([one, two], before=before)
    assert {s.port for s in now.services} == {25, 587, 2626}
    assert now.log_files == before.log_files
    assert now.relays == before.relays
    assert set(now.mynetworks) == {"198.18.5.5", *before.mynetworks}
    [cause, kept] = now.warnings
    assert f"{one}/main.cf, line 3: missing '=' after attribute name" in cause
    assert kept == f"{one} cannot be read: the last known services are used, ports 25, 587"
    assert now.files == (
        *(f"{directory}/{name}" for directory in (one, two) for name in ("main.cf", "master.cf")),
        "/etc/resolv.conf",
    )
    configure(tmp_path / "one", "mynetworks = 198.18.6.6", "smtp inet n - y - - smtpd")
    after = gather([one, two], before=now)
    assert {s.port for s in after.services} == {25, 2626}
    assert after.mynetworks == ("198.18.6.6", "198.18.5.5")
    assert after.relays == frozenset()


def test_a_table_that_is_away_for_once_keeps_what_was_known(tmp_path: Path) -> None:
    table = tmp_path / "nets"
    directory = configure(tmp_path, f"mynetworks = 198.51.100.7 {table}", MASTER)
    table.write_text("203.0.113.0/24")
    before = gather([directory])
    table.unlink()
    now = gather([directory], before=before)
    assert now.mynetworks == before.mynetworks == ("198.51.100.7", "203.0.113.0/24")
    assert "No such file" in now.warnings[0]
    table.write_text("203.0.113.9, nonsense")
    assert gather([directory], before=now).mynetworks == ("198.51.100.7", "203.0.113.9")


@pytest.mark.root
def test_relays_that_do_not_resolve_for_once_are_kept(tmp_path: Path) -> None:
    directory = configure(tmp_path, "relayhost = [no.example.com]", MASTER)
    before = Facts(relays=frozenset({"203.0.113.25"}))
    with namespace("facts") as host:
        facts = host.call(gather, [directory], before=before)
    assert facts.relays == {"203.0.113.25"}
    assert "no.example.com does not resolve" in facts.warnings[0]


@pytest.mark.root
def test_a_network_namespace_with_its_own_addresses(networked: Namespace, tmp_path: Path) -> None:
    directory = configure(tmp_path, "", MASTER)
    networked.run("ip", "route", "add", "default", "via", "198.51.100.1")
    facts = networked.call(gather, [directory])
    assert facts.own == {"127.0.0.1", "::1", "198.51.100.7", "2001:db8::7"}
    assert facts.gateways == {"198.51.100.1"}
    assert set(facts.mynetworks) == facts.own  # mynetworks_style = host
    assert facts.warnings == ()


def test_without_postfix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory with nothing in it stands for a system without Postfix's commands."""
    monkeypatch.setattr("throttled.host.command._PATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    facts = gather(log_files=[str(tmp_path)])
    assert facts.services == ()
    assert facts.config_directories == ()
    assert facts.log_files == (str(tmp_path),)
    assert "127.0.0.1" in facts.own
    [warning] = facts.warnings
    assert warning.startswith("postconf cannot be run: ")


def test_a_host_that_reports_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mock: no kernel here refuses to name its addresses."""

    def refuse(*_: object) -> None:
        raise HostError("refused")

    for name in ("own", "gateways", "resolvers"):
        monkeypatch.setattr(f"throttled.host.addresses.{name}", refuse)
    before = Facts(
        own=frozenset({"198.51.100.7"}),
        gateways=frozenset({"198.51.100.1"}),
        resolvers=frozenset({"198.51.100.53"}),
    )
    facts = gather([configure(tmp_path, MAIN, MASTER)], before=before)
    assert "198.51.100.7" in facts.own
    assert facts.gateways == before.gateways
    assert facts.resolvers == before.resolvers
    assert facts.warnings == ("refused",)


def test_addresses_that_are_none_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mock: what a resolv.conf or an interface may say one day."""
    bad = frozenset({"fe80::1%eth0", "198.51.100.7", "\x00"})
    monkeypatch.setattr("throttled.host.addresses.own", lambda: bad)
    monkeypatch.setattr("throttled.host.addresses.resolvers", lambda: bad)
    facts = gather([configure(tmp_path, "", MASTER)])
    assert facts.own == facts.resolvers == {"198.51.100.7"}
    assert "not an address, skipped: 'fe80::1%eth0'" in facts.warnings
    assert all(warning.isprintable() for warning in facts.warnings)


def test_what_no_one_foresaw_keeps_what_was_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("throttled.host.postconf.read", fail)
    before = Facts(own=frozenset({"198.51.100.7"}), warnings=("old",))
    for _ in range(2):
        facts = gather([str(tmp_path)], before=before)
        assert facts.own == before.own
        assert (
            facts.warnings[-1]
            == "facts about this host cannot be read: unexpected ZeroDivisionError"
        )


def test_a_changed_name_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logger writes the old one until it is started again."""
    directory = configure(tmp_path, "", MASTER)
    monkeypatch.setattr(socket, "gethostname", lambda: "old")
    before = gather([directory], hosts=["other"])
    monkeypatch.setattr(socket, "gethostname", lambda: "new")
    facts = gather([directory], before=before)
    assert facts.hostnames == {"m.example.com", "old", "new"}


@pytest.mark.parametrize(
    ("each", "common"),
    [(["+"], "+"), (["+-", "+"], "+"), (["", "-+"], "+-"), (["-", "+"], ""), ([""], "")],
)
def test_delimiters_that_all_instances_have(tmp_path: Path, each: list[str], common: str) -> None:
    """What is an extension in one instance only might be a mailbox of another."""
    directories = []
    for number, delimiters in enumerate(each):
        place = tmp_path / str(number)
        place.mkdir()
        main = f"{MAIN}\nrecipient_delimiter = {delimiters}\n"
        directories.append(configure(place, main, MASTER))
    assert gather(directories).delimiters == common


def test_about_what_postfix_asks(tmp_path: Path) -> None:
    asks = "check_policy_service { unix:throttled/policy, timeout=2s, default_action=DUNNO }"
    main = f"throttled_check = {asks}\nsmtpd_data_restrictions = permit_x, $throttled_check\n"
    facts = gather([configure(tmp_path, main, MASTER)])
    assert facts.asked == {"data"}
    other = "smtpd_recipient_restrictions = check_policy_service unix:private/policyd\n"
    assert gather([configure(tmp_path, other, MASTER)], before=facts).asked == set()
    own = MASTER + f"\nsmtp inet n - y - - smtpd\n  -o {{ smtpd_recipient_restrictions = {asks} }}"
    assert gather([configure(tmp_path, "", own)]).asked == {"recipient"}


def test_pipes_that_deliver_to_mailboxes(tmp_path: Path) -> None:
    main = f"{MAIN}\nvirtual_transport = dovecot:\nlocal_transport = lmtp:unix:private/x\n"
    pipes = "\n".join(
        f"{name} unix - n n - - pipe user=nobody argv=/bin/true" for name in ("dovecot", "filter")
    )
    facts = gather([configure(tmp_path, main, f"{MASTER}{pipes}\nlmtp unix - - n - - lmtp")])
    assert facts.pipes == {"dovecot"}
    (tmp_path / "main.cf").write_text("broken")
    assert gather([str(tmp_path)], before=facts).pipes == {"dovecot"}


def test_a_service_with_a_name_of_its_own_and_the_domain_of_logins(tmp_path: Path) -> None:
    """postlogd's log has that name as the host's."""
    own = "127.0.0.1:10026 inet n - n - - smtpd\n  -o myhostname=filter.example.com\n"
    directory = configure(tmp_path, f"{MAIN}\nsmtpd_sasl_local_domain = $mydomain\n", MASTER + own)
    facts = gather([directory])
    assert facts.ours("filter.example.com")
    assert facts.sasl_domain == "example.com"
