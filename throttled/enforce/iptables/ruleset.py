"""The chains of the raw tables, as text for iptables-restore. Pure.

    PREROUTING    jumps first of all, with TCP, to
    throttled     which passes on what comes to an SMTP port of this host's own addresses, not by
                  loopback, to the chain of its scope. Back from there other people's rules go on.
    throttled_mx  returns who is protected, drops who is banned; new connections go on to the
                  throttles. A session that is open is not touched.
    throttled_drop  counts and drops.

In the table raw, before connection tracking: open sessions end too, INPUT and FORWARD (containers)
are both covered, and ports are those on the wire, before any DNAT.

Addresses are in sets of `hash:ip`, networks in one `hash:net` for each prefix length: one lookup
each, and a throttled network can share one allowance. The allowance is a hashlimit behind a match
of its set, so nobody but members is ever in hashlimit's table. A second match of the set counts
what is dropped, the first counts nothing. What is dropped in all is counted by a set too, of the
two halves of the address space: so it outlasts every change of the rules, and a flush of the table.
"""

import math
from collections.abc import Iterable, Sequence

from throttled import address
from throttled.enforce.iptables.messages import Definition
from throttled.enforce.nftables import sets
from throttled.enforce.nftables.sets import SetId
from throttled.model import SCOPES, Action, Ruleset

CHAIN = "throttled"
#: Names of sets end at 31 characters, names of chains at 28.
PREFIX = "thr_"
SPARE = "_n"  # the end of the name of a set that is to take the place of another
VERSIONS = (4, 6)
PREROUTING = f"-A PREROUTING -p tcp -j {CHAIN}"
_DROP = f"{CHAIN}_drop"
_CHAINS = (CHAIN, *(f"{CHAIN}_{scope}" for scope in SCOPES), _DROP)

#: Default of a set: what an operator adds by hand and without a time. It also makes the kernel
#: look for expired elements every three minutes, a part of the set at a time.
_TIMEOUT = 600
_BITS = {4: 32, 6: 128}
_UNITS = {"sec": 1, "min": 60, "hour": 3600, "day": 86_400}
#: Milliseconds between looks for entries of hashlimit that expired.
_GC = 10_000
_DAY = 86_400


def name(of: SetId) -> str:
    """Return the name of the ipset."""
    return PREFIX + of.name


def subjects(name: str) -> SetId | None:
    """Return what is in the ipset of a name; None for one that does not hold subjects."""
    return sets.parse_name(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None


def protected(version: int) -> str:
    """Return the name of the set of protected networks."""
    return f"{PREFIX}protected{version}"


def dropped(version: int) -> str:
    """Return the name of the set that counts."""
    return f"{PREFIX}dropped{version}"


def definition(of: SetId, size: int) -> Definition:
    """Return what a set of subjects is."""
    kind = "hash:ip" if of.prefix == _BITS[of.version] else "hash:net"
    # All of the address space is two elements, as a hash:net takes no prefix of length 0.
    return Definition(kind, of.version, size if of.prefix else 2, _TIMEOUT)


def networks(version: int, size: int) -> Definition:
    """Return what a set of networks that stay is."""
    return Definition("hash:net", version, max(size, 64), 0)


def parts(key: bytes, prefix: int) -> tuple[tuple[bytes, int], ...]:
    """Return the elements that a subject is, each a key and its prefix; 0 for an address."""
    if prefix == 0:
        return (key, 1), (b"\x80" + key[1:], 1)
    return ((key, 0 if prefix == len(key) * 8 else prefix),)


def protected_networks(subjects: Iterable[str], version: int) -> list[tuple[bytes, int]]:
    """Return the elements of the protected networks.

    Raises:
        ValueError: a subject is neither an address nor a network.
    """
    found = (address.parse(subject) for subject in subjects)
    size = _BITS[version]
    pieces = (part for key, bits in found if len(key) * 8 == size for part in parts(key, bits))
    return sorted({(key, bits or size) for key, bits in pieces})


def render(ruleset: Ruleset, every: Sequence[SetId], version: int, jumps: Sequence[str]) -> str:
    """Return the lines that put the rules of one IP version in place, for iptables-restore -n.

    Args:
        ruleset: ports, rate, burst and size.
        every: all sets of subjects.
        version: 4 or 6.
        jumps: the rules of PREROUTING, as `iptables -S` lists them.
    """
    lines = ["*raw", *(f":{chain} - [0:0]" for chain in _CHAINS), *_to_front(jumps)]
    for scope in SCOPES:
        lines += [
            f"-A {CHAIN} ! -i lo -p tcp --dport {port} -m addrtype --dst-type LOCAL"
            f" -g {CHAIN}_{scope}"
            for port in sorted(ruleset.ports.get(scope, ()))
        ]
    for scope in SCOPES:
        own = [of for of in every if of.scope == scope and of.version == version]
        lines += [f"-A {CHAIN}_{scope} {rule}" for rule in _scope(ruleset, own, version)]
    lines += [f"-A {_DROP} -m set --match-set {dropped(version)} src -j DROP", "COMMIT"]
    return "\n".join(lines) + "\n"


def remove(listed: Sequence[str]) -> str:
    """Return the lines that take the rules away; empty where there are none.

    Args:
        listed: all rules of the table, as `iptables -S` lists them.
    """
    ours = [chain for chain in _CHAINS if f"-N {chain}" in listed]
    lines = [f"-D{line[2:]}" for line in listed if _leads_to_us(line)]
    lines += [f"{verb} {chain}" for verb in ("-F", "-X") for chain in ours]
    return "\n".join(("*raw", *lines, "COMMIT")) + "\n" if lines else ""


def is_ours(line: str) -> bool:
    """Tell whether a line of `iptables -S` is about one of our chains, or leads to one."""
    words = line.split()
    return words[1:2] in ([chain] for chain in _CHAINS) or _leads_to_us(line)


def trial(ruleset: Ruleset, chain: str, version: int) -> str:
    """Return lines that put rules of all our kinds where no packet comes to.

    Args:
        ruleset: rate, burst and size.
        chain: its name, and that of a set.
        version: 4 or 6.
    """
    of = SetId("mx", "throttle", version, _BITS[version])
    match = f"-m set --match-set {chain} src"
    rules = (
        "! -i lo -p tcp --dport 25 -m addrtype --dst-type LOCAL -j RETURN",
        "-p tcp -m tcp ! --tcp-flags SYN,ACK SYN -j RETURN",
        f"{match} ! --update-counters {limit(ruleset, of, chain)} {match} -j DROP",
    )
    lines = ("*raw", f":{chain} - [0:0]", *(f"-A {chain} {rule}" for rule in rules), "COMMIT")
    return "\n".join(lines) + "\n"


def trial_end(chain: str) -> str:
    """Return lines that take a trial back."""
    return f"*raw\n-F {chain}\n-X {chain}\nCOMMIT\n"


def _to_front(jumps: Sequence[str]) -> list[str]:
    """Return what makes our jump the first one, and the only one."""
    rules = [line for line in jumps if line.startswith("-A ")]
    if rules[:1] == [PREROUTING] and sum(map(_leads_to_us, rules)) == 1:
        return []
    first = PREROUTING.replace("-A PREROUTING", "-I PREROUTING 1")
    return [*(f"-D{line[2:]}" for line in rules if _leads_to_us(line)), first]


def _leads_to_us(line: str) -> bool:
    words = line.split()
    return (
        words[:2] == ["-A", "PREROUTING"]
        and words[-2:-1] in (["-j"], ["-g"])
        and (words[-1] in _CHAINS)
    )


def _scope(ruleset: Ruleset, own: Iterable[SetId], version: int) -> list[str]:
    """Return the rules of a scope's chain, in their order."""
    by: dict[Action, list[str]] = {"ban": [], "throttle": []}
    for of in own:
        match = f"-m set --match-set {name(of)} src"
        if of.action == "ban":
            by["ban"].append(f"{match} -j {_DROP}")
        else:
            by["throttle"].append(
                f"{match} ! --update-counters {limit(ruleset, of, name(of))} {match} -j {_DROP}"
            )
    return [
        f"-m set --match-set {protected(version)} src -j RETURN",
        *by["ban"],
        "-p tcp -m tcp ! --tcp-flags SYN,ACK SYN -j RETURN",
        *by["throttle"],
    ]


def limit(ruleset: Ruleset, of: SetId, table: str) -> str:
    """Return the match of hashlimit for a set of throttled subjects.

    Its table stays as it was made for as long as it exists, so its name says how. It may have as
    many entries as the set, and as many again that left the set and have not expired; if it were
    full, it would drop new members, nobody else. An entry lasts until its allowance is whole again.
    """
    count, unit = rate(ruleset)
    whole = ruleset.burst * _UNITS[unit] / count
    return (
        f"-m hashlimit --hashlimit-above {count}/{unit} --hashlimit-burst {ruleset.burst}"
        f" --hashlimit-mode srcip --hashlimit-srcmask {of.prefix}"
        f" --hashlimit-name {table}_{count}{unit}{ruleset.burst}_{ruleset.size}"
        f" --hashlimit-htable-size {min(65_536, max(64, ruleset.size // 8))}"
        f" --hashlimit-htable-max {2 * ruleset.size}"
        f" --hashlimit-htable-expire {max(10, math.ceil(whole)) * 1000}"
        f" --hashlimit-htable-gcinterval {_GC}"
    )


def rate(ruleset: Ruleset) -> tuple[int, str]:
    """Return the throttle's rate as hashlimit writes it: 10 in 30 seconds is (20, "min").

    In the smallest unit that gives a whole number; rounded where none does. hashlimit reckons with
    no more than a day in which an allowance becomes whole again: a rate so slow that it would take
    longer is raised to the burst a day.
    """
    each = {unit: ruleset.rate * seconds / ruleset.per for unit, seconds in _UNITS.items()}
    whole = (unit for unit, packets in each.items() if packets >= 1 and packets == int(packets))
    unit = next(whole, "day")
    return max(round(each[unit]), math.ceil(ruleset.burst * _UNITS[unit] / _DAY)), unit
