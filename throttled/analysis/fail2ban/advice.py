"""What of fail2ban's configuration becomes what here: TOML, and words for people. Pure.

A limit throttles where fail2ban bans (`soft` is `maxretry` - 1), and bans above its default `hard`
or twice that. So what is taken over never bans more than before.
"""

from collections.abc import Iterable, Iterator

from throttled import address
from throttled.analysis.fail2ban.bans import OldBan
from throttled.analysis.fail2ban.jails import PERMANENT, Jail
from throttled.config.describe import toml
from throttled.decide.listed import WIDEST
from throttled.duration import Duration
from throttled.limits import MOST, default_limits

#: The longest that a ban may last, and a limit may look back: as `config.checks`.
_LONGEST = 24 * 86400.0
#: A permanent ban is taken over for so long: a wrong one must end some time.
FOREVER = 30 * 86400.0
#: What ends later is permanent: no ban here is longer.
_YEARS = 3650 * 86400.0


def limit_of(jail: Jail) -> str:
    """Return the limit that does what a jail of Postfix does; "" for none."""
    fails = " ".join(jail.fails)
    if jail.name == "postfix-rbl":
        return ""
    if "sasl" in jail.name or ("SASL" in fails and "Relay access denied" not in fails):
        return "auth"
    return "errors"


def configuration(jails: Iterable[Jail]) -> str:
    """Return a file for throttled.d that stands for jails of Postfix."""
    jails = list(jails)
    lines = ["# From fail2ban's jails, by: throttled migrate fail2ban"]
    ignored = dict.fromkeys(each for jail in jails for each in jail.ignore)
    networks = [s for s in map(_network, ignored) if s and not address.is_loopback(s)]
    wide = [each for each in networks if _wide(each)]
    networks = [each for each in networks if each not in wide]
    if networks:
        lines += ["", "[protect]", f"networks = {toml(tuple(dict.fromkeys(networks)))}  # ignoreip"]
    lines += [f"# ignoreip {each}: left out, as nobody in it would be throttled" for each in wide]
    for name in ignored:
        if name and not address.is_subject(name):
            lines += [f"# ignoreip {name!a}: throttled allow --resolve NAME"]
    seen: set[str] = set()
    for jail in jails:
        name = limit_of(jail)
        if name and name not in seen:
            seen.add(name)
            lines += ["", *_limit(name, jail)]
    return "\n".join(lines) + "\n"


def _network(written: str) -> str:
    try:
        return address.subject(written)
    except ValueError:
        return ""


def _wide(network: str) -> bool:
    """Return whether a network is so large a part of the Internet that it is an error."""
    packed, prefix = address.parse(network)
    return prefix < WIDEST[len(packed)]


def _limit(name: str, jail: Jail) -> Iterator[str]:
    default = default_limits()[name]
    soft = max(1, min(jail.maxretry - 1, MOST // 2))
    hard = max(default.hard or 0, 2 * soft)
    length = Duration(min(_LONGEST, jail.bantime if jail.bantime > 0 else _LONGEST))
    yield f"# jail {jail.name}: maxretry {jail.maxretry}, findtime {Duration(jail.findtime)}, " + (
        "bantime permanent" if jail.bantime == PERMANENT else f"bantime {Duration(jail.bantime)}"
    )
    yield f"[limits.{name}]"
    yield f"within = {toml(Duration(min(_LONGEST, max(1.0, jail.findtime))))}"
    yield f"soft = {soft}  # throttled from the point where fail2ban banned"
    yield f"hard = {hard}"
    yield f"# ban_times = [{toml(length)}]  # bans as long as fail2ban's; default: [ban] times"


def fates(jails: Iterable[Jail]) -> Iterator[tuple[str, str]]:
    """Yield each jail, and what becomes of it."""
    for jail in jails:
        if jail.postfix:
            name = limit_of(jail)
            what = f"[limits.{name}]" if name else "[points] dnsbl"
            yield jail.name, f"replaced by {what}: disable it in fail2ban"
        elif "sasl" in jail.name or jail.name.startswith("dovecot"):
            yield (
                jail.name,
                "keep it for IMAP and POP3; failed logins over SMTP are counted in [limits.auth]",
            )
        elif jail.of_program:
            yield jail.name, "keep it: its program's lines are not read here"
        elif jail.mail:
            what = "it has a filter of its own for a log of mail, which is not known here"
            yield jail.name, f"compare it (throttled replay), then keep or disable it: {what}"
        elif jail.name == "recidive":
            yield jail.name, "keep it if other jails stay; here each further ban is longer"
        else:
            yield jail.name, "keep it: not about mail"


def bans(found: Iterable[OldBan], now: float) -> Iterator[str]:
    """Yield the lines of a list for `throttled import`."""
    for ban in found:
        permanent = ban.until is None or ban.until - now > _YEARS
        left = FOREVER if permanent or ban.until is None else ban.until - now
        end = " (permanent)" if permanent else ""
        yield f"{ban.subject} ban {Duration(max(1.0, left))} # fail2ban {ban.jail}{end}"
