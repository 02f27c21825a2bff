"""Writes the default file and the reference of the configuration from the schema. Pure.

What a key means, allows and defaults to comes from the schema; here is only what is said about a
section as a whole. `scripts/gen-docs` puts the texts into the tree. Owns no state.
"""

from collections.abc import Iterable, Iterator
from textwrap import wrap
from typing import Any, get_type_hints

from msgspec import Struct

from throttled.config.describe import DURATION, allowed, settings, toml
from throttled.config.schema import Config, FirewallPorts
from throttled.limits import Limit, Override, Thresholds, ThrottleRate

_WIDTH = 99

_MARKDOWN_HEAD = f"""\
# The configuration file

<!-- Written by scripts/gen-docs from throttled/config: do not edit. -->

`/etc/throttled/throttled.toml`, or what `--config` names, is a [TOML](https://toml.io) file. Every
key has a default, and the file may be absent. A key that does not exist is an error.

The files `/etc/throttled/throttled.d/*.toml` (of another `--config FILE.toml`: `FILE.d/*.toml`) are
read after it, in the order of their names; a key in a later file replaces that of an earlier one,
lists as a whole. `throttled config` shows which file and line each value comes from, `throttled
check` which keys several files set.

Times are written as {DURATION}."""

_HEAD = f"""\
The configuration of throttled. Every setting is shown with its default. To change one, take away
the # in front of it; what is a comment, or deleted, has its default. The files
throttled.d/*.toml are read after this one, in the order of their names; the last value counts.

Times are written as {DURATION}.
After a change: throttled check, then systemctl reload throttled. Throttles and bans stay."""

#: What each section is for.
SECTIONS = {
    "log": "The log of Postfix that is read.",
    "postfix": (
        "Ports, syslog names, mynetworks and the log file are learnt from Postfix's own "
        "configuration, and read again when it changes."
    ),
    "limits": (
        "A limit counts what one client does within a time window. Above `soft` the client is "
        "throttled, above `hard` it is banned; either may be left out. Keys that you leave out "
        "have their defaults: [limits.errors] may name `hard` alone. `mx` (port 25) and "
        "`submission` (587, 465) set other thresholds there; each scope is counted by itself. "
        '`enabled = false` disables a limit. `throttle = { rate = 6, per = "1h", '
        "burst = 2 }` replaces the rate of [throttle]. A limit of your own may have any other "
        "name and needs `count`, `within` and a threshold. There may be 16 different rates. "
        "`messages` and `recipients` of clients have no limit by default; delivered mail excuses "
        'nothing of them. `mode = "report"` only writes a line into the journal. Limits '
        'with another `of` than "client" count what senders do, as Postfix\'s queue shows it, and '
        "only report unless `mode` says otherwise: `messages`, `recipients`, `bytes`, `bounces`"
        " (5xx that speaks of the list or the content, not of full mailboxes, size or loops), "
        "`deferrals` (4.7.x) of an `account` that logged in, of a `uid` that called sendmail, "
        "of an `inside` host (of mynetworks) and of a `domain` that is delivered here; "
        "`networks` from which an `account` logged in; `messages` that a `mailbox` and "
        "`received` that a `domain` took in, `connections` of an `inside` host. `soft`, `share`"
        " and `usual` must all be exceeded."
    ),
    "points": (
        "The points that each kind of misbehaviour adds to the count `errors`. These add none: "
        "temporary refusals (greylisting), refusals for content, by a policy service, because of "
        "this server's own errors, or of a client that has logged in. A refusal that settings turn "
        "into 4xx (stock Debian's 454 Relay access denied, soft_bounce) adds its usual points. 0 "
        "ignores a kind."
    ),
    "throttle": ("A throttled client may open connections up to this rate; the kernel drops more."),
    "ban": (
        "All packets of a banned client to the SMTP ports of the scope in which it offended are "
        "dropped. Each further ban is longer. Mail servers retry for five days: a wrong ban that "
        "is shorter delays mail but loses none."
    ),
    "good": (
        "What good evidence excuses, for limits of its own kind only: delivered mail for "
        "connections, errors and callouts, logins for failed logins and user names tried. Within a "
        "limit's window each event raises the thresholds, up to `factor` times. Evidence of the "
        "last 30 days (deliveries on two days, or logins) turns a ban into a throttle, one point "
        "per event, up to `memory` times the threshold."
    ),
    "network": (
        "Each limit is also summed over the client's network (an IPv4 /24, an IPv6 /64), so that "
        "rotating addresses does not avoid it: above `multiple` times `soft` the network is "
        "throttled, and a /64 banned above `multiple` times `hard`. A /24 is never banned for its "
        "sum. If many of its addresses are banned, the whole network is throttled or banned. Known "
        "good senders in it are exempt. The throttle of a network has a rate of its own, for all "
        "its addresses together."
    ),
    "protect": (
        "Clients that are never throttled or banned. Loopback, this host's own addresses, its "
        "gateways, its resolvers and Postfix's relayhost are always protected."
    ),
    "accounts": (
        "What senders on this host do, counted from Postfix's log: accounts that log in, local "
        'users, inside hosts, mailboxes and domains. Limits with another `of` than "client" '
        "report it. Daily counts and reports are stored for 35 days. Networks of logins are not "
        "stored: in memory there are keyed tags of them, for the window of the limit. Names are in "
        "no metric, and in notifications only with [notify] accounts = true."
    ),
    "guessing": (
        "Passwords of one account guessed from many addresses, each with a few tries. A client "
        "that fails on an account under attack is throttled after its first try, unless it logged "
        "in within 30 days: then only the other limits apply. The account itself is never locked. "
        "Journal lines and `list` name the limit guessing."
    ),
    "overload": (
        "Bots from thousands of addresses, each of which does nothing wrong. Known good clients "
        "(mail delivered on two days or two logins within 30 days, the allowlist, mynetworks) are "
        "always admitted. All others, strangers, may have `cap` connections open at a time; "
        "further ones are dropped in the kernel, and their servers try again by themselves. While "
        "that lasts, each network is admitted once in a time that grows up to `turn`, and sessions "
        "of strangers that keep Postfix waiting longer than `idle` are ended. See "
        "docs/overload.md."
    ),
    "firewall": "The kernel's packet filter: backend, ports and sizes.",
    "sensor": (
        "Counts connections in the kernel, because a Postfix that is too busy does not log all of "
        "them. Only completed handshakes count, which a forged address cannot make."
    ),
    "store": "The database of decisions, so that they survive a restart.",
    "control": "The socket by which throttled status, list, unban and others reach the daemon.",
    "notify": (
        "Notifications of bans, alerts and changed health: to a program, to a webhook, by mail, "
        "each independent of the others. The program runs as the user of the daemon, usually root. "
        "If the URL contains a secret, this file must have mode 0600."
    ),
    "metrics": "Metrics for Prometheus, over HTTP without a password: listen on loopback only.",
    "fleet": (
        "Shares bans with other hosts over a Redis (7.0 or later) or Valkey server. Needs the unit "
        "throttled-fleet. Off while site is empty. See docs/fleet.md."
    ),
}

#: What each limit that is there from the start is against.
LIMITS = {
    "connections": "Floods of connections. Throttles only, never bans.",
    "errors": "Misbehaviour, in points (see [points]).",
    "errors-day": (
        "Slow misbehaviour: the points of a whole day beyond the messages delivered. Throttles at "
        "a rate of its own, never bans."
    ),
    "callouts": (
        "Unknown recipients of the null sender (or of Postfix's double-bounce), one per session: "
        "an honest server that verifies or returns mail with a forged sender of this domain, or a "
        "harvester that looks like one. Throttles at a rate of its own. Two in one session count "
        "as errors."
    ),
    "auth": (
        "Guessing of passwords. Each failure counts, also one that only `disconnect` reports. A "
        "login later in the session cancels failures with its own name, and three without a name."
    ),
    "auth-users": "Guessing of user names: distinct names tried.",
    "auth-slow": "Slow guessing of user names: the names of a whole day.",
    "auth-day": (
        "Slow guessing of passwords: failures of a whole day, also those without a name. A device "
        "that retries an old password looks the same. Throttles at a rate of its own, never bans."
    ),
    "account-bounces": (
        "A stolen login that sends to a bought list. A newsletter with some dead addresses stays "
        "below the share. Only reported."
    ),
    "account-volume": (
        "A login that sends far more than on any day before. Only reported, and only after a "
        "first day of counts."
    ),
    "account-networks": (
        "A login used from many networks (/24, /64) at once: a botnet, not a traveller. Only "
        "reported."
    ),
}


def default_file() -> str:
    """Return the commented default file. Without its comment signs it is `Config()`."""
    config = Config()
    lines = [*_comment(_HEAD), "", *_settings(config, _plain_keys())]
    for name, about in SECTIONS.items():
        section = getattr(config, name)
        if name == "limits":
            lines += ["", "", *_comment(about)]
            for limit, values in section.items():
                lines += ["", f"[limits.{limit}]", *_comment(LIMITS[limit])]
                lines += [f"#{key} = {value}" for key, value in _given(values)]
        else:
            lines += ["", "", *_comment(about), f"[{name}]"]
            lines += _settings(section, section.__struct_fields__)
    return "\n".join(lines) + "\n"


def reference() -> str:
    """Return the reference of every key, in Markdown."""
    config = Config()
    lines = [*_MARKDOWN_HEAD.split("\n"), "", *_table(Config, config, _plain_keys())]
    for name, about in SECTIONS.items():
        section = getattr(config, name)
        if name == "limits":
            lines += ["", "## [limits.NAME]", "", about, "", *_table(Limit)]
            lines += ["", "In `mx` and `submission`:", "", *_table(Thresholds)]
            lines += ["", "In `for`:", "", *_table(Override)]
            lines += ["", "In `throttle`, here and in [network]:", "", *_table(ThrottleRate)]
            lines += ["", "There from the start:", ""]
            for limit, values in section.items():
                given = ", ".join(f"`{key} = {value}`" for key, value in _given(values))
                lines.append(f"- **{limit}** ({given}). {LIMITS[limit]}")
        else:
            lines += ["", f"## [{name}]", "", about, "", *_table(type(section), section)]
            if name == "firewall":
                lines += ["", "In `ports`:", "", *_table(FirewallPorts, FirewallPorts())]
    return "\n".join(lines) + "\n"


def description(hint: Any) -> str:
    """Return the description that an annotated type of the schema carries."""
    return str(next(meta.description for meta in hint.__metadata__ if meta.description))


def _plain_keys() -> list[str]:
    return [name for name in Config.__struct_fields__ if name not in SECTIONS]


def _given(values: Limit) -> Iterator[tuple[str, str]]:
    """Yield what a limit sets, in TOML, without what every limit has."""
    plain = dict(settings(Limit(values.count, values.within)))
    for key, value in settings(values):
        if key in ("count", "within") or value != plain[key]:
            yield key, toml(value)


def _comment(text: str) -> list[str]:
    return [
        f"# {line}".rstrip() for part in text.split("\n") for line in wrap(part, _WIDTH - 2) or [""]
    ]


def _settings(section: Struct, names: Iterable[str]) -> list[str]:
    """Write settings with what they mean: behind them where all fit, else above each."""
    hints = get_type_hints(type(section), include_extras=True)
    meant = [
        (f"#{name} = {toml(value)}", description(hints[name]))
        for name in names
        if (value := getattr(section, name)) is not None
    ]
    column = max(len(setting) for setting, _ in meant) + 3
    if all(column + 2 + len(text) <= _WIDTH for _, text in meant):
        return [f"{setting:{column}}# {text}" for setting, text in meant]
    return [line for setting, text in meant for line in ["", *_comment(text), setting]]


def _table(
    kind: type[Struct], values: Struct | None = None, names: Iterable[str] = ()
) -> list[str]:
    """Write a Markdown table of keys, with the defaults where there are `values`."""
    hints = get_type_hints(kind, include_extras=True)
    rows = [["key", *(["default"] if values else []), "allowed", "meaning"]]
    rows.append(["---"] * len(rows[0]))
    keys = dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))
    for name in names or kind.__struct_fields__:
        value = getattr(values, name, None)
        default = [f"`{toml(value)}`" if value is not None else ""] if values else []
        rows.append(
            [
                f"`{keys[name]}`",
                *default,
                allowed(hints[name]).replace(DURATION, "a duration"),
                description(hints[name]),
            ]
        )
    return [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
