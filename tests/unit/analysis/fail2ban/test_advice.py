"""What of fail2ban's configuration becomes what here."""

from throttled.analysis.fail2ban import advice
from throttled.analysis.fail2ban.bans import OldBan
from throttled.analysis.fail2ban.jails import PERMANENT, Jail
from throttled.config.load import loads
from throttled.duration import duration

SASL = Jail("postfix-sasl", 3, 86400.0, 604800.0, ["::1", "198.51.100.0/24", "a.example.com", ""])
PLAIN = Jail("mine", 200, 30 * 86400.0, PERMANENT, prefix="postfix")


def test_the_configuration_is_valid_and_bans_no_more_than_before() -> None:
    text = advice.configuration([SASL, PLAIN, Jail("postfix"), Jail("postfix-rbl")])
    config = loads(text, "t.toml")
    assert config.protect.networks == ("198.51.100.0/24",)
    auth, errors = config.limits["auth"], config.limits["errors"]
    assert (auth.within, auth.soft, auth.hard) == (duration("1d"), 2, 100)
    assert (errors.within, errors.soft, errors.hard) == (duration("24d"), 199, 398)
    assert "# ignoreip 'a.example.com': throttled allow --resolve NAME" in text
    assert "# jail mine: maxretry 200, findtime 30d, bantime permanent" in text
    uncommented = text.replace("# ban_times", "ban_times").replace("  # bans as", " # bans as")
    assert loads(uncommented, "t").limits["auth"].ban_times == (duration("7d"),)
    assert loads(advice.configuration([]), "t") == loads("", "t")


def test_what_would_protect_everybody_is_left_out() -> None:
    text = advice.configuration([Jail("postfix", ignore=["0.0.0.0/0", "::/0", "10.0.0.0/8"])])
    assert loads(text, "t").protect.networks == ("10.0.0.0/8",)
    for each in ("0.0.0.0/0", "::/0"):
        assert f"# ignoreip {each}: left out, as nobody in it would be throttled\n" in text


def test_the_least_and_the_most() -> None:
    text = advice.configuration([Jail("postfix", 1, 0.0), Jail("postfix-sasl", 10**9)])
    limits = loads(text, "t").limits
    assert (limits["errors"].soft, limits["errors"].within) == (1, 1.0)
    assert (limits["auth"].soft, limits["auth"].hard) == (500_000, 1_000_000)


def test_which_limit_a_jail_is() -> None:
    both = ["SASL LOGIN", "Relay access denied"]
    assert advice.limit_of(Jail("postfix", fails=both)) == "errors"
    assert advice.limit_of(Jail("mine", fails=both[:1])) == "auth"
    assert advice.limit_of(Jail("postfix-rbl")) == ""


def test_what_becomes_of_each_jail() -> None:
    names = ["postfix", "postfix-rbl", "dovecot", "exim", "recidive", "sshd"]
    fates = dict(advice.fates(map(Jail, names)))
    assert fates["postfix"] == "replaced by [limits.errors]: disable it in fail2ban"
    assert fates["postfix-rbl"] == "replaced by [points] dnsbl: disable it in fail2ban"
    assert fates["dovecot"].startswith("keep it for IMAP and POP3")
    assert fates["exim"] == "keep it: its program's lines are not read here"
    assert fates["recidive"].startswith("keep it if other jails stay")
    assert fates["sshd"] == "keep it: not about mail"
    own = Jail("my-rbl", logs=" /var/log/mail.log")
    [(_, fate)] = advice.fates([own])
    assert fate.startswith("compare it (throttled replay)")


def test_bans_as_a_list() -> None:
    found = [OldBan("198.51.100.7", "postfix", 0.0, 700.0), OldBan("2001:db8::7", "x", 0.0, None)]
    assert list(advice.bans(found, 100.0)) == [
        "198.51.100.7 ban 10m # fail2ban postfix",
        "2001:db8::7 ban 30d # fail2ban x (permanent)",
    ]
    long = [OldBan("198.51.100.7", "x", 0.0, end) for end in (4e8, 1e300, float("inf"))]
    assert {*advice.bans(long, 100.0)} == {"198.51.100.7 ban 30d # fail2ban x (permanent)"}
