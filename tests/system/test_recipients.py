"""What mailboxes and domains receive: above a limit servers are asked to try again later."""

from collections.abc import Iterator

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.mail import asking, postfix
from lab.mail.asking import BOMBED, CLIENT, DEVICE
from lab.mail.maincf import settle
from lab.mail.postfix import USER, Lab
from lab.mail.session import LETTER, session
from lab.network.netns import CLIENT6, until
from throttled.maincf.asking import RECIPIENTS

pytestmark = [pytest.mark.root, pytest.mark.postfix, pytest.mark.usefixtures("emptied")]

BOB, INFO, ALL = "bob@example.test", "info@example.test", "catch.test"
PIPED = "piped.test"
TEAM, REMOTE = "team@example.test", f"carol@[{CLIENT}]"  # nothing listens there
LIMITS = BOMBED + 'throttle = { rate = 1, per = "1h", burst = 1 }\n'
DOMAIN = LIMITS.replace('"mailbox"', '"domain"').replace('"messages"', '"received"')


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Debian's restrictions as they are; an alias, a catch-all, and an inside host."""
    with postfix.lab() as made:
        aliases = f"inline:{{ {INFO}=bob, @{ALL}=bob, "
        aliases += f"{{both@example.test=alice, bob}}, {{{TEAM}=bob, {REMOTE}}} }}"
        parameters = (
            f"mynetworks=127.0.0.0/8 {DEVICE}/32",
            f"virtual_alias_domains={ALL}",
            f"virtual_alias_maps={aliases}",
            "smtpd_hard_error_limit=50",
            f"virtual_mailbox_domains={PIPED}",
            f"virtual_mailbox_maps=inline:{{ carol@{PIPED}=carol }}",
            "virtual_transport=dovecot",
        )
        pipe = "dovecot unix - n n - - pipe user=nobody argv=/bin/true"
        made.server.run("postconf", "-c", str(made.mail.config), "-M", f"dovecot/unix={pipe}")
        made.server.run("postconf", "-c", str(made.mail.config), "-e", *parameters)
        asking.reload(made)
        yield made


@pytest.fixture(scope="module")
def connected(lab: Lab) -> Iterator[str]:
    """Yield main.cf as `postfix connect` leaves it: once, as that takes two CPU seconds."""
    with daemon(lab.server, lab.mail.config, LIMITS) as first:
        first.start()
        done = first.command("postfix", "connect", "--yes")
        assert done.returncode == 0, done.stderr
        first.stop()
        lab.server.run("nft", "flush", "ruleset")
        yield (lab.mail.config / "main.cf").read_text()
        done = first.command("postfix", "disconnect", "--yes")
        assert done.returncode == 0, done.stderr


@pytest.fixture
def guard(lab: Lab, connected: str, guard: Daemon) -> Iterator[Daemon]:
    guard.configure(LIMITS)
    guard.start()
    with lab.mail.restored():
        yield guard
        changed = (lab.mail.config / "main.cf").read_text() != connected
    if changed:  # and no smtpd has it any more
        asking.reload(lab)


def rcpt(lab: Lab, *recipients: str, source: str = CLIENT, login: bool = False) -> list[int]:
    """Send a message to recipients in a session; return the codes of RCPT."""
    codes: list[int] = []

    def deliver() -> None:
        with session(source, USER if login else "") as client:
            client.mail("someone@example.net")
            codes.extend(client.rcpt(each)[0] for each in recipients)
            if 250 in codes and not any(each.startswith("postmaster") for each in recipients):
                client.data(LETTER)

    lab.client.call(deliver)
    return codes


def received(guard: Daemon, subject: str = f"mailbox:{BOB}") -> int:
    """Return how many messages were counted today."""
    rows = {row["subject"]: row for row in guard.ask("accounts")["rows"]}
    return int(rows[subject]["received"]) if subject in rows else 0


def fill(lab: Lab, guard: Daemon, recipient: str = BOB, subject: str = f"mailbox:{BOB}") -> None:
    """Deliver until the limit is exceeded."""
    before = lab.mail.delivered("bob")
    for _ in range(6):
        assert rcpt(lab, recipient) == [250]
    until(lambda: [row.subject for row in guard.rows()] == [subject], "the limit has acted")
    until(lambda: lab.mail.delivered("bob") == before + 6, "all was delivered")
    assert rcpt(lab, recipient) == [250]  # its throttle lets one through
    until(lambda: received(guard, subject) == 7, "each message was counted once")


def test_a_bombed_mailbox_is_deferred_and_nothing_else(lab: Lab, guard: Daemon) -> None:
    fill(lab, guard)
    assert rcpt(lab, BOB) == rcpt(lab, "BOB@Example.Test") == [450]
    assert rcpt(lab, "alice@example.test", BOB, "alice@example.test") == [250, 450, 250]
    assert rcpt(lab, BOB, source=CLIENT6) == [450]
    assert rcpt(lab, INFO, "new@catch.test") == [250, 250]  # where these go is not known yet
    until(lambda: received(guard) == 9, "local(8) delivers it to each of the two")
    assert rcpt(lab, INFO, "new@catch.test", "both@example.test") == [450, 450, 250]
    assert rcpt(lab, "postmaster", "postmaster@example.test", BOB) == [250, 250, 450]
    assert rcpt(lab, "nobody-here@example.test", "x@elsewhere.test") == [550, 454]
    text = "450 4.2.1 <bob@example.test>: Recipient address rejected: this mailbox or do"
    until(lambda: text in lab.mail.log.read_text("latin-1"), "it is logged")
    assert guard.command("unban", f"mailbox:{BOB}").returncode == 0
    assert rcpt(lab, BOB) == [250]


def test_an_alias_that_leads_elsewhere_too_is_not_deferred(lab: Lab, guard: Daemon) -> None:
    fill(lab, guard)
    assert rcpt(lab, TEAM) == [250]
    tried = f"to=<{REMOTE}>, orig_to=<{TEAM}>"
    until(lambda: tried in lab.mail.log.read_text("latin-1"), "the other server was tried")
    until(lambda: received(guard) == 8, "it was delivered here, too")
    assert rcpt(lab, "alice@example.test") == [250]
    until(lambda: received(guard, "mailbox:alice@example.test") == 1, "the log is read so far")
    assert rcpt(lab, BOB, TEAM) == [450, 250]


def test_extensions_of_an_address_do_not_evade_its_limit(lab: Lab, guard: Daemon) -> None:
    """Debian's recipient_delimiter is +."""
    for number in range(6):
        assert rcpt(lab, f"bob+{number}@example.test") == [250]
    until(lambda: [row.subject for row in guard.rows()] == [f"mailbox:{BOB}"], "it has acted")
    assert rcpt(lab, "bob+new@example.test") == [250]  # its throttle lets one through
    assert rcpt(lab, "bob+0@example.test", BOB, "bob+other@example.test") == [450, 450, 450]


def test_this_hosts_own_mail_is_not_deferred(lab: Lab, guard: Daemon) -> None:
    fill(lab, guard)
    assert rcpt(lab, BOB) == [450]
    assert rcpt(lab, BOB, source=DEVICE) == [250]
    assert rcpt(lab, BOB, login=True) == [250]
    until(lambda: received(guard) == 9, "it is counted all the same")


@pytest.mark.parametrize("how", ["kill", "observe"])
def test_nothing_is_refused_without_the_daemon(lab: Lab, guard: Daemon, how: str) -> None:
    fill(lab, guard)
    assert rcpt(lab, BOB) == [450]
    guard.kill() if how == "kill" else guard.stop()
    if how == "observe":
        guard.start("--mode", "observe")
    assert rcpt(lab, BOB, "alice@example.test") == [250, 250]


def test_a_decision_outlasts_a_restart(lab: Lab, guard: Daemon) -> None:
    fill(lab, guard)
    guard.stop()
    guard.start()
    assert rcpt(lab, BOB) == [250]  # the allowance is full again
    assert rcpt(lab, BOB) == [450]


def test_unknown_users_of_a_domain_above_its_limit_are_refused_for_good(
    lab: Lab, guard: Daemon
) -> None:
    guard.configure(DOMAIN)
    guard.command("reload")
    fill(lab, guard, subject="domain:example.test")
    unknown = "nobody-here@example.test"
    assert rcpt(lab, BOB, unknown, "x@elsewhere.test") == [450, 550, 454]
    name = "smtpd_reject_unlisted_recipient"
    lab.server.run("postconf", "-c", str(lab.mail.config), "-e", f"{name}=no")
    asking.reload(lab)
    assert rcpt(lab, BOB, unknown) == [450, 450]  # as the operator wants it: they are not looked up
    lab.server.run("postconf", "-c", str(lab.mail.config), "-X", name)
    asking.reload(lab)


def test_deliveries_by_a_pipe_are_counted(lab: Lab, guard: Daemon) -> None:
    carol = f"carol@{PIPED}"
    for _ in range(7):
        assert rcpt(lab, carol) == [250]
    until(lambda: received(guard, f"mailbox:{carol}") >= 6, "pipe(8) delivered it")
    until(lambda: [row.subject for row in guard.rows()] == [f"mailbox:{carol}"], "it acts")
    assert rcpt(lab, carol, f"dave@{PIPED}")[1] == 550
    until(lambda: rcpt(lab, carol) == [450], "its allowance is used up")


def test_a_domain_that_receives_too_much_may_still_send(lab: Lab, guard: Daemon) -> None:
    guard.configure(DOMAIN)
    guard.stop()
    guard.start()
    fill(lab, guard, subject="domain:example.test")
    assert rcpt(lab, BOB, "alice@example.test", "postmaster@example.test") == [450, 450, 250]

    def send() -> None:
        with session(CLIENT, USER) as client:
            client.sendmail("alice@example.test", ["alice@example.test"], LETTER)

    for _ in range(5):
        lab.client.call(send)
    assert lab.mail.queued("hold") == []


def test_postfix_asks_about_recipients_only_where_a_limit_acts(lab: Lab, guard: Daemon) -> None:
    main = lab.mail.config / "main.cf"
    assert RECIPIENTS.value in main.read_text()
    guard.configure("")
    done = guard.command("postfix", "connect", "--yes")
    assert done.returncode == 0, done.stderr
    assert RECIPIENTS.name not in main.read_text()
    settle(main)
    guard.configure(LIMITS)
    found = guard.command("check", "--no-visit").stdout
    assert "smtpd_recipient_restrictions does not ask: it does not name it" in " ".join(
        found.split()
    )


def test_a_list_that_permits_this_host_first_is_used_as_it_is(lab: Lab, guard: Daemon) -> None:
    """It cannot be tried from here; the check comes after what refuses."""
    value = "permit_mynetworks, reject_unauth_destination, permit"
    lab.server.run(
        *("postconf", "-c", str(lab.mail.config), "-e", f"smtpd_recipient_restrictions={value}")
    )
    settle(lab.mail.config / "main.cf")
    done = guard.command("postfix", "connect", "--yes")
    assert done.returncode == 0, done.stderr
    assert "smtp was not tried with a recipient: it replied 250" in done.stdout
    text = (lab.mail.config / "main.cf").read_text()
    assert f"{value.removesuffix('permit')}{RECIPIENTS.word}, permit" in text
    fill(lab, guard)
    assert rcpt(lab, BOB) == [450]
    assert rcpt(lab, "x@elsewhere.test") == [454]
    lab.server.run("postconf", "-c", str(lab.mail.config), "-X", "smtpd_recipient_restrictions")
    settle(lab.mail.config / "main.cf")
