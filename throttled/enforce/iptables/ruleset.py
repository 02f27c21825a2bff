"""The chains of the raw tables, as rules. Pure.

    PREROUTING    jumps first of all, with TCP, to
    throttled     which passes on what comes to an SMTP port of this host's own addresses, not by
                  loopback, to the chain of its scope. After it other programs' rules follow.
    throttled_mx  returns protected clients, drops what is banned itself, and new connections of a
                  throttled address above its rate; returns what is exempt; then the bans and, for
                  new connections, the throttles of networks apply.
    throttled_drop  counts and drops.
    throttled_refuse  with `reject`: counts what submission would drop, marks it up to a rate, and
                  drops what is more.

The target REJECT works in the table filter alone. With `reject` INPUT and FORWARD jump there, with
what is marked, to

    throttled_reject  which answers with a TCP reset.

In the table raw, before connection tracking: open sessions end too, INPUT and FORWARD (containers)
are both covered, and ports are those on the wire, before any DNAT.

Addresses are in sets of `hash:ip`, networks in one `hash:net` for each prefix length: one lookup
each, and a throttled network can share one allowance. The allowance is a hashlimit behind a match
of its set, so only members are ever in hashlimit's table. A second match of the set counts
what is dropped, the first counts nothing. What is dropped in all is counted by a set too, of the
two halves of the address space: so it outlasts every change of the rules, and a flush of the table.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from throttled import address
from throttled.enforce import sets
from throttled.enforce.backend import Ruleset
from throttled.enforce.iptables.messages import IpsetDefinition, parts
from throttled.enforce.sets import BITS, REFUSED, SetId
from throttled.model import SCOPES, Scope

CHAIN = "throttled"
#: Names of sets end at 31 characters, names of chains at 28.
PREFIX = "thr_"
SPARE = "_n"  # the end of the name of a set that is to take the place of another
_TRIAL = re.compile(rf"{PREFIX}check(\d+)")
VERSIONS = (4, 6)
_DROP = f"{CHAIN}_drop"
_REFUSE = f"{CHAIN}_refuse"
#: The chain of the table filter.
REJECT = f"{CHAIN}_reject"
#: The chains of the kernel that lead to ours, by table.
HOOKS = {"raw": ("PREROUTING",), "filter": ("INPUT", "FORWARD")}
HOOKED = ("PREROUTING", "INPUT", "FORWARD")
#: The bit of a packet's mark that says it is to be refused: none that Kubernetes, Docker or
#: Tailscale use by default.
_MARK = "0x8000000/0x8000000"
#: Sets of a rate have shorter names: thr_sub_t6_64_6h2 is submission_throttle6_64_6h2.
_SHORT = {"mx_throttle": "mx_t", "submission_throttle": "sub_t"}
_RATED = re.compile(r"(mx|sub)_t([46].*)")
CHAINS = (CHAIN, *(f"{CHAIN}_{scope}" for scope in SCOPES), _DROP, _REFUSE)

#: Default of a set: what an operator adds manually and without a time. It also makes the kernel
#: search for expired elements every three minutes, a part of the set at a time.
_TIMEOUT = 600
_UNITS = {"sec": 1, "min": 60, "hour": 3600, "day": 86_400}
#: Milliseconds between two searches of hashlimit for expired entries.
_GC = 10_000
_DAY = 86_400


class Match(NamedTuple):
    """A match: the name of its extension, and its options; a value that begins with ! inverts."""

    name: str
    options: tuple[tuple[str, str | tuple[str, ...]], ...]


class Rule(NamedTuple):
    """A rule of a chain."""

    chain: str
    matches: tuple[Match, ...]
    target: str
    goto: bool = False
    tcp: bool = False
    #: Not by the loopback interface.
    arriving: bool = False
    #: Of the target.
    options: tuple[tuple[str, str], ...] = ()


def name(of: SetId) -> str:
    """Return the name of the ipset."""
    begin = f"{of.scope}_{of.action}"
    return PREFIX + (of.name.replace(begin, _SHORT[begin]) if of.rate else of.name)


def subjects(name: str) -> SetId | None:
    """Return what is in the ipset of a name; None for one that does not hold subjects."""
    if not name.startswith(PREFIX):
        return None
    rest = name.removeprefix(PREFIX)
    if match := _RATED.fullmatch(rest):
        scope = "mx" if match[1] == "mx" else "submission"
        found = sets.parse_name(f"{scope}_throttle{match[2]}")
        return found if found and found.rate else None
    found = sets.parse_name(rest)
    return None if found and found.rate else found


def is_set(name: str) -> bool:
    """Return whether throttled made an ipset of this name: others may have the same prefix."""
    name = name.removesuffix(SPARE)
    fixed = [of(version) for of in (protected, dropped) for version in VERSIONS]
    return name in fixed or subjects(name) is not None


def trial_name(process: int) -> str:
    """Return the name of the set, and of the chain, that a process makes to try what works."""
    return f"{PREFIX}check{process}"


def trial_of(name: str) -> int | None:
    """Return the process that made the set of a trial; None for the name of another set."""
    match = _TRIAL.fullmatch(name)
    return int(match[1]) if match else None


def protected(version: int) -> str:
    """Return the name of the set of protected networks."""
    return f"{PREFIX}protected{version}"


def dropped(version: int) -> str:
    """Return the name of the set that counts."""
    return f"{PREFIX}dropped{version}"


def definition(of: SetId, size: int) -> IpsetDefinition:
    """Return what a set of subjects is."""
    kind = "hash:ip" if of.prefix == BITS[of.version] else "hash:net"
    # All of the address space is two elements, as a hash:net takes no prefix of length 0.
    return IpsetDefinition(kind, of.version, size if of.prefix else 2, _TIMEOUT)


def networks(version: int, size: int) -> IpsetDefinition:
    """Return what a set of networks that stay is."""
    return IpsetDefinition("hash:net", version, max(size, 64), 0)


def protected_networks(subjects: Iterable[str], version: int) -> list[tuple[bytes, int]]:
    """Return the elements of the protected networks.

    Raises:
        ValueError: a subject is neither an address nor a network.
    """
    found = (address.parse(subject) for subject in subjects)
    size = BITS[version]
    pieces = (part for key, bits in found if len(key) * 8 == size for part in parts(key, bits))
    return sorted({(key, bits or size) for key, bits in pieces})


def render(ruleset: Ruleset, every: Sequence[SetId], version: int) -> list[Rule]:
    """Return the rules of one IP version, in their order: that of PREROUTING, and of all CHAINS.

    Args:
        ruleset: ports, rate, burst and size.
        every: all sets of subjects.
        version: 4 or 6.
    """
    rules = [Rule("PREROUTING", (), CHAIN, tcp=True)]
    for scope in SCOPES:
        rules += [_to_port(CHAIN, port, f"{CHAIN}_{scope}") for port in _ports(ruleset, scope)]
    for scope in SCOPES:
        own = [of for of in every if of.scope == scope and of.version == version]
        rules += _scope(ruleset, scope, own, version)
    rules.append(Rule(_DROP, (_member(dropped(version)),), "DROP"))
    if ruleset.reject:
        rate = Match("limit", (("limit", f"{REFUSED}/second"), ("limit-burst", f"{REFUSED}")))
        marking = (_member(dropped(version)), rate)
        rules += [
            Rule(_REFUSE, marking, "MARK", tcp=True, options=(("set-xmark", _MARK),)),
            Rule(_REFUSE, (_MARKED,), "ACCEPT", tcp=True),
            Rule(_REFUSE, (), "DROP"),
        ]
    return rules


def rejecting() -> list[Rule]:
    """Return the rules of the table filter."""
    reset = Rule(REJECT, (), "REJECT", tcp=True, options=(("reject-with", "tcp-reset"),))
    hooks = (Rule(hook, (_MARKED,), REJECT, tcp=True) for hook in HOOKS["filter"])
    return [*hooks, reset]


def is_ours(line: str) -> bool:
    """Return whether a line of `iptables -S` is about one of our chains, or leads to one."""
    words = line.split()
    return words[1:2] in ([chain] for chain in (*CHAINS, REJECT)) or _leads_to_us(line)


def trial(ruleset: Ruleset, chain: str, version: int) -> list[Rule]:
    """Return rules of all our kinds, where no packet comes to.

    Args:
        ruleset: rate, burst and size.
        chain: its name, and that of a set.
        version: 4 or 6.
    """
    of = SetId("mx", "throttle", version, BITS[version])
    return [
        _to_port(chain, 25, "RETURN"),
        _opened(chain),
        Rule(chain, _above(ruleset, of, chain), "DROP"),
    ]


def _ports(ruleset: Ruleset, scope: Scope) -> list[int]:
    return sorted(ruleset.ports.get(scope, ()))


def _to_port(chain: str, port: int, target: str) -> Rule:
    local = Match("addrtype", (("dst-type", "LOCAL"),))
    matches = (Match("tcp", (("dport", str(port)),)), local)
    goto = target != "RETURN"
    return Rule(chain, matches, target, goto=goto, tcp=True, arriving=True)


def _opened(chain: str) -> Rule:
    """Return what lets all but new connections go."""
    flags = Match("tcp", (("tcp-flags", ("!", "SYN,ACK", "SYN")),))
    return Rule(chain, (flags,), "RETURN", tcp=True)


_MARKED = Match("mark", (("mark", _MARK),))
_OPENS = Match("tcp", (("tcp-flags", ("SYN,ACK", "SYN")),))


def _member(name: str) -> Match:
    return Match("set", (("match-set", (name, "src")),))


def _above(ruleset: Ruleset, of: SetId, name: str) -> tuple[Match, ...]:
    """Return what matches members above their allowance."""
    member = _member(name)
    uncounted = Match("set", (*member.options, ("update-counters", "!")))
    return uncounted, limit(ruleset, of, name), member


def _leads_to_us(line: str) -> bool:
    words = line.split()
    return (
        words[:1] == ["-A"]
        and words[1] in HOOKED
        and words[-2:-1] in (["-j"], ["-g"])
        and words[-1] in (*CHAINS, REJECT)
    )


def _scope(ruleset: Ruleset, scope: Scope, own: Sequence[SetId], version: int) -> list[Rule]:
    """Return the rules of a scope's chain, in their order."""
    chain = f"{CHAIN}_{scope}"
    stop = _REFUSE if ruleset.reject and scope == "submission" else _DROP
    single = [of for of in own if of.prefix == BITS[version]]
    networks = [of for of in own if of.prefix != BITS[version]]
    slow = [_above(ruleset, of, name(of)) for of in single if of.action == "throttle"]
    around = [_above(ruleset, of, name(of)) for of in networks if of.action == "throttle"]
    return [
        Rule(chain, (_member(protected(version)),), "RETURN"),
        *(Rule(chain, (_member(name(of)),), stop) for of in single if of.action == "ban"),
        *(Rule(chain, (_OPENS, *matches), stop, tcp=True) for matches in slow),
        *(Rule(chain, (_member(name(of)),), "RETURN") for of in single if of.action == "exempt"),
        *(Rule(chain, (_member(name(of)),), stop) for of in networks if of.action == "ban"),
        _opened(chain),
        *(Rule(chain, matches, stop) for matches in around),
    ]


def limit(ruleset: Ruleset, of: SetId, table: str) -> Match:
    """Return the match of hashlimit for a set of throttled subjects.

    Its table stays as it was made for as long as it exists, so its name says how. It may have as
    many entries as the set, and as many again that left the set and have not expired; if it were
    full, it would drop only new members. An entry lasts until its allowance is whole again.
    """
    count, unit = rate(of, ruleset)
    burst = sets.rate(of, ruleset).burst
    whole = burst * _UNITS[unit] / count
    options = {
        "above": f"{count}/{unit}",
        "burst": burst,
        "mode": "srcip",
        "srcmask": of.prefix,
        "name": f"{table}_{count}{unit}{burst}_{ruleset.size}",
        "htable-size": min(65_536, max(64, ruleset.size // 8)),
        "htable-max": 2 * ruleset.size,
        "htable-expire": max(10, math.ceil(whole)) * 1000,
        "htable-gcinterval": _GC,
    }
    return Match("hashlimit", tuple((f"hashlimit-{key}", str(to)) for key, to in options.items()))


def rate(of: SetId, ruleset: Ruleset) -> tuple[int, str]:
    """Return the rate of a set of throttles as hashlimit writes it: 10 in 30 s is (20, "min").

    Rounded. hashlimit reckons with no more than a day in which an allowance becomes whole again: a
    rate so slow that it would take longer is raised to the burst a day.
    """
    wanted = sets.rate(of, ruleset)
    packets, unit = sets.in_units(wanted, _UNITS)
    return max(round(packets), math.ceil(wanted.burst * _UNITS[unit] / _DAY)), unit
