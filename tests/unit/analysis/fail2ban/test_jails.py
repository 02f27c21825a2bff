"""fail2ban's jails, as fail2ban prints them and from its files."""

import pytest

from throttled.analysis.fail2ban import jails
from throttled.analysis.fail2ban.jails import PERMANENT, Jail

DUMP = r"""2026-11-29 15:41:03,690 fail2ban.jailreader [28588]: WARNING Have not found any log file
['set', 'syslogsocket', 'auto']
['set', 'dbfile', '/tmp/f.sqlite3']
['set', 'dbpurgeage', '1d']
['add', 'postfix', 'auto']
['set', 'postfix', 'prefregex', '^postfix/\\w+ <F-CONTENT>.+</F-CONTENT>$']
['multi-set', 'postfix', 'addfailregex', ['^a <HOST>', '^b <HOST>']]
['set', 'postfix', 'addignoreregex', 'ours']
['set', 'postfix', 'maxretry', 3]
['set', 'postfix', 'findtime', '1d 12h']
['set', 'postfix', 'bantime', '-1']
['set', 'postfix', 'addignoreip', '127.0.0.1/8', 'host.example.com']
['set', 'other', 'maxretry', 9]
['add', 'mine', 'polling']
['set', 'mine', 'addlogpath', '/var/log/mail.log', 'head']
['add', 'sshd', 'systemd']
['set', 'sshd', 'addjournalmatch', '_SYSTEMD_UNIT=sshd.service', '+', '_COMM=sshd']
['start', 'postfix']
['set']
[1
"""


def test_what_the_client_prints() -> None:
    found = jails.dumped(DUMP)
    assert found.database == "/tmp/f.sqlite3"
    assert found.filters
    assert found.jails == {
        "postfix": Jail(
            "postfix",
            3,
            129600.0,
            PERMANENT,
            ["127.0.0.1/8", "host.example.com"],
            r"^postfix/\w+ <F-CONTENT>.+</F-CONTENT>$",
            ["^a <HOST>", "^b <HOST>"],
            ["ours"],
        ),
        "mine": Jail("mine", logs=" /var/log/mail.log"),
        "sshd": Jail("sshd", logs=" _SYSTEMD_UNIT=sshd.service"),
    }
    assert [jail.mail for jail in found.jails.values()] == [True, True, False]
    assert [jail.of_program for jail in found.jails.values()] == [True, False, False]


def test_files_without_fail2ban() -> None:
    conf = """
[INCLUDES]
before = x
[DEFAULT]
bantime = 10m
findtime=5m
ignoreip = ::1
enabled = false
filter = %(__name__)s[mode=%(mode)s]
mode = normal
[postfix]
mode = more
[sshd]
[dovecot]
enabled = %(known/enabled)s
"""
    local = """
[DEFAULT]
bantime = 1h
ignoreip = %(ours)s 192.0.2.7
ours = 198.51.100.0/24,
[postfix]
enabled = true
maxretry = 4
"""
    found = jails.configured([conf, local])
    (jail,) = found.jails.values()
    assert (jail.name, jail.maxretry, jail.findtime, jail.bantime) == ("postfix", 4, 300.0, 3600.0)
    assert jail.ignore == ["198.51.100.0/24", "192.0.2.7"]
    assert jail.filter == "postfix[mode=more]"
    with pytest.raises(ValueError, match="no section headers"):
        jails.configured(["nonsense"])


def test_comments_behind_values_are_none_of_them() -> None:
    text = """
[DEFAULT]
ignoreip = 203.0.113.0/24 ; office
[postfix]
enabled = true ; since May
maxretry = 3 ; was 5
bantime = 1h	; an hour
"""
    (jail,) = jails.configured([text]).jails.values()
    assert (jail.maxretry, jail.bantime, jail.ignore) == (3, 3600.0, ["203.0.113.0/24"])


@pytest.mark.parametrize("value", ["maxretry = five", "bantime = soon"])
def test_an_error_names_the_jail(value: str) -> None:
    with pytest.raises(ValueError, match=r"^jail mine: "):
        jails.configured([f"[mine]\nenabled = yes\n{value}\n"])


def test_a_value_that_names_itself_ends() -> None:
    found = jails.configured(["[postfix]\nenabled = yes\nfilter = %(filter)s"])
    assert found.jails["postfix"].filter == "%(filter)s"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (600, 600.0),
        ("10m", 600.0),
        ("1d 12h", 129600.0),
        ("1w", 604800.0),
        ("1.5 hours", 5400.0),
        ("1mo", 2629800.0),
        (-1, PERMANENT),
        ("-1", PERMANENT),
    ],
)
def test_durations(text: str | int, seconds: float) -> None:
    assert jails.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10 parsecs", "10m!"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration of fail2ban"):
        jails.seconds(text)


@pytest.mark.parametrize(
    ("jail", "postfix", "mail"),
    [
        (Jail("postfix-sasl"), True, True),
        (Jail("mine", prefix=r"postfix(-\w+)?/"), True, True),
        (Jail("mine", filter="postfix[mode=more]"), True, True),
        (Jail("dovecot", prefix="dovecot"), False, True),
        (Jail("exim"), False, True),
        (Jail("sshd", prefix="sshd"), False, False),
        (Jail("recidive"), False, False),
    ],
)
def test_which_jails_are_about_mail(jail: Jail, *, postfix: bool, mail: bool) -> None:
    assert (jail.postfix, jail.mail) == (postfix, mail)


def test_other_settings_of_a_dump_are_skipped() -> None:
    found = jails.dumped("['add', 'x', 'auto']\n['set', 'x', 'usedns', 'warn']")
    assert found.jails == {"x": Jail("x")}
