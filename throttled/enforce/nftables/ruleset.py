"""The table `inet throttled` as text for libnftables. Pure.

    prerouting    accepts what is not judged: not to an SMTP port of this host, loopback, not
                  addressed to this host, protected. The rest goes to the chain of its scope.
    mx            drops what is banned itself; the rest continues to one of
    mx_open       for what opens no connection: leaves what is exempt alone, drops what a network's
                  ban covers
    mx_new        where the connections of a throttled address are limited: its limit is in its
                  element. What is exempt is left alone, to others the bans and the throttles of
                  networks apply; a network is one element, so it shares one allowance.
    refuse        with `reject` answers what submission would drop with a TCP reset, up to a rate,
                  and drops what is more, or has no whole TCP header; else empty.

At priority raw, before connection tracking: open sessions end too, INPUT and FORWARD (containers)
are both covered, and ports are those on the wire, before any DNAT. What is dropped is counted in
its element and, for as long as the table exists, in the counter `dropped`.

Linux accepts a first IPv6 fragment whose extension headers continue in the next fragment: whether
TCP follows, and to which port, is not in it. The chains of all scopes judge it, as a new
connection.
"""

from collections.abc import Iterable, Mapping, Sequence

from throttled.enforce.backend import Ruleset
from throttled.enforce.nftables.messages import SetDefinition
from throttled.enforce.sets import BITS, REFUSED, SetId, in_units, outermost, rate
from throttled.model import SCOPES, Action, Scope

TABLE = "throttled"
COUNTER = "dropped"

#: What has expired is never matched; this is when the kernel gives its memory back. It walks the
#: whole set for that, 60 ms for a million elements, in which that processor does nothing else; the
#: kernel's default is every second.
_GC = "1m"

_TIMEOUT = 0x10  # NFT_SET_TIMEOUT
#: What nftables calls the time in which a rate is counted, and its seconds.
_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}

_TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}
_SOURCES = {4: "ip saddr", 6: "ip6 saddr"}
_COUNT = f"counter name {COUNTER}"
_DROP = f"{_COUNT} drop"
_REFUSE = "refuse"
_RATE = f"limit rate {REFUSED}/second burst {REFUSED} packets"

#: What a set takes along when it is recreated: (subject, milliseconds left).
Contents = Iterable[tuple[str, int]]


def render(  # noqa: PLR0913 - the rules, and what becomes of which sets
    ruleset: Ruleset,
    sets: Sequence[SetId],
    make: Sequence[SetId],
    remake: Mapping[SetId, Contents],
    table: str = TABLE,
    *,
    drop: Iterable[SetId] = (),
) -> str:
    """Return the commands that put the rules in place, whatever was there before.

    Args:
        ruleset: ports, protected networks, rate and size.
        sets: all that rules are written for.
        make: those of them that are not there yet.
        remake: those that are there with another definition, and what is to be in them.
        table: another name for a trial.
        drop: sets that no rule needs any more.
    """
    at = f"inet {table}"
    lines = [
        f'add table {at} {{ comment "SMTP clients, by throttled(8)"; }}',
        f'add counter {at} {COUNTER} {{ comment "packets dropped by all rules"; }}',
        f"add chain {at} prerouting {{ type filter hook prerouting priority raw; policy accept; }}",
    ]
    rules = _rules(ruleset, sets)
    lines += [f"{verb} chain {at} {chain}" for chain in rules for verb in ("add", "flush")]
    for version, networks in outermost(ruleset.protected).items():
        name = f"protected{version}"
        kind = f'type {_TYPES[version]}; flags interval; comment "never dropped"'
        lines += [f"add set {at} {name} {{ {kind}; }}", f"flush set {at} {name}"]
        if networks:
            lines.append(f"add element {at} {name} {{ {', '.join(networks)} }}")
    lines += [f"delete set {at} {of.name}" for of in (*remake, *drop)]
    lines += [_set(at, of, ruleset) for of in (*make, *remake)]
    for of, elements in remake.items():
        # A network in a hash set is its first address.
        if listed := ", ".join(f"{it.partition('/')[0]} timeout {left}ms" for it, left in elements):
            lines.append(f"add element {at} {of.name} {{ {listed} }}")
    lines += [f"add rule {at} {chain} {rule}" for chain in rules for rule in rules[chain]]
    return "\n".join(lines) + "\n"


def remove(table: str = TABLE) -> str:
    """Return the commands that take the table away, whether it is there or not."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def definition(of: SetId, ruleset: Ruleset) -> SetDefinition:
    """Return what a set has to be under a ruleset."""
    shape = BITS[of.version] // 8, _TIMEOUT
    if of.action != "throttle":
        return SetDefinition(ruleset.size, None, *shape)
    packets, unit, burst = limit(of, ruleset)
    return SetDefinition(ruleset.size, (packets, _UNITS[unit], burst), *shape)


def limit(of: SetId, ruleset: Ruleset) -> tuple[int, str, int]:
    """Return a rate as nftables writes it, rounded, and its burst."""
    wanted = rate(of, ruleset)
    packets, unit = in_units(wanted, _UNITS)
    return max(1, round(packets)), unit, wanted.burst


def _set(at: str, of: SetId, ruleset: Ruleset) -> str:
    what = f"/{of.prefix} networks" if of.mask else "addresses"
    above = ""
    if of.action == "throttle":
        packets, unit, burst = limit(of, ruleset)
        above = f" limit rate over {packets}/{unit} burst {burst} packets;"
    return (
        f"add set {at} {of.name} {{ type {_TYPES[of.version]}; size {ruleset.size};"
        f' flags timeout;{above} counter; gc-interval {_GC}; comment "{what}"; }}'
    )


def _rules(ruleset: Ruleset, sets: Sequence[SetId]) -> dict[str, list[str]]:
    """Return the rules of each chain, in their order."""
    ports = {port for scope in SCOPES for port in ruleset.ports.get(scope, ())}
    first = ["meta l4proto != tcp accept"]
    if ports:
        first.append(f"tcp dport != {_ports(ports)} accept")
    first += [
        'iif "lo" accept',
        "fib daddr type != local accept",
        *(f"{_SOURCES[version]} @protected{version} accept" for version in (4, 6)),
    ]
    chains = {"prerouting": first}
    for scope in SCOPES:
        if own := ruleset.ports.get(scope):
            first.append(f"tcp dport {_ports(own)} goto {scope}")
        stop = f"goto {_REFUSE}" if ruleset.reject and scope == "submission" else _DROP
        around = [
            *_lookups(sets, scope, "exempt", "return"),
            *_lookups(sets, scope, "ban", stop, networks=True),
        ]
        chains[scope] = [
            *_lookups(sets, scope, "ban", stop),
            # A fragment that ends before the flags matches nothing: it continues to the throttles.
            f"tcp flags & (syn | ack) != syn goto {scope}_open",
            f"goto {scope}_new",
        ]
        chains[f"{scope}_open"] = around
        chains[f"{scope}_new"] = [
            *_lookups(sets, scope, "throttle", stop),
            *around,
            *_lookups(sets, scope, "throttle", stop, networks=True),
        ]
    answer = f"meta l4proto tcp {_RATE} reject with tcp reset"
    chains[_REFUSE] = [_COUNT, answer, "drop"] if ruleset.reject else []
    guarded = [scope for scope in SCOPES if ruleset.ports.get(scope)]
    first += [f"frag frag-off 0 jump {scope}" for scope in guarded]
    return chains


def _lookups(
    sets: Sequence[SetId],
    scope: Scope,
    action: Action,
    verdict: str,
    *,
    networks: bool = False,
) -> list[str]:
    """Return the rules for the sets of addresses, or of networks, of a scope and an action."""
    return [
        f"{_SOURCES[of.version]}{f' & {of.mask}' if of.mask else ''} @{of.name} {verdict}"
        for of in sets
        if (of.scope, of.action, bool(of.mask)) == (scope, action, networks)
    ]


def _ports(ports: Iterable[int]) -> str:
    return f"{{ {', '.join(map(str, sorted(ports)))} }}"
