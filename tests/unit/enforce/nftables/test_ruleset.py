import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from throttled.enforce.backend import Ruleset
from throttled.enforce.nftables import ruleset
from throttled.enforce.nftables.messages import SetDefinition
from throttled.enforce.sets import BASE, SetId
from throttled.model import Scope

RULESET = Ruleset({"mx": (25,)}, (), rate=10, per=60.0, burst=7, size=1000)
BANNED = SetId("mx", "ban", 4, 32)
WIDE = SetId("mx", "ban", 4, 20)
THROTTLED = SetId("mx", "throttle", 6, 64)
OWN_RATE = SetId("mx", "throttle", 4, 32, "1h2")
EXEMPT = SetId("mx", "exempt", 4, 32)


def rules(
    ports: dict[Scope, tuple[int, ...]] | None = None, protected: tuple[str, ...] = ()
) -> Ruleset:
    both: dict[Scope, tuple[int, ...]] = {"mx": (25,), "submission": (587, 465)}
    return Ruleset(both if ports is None else ports, protected, 10, 60.0, 5, 1000)


def test_the_whole_text() -> None:
    made = [BANNED, WIDE, THROTTLED, OWN_RATE, EXEMPT]
    text = ruleset.render(rules(protected=("127.0.0.0/8", "::1")), made, made, {}, table="t")
    assert (
        text
        == """\
add table inet t { comment "SMTP clients, by throttled(8)"; }
add counter inet t dropped { comment "packets dropped by all rules"; }
add chain inet t prerouting { type filter hook prerouting priority raw; policy accept; }
add chain inet t prerouting
flush chain inet t prerouting
add chain inet t mx
flush chain inet t mx
add chain inet t mx_open
flush chain inet t mx_open
add chain inet t mx_new
flush chain inet t mx_new
add chain inet t submission
flush chain inet t submission
add chain inet t submission_open
flush chain inet t submission_open
add chain inet t submission_new
flush chain inet t submission_new
add chain inet t refuse
flush chain inet t refuse
add set inet t protected4 { type ipv4_addr; flags interval; comment "never dropped"; }
flush set inet t protected4
add element inet t protected4 { 127.0.0.0/8 }
add set inet t protected6 { type ipv6_addr; flags interval; comment "never dropped"; }
flush set inet t protected6
add element inet t protected6 { ::1/128 }
add set inet t mx_ban4 { type ipv4_addr; size 1000; flags timeout; \
counter; gc-interval 1m; comment "addresses"; }
add set inet t mx_ban4_20 { type ipv4_addr; size 1000; flags timeout; \
counter; gc-interval 1m; comment "/20 networks"; }
add set inet t mx_throttle6_64 { type ipv6_addr; size 1000; flags timeout; \
limit rate over 10/minute burst 5 packets; counter; gc-interval 1m; comment "/64 networks"; }
add set inet t mx_throttle4_1h2 { type ipv4_addr; size 1000; flags timeout; \
limit rate over 1/hour burst 2 packets; counter; gc-interval 1m; comment "addresses"; }
add set inet t mx_exempt4 { type ipv4_addr; size 1000; flags timeout; \
counter; gc-interval 1m; comment "addresses"; }
add rule inet t prerouting meta l4proto != tcp accept
add rule inet t prerouting tcp dport != { 25, 465, 587 } accept
add rule inet t prerouting iif "lo" accept
add rule inet t prerouting fib daddr type != local accept
add rule inet t prerouting ip saddr @protected4 accept
add rule inet t prerouting ip6 saddr @protected6 accept
add rule inet t prerouting tcp dport { 25 } goto mx
add rule inet t prerouting tcp dport { 465, 587 } goto submission
add rule inet t prerouting frag frag-off 0 jump mx
add rule inet t prerouting frag frag-off 0 jump submission
add rule inet t mx ip saddr @mx_ban4 counter name dropped drop
add rule inet t mx tcp flags & (syn | ack) != syn goto mx_open
add rule inet t mx goto mx_new
add rule inet t mx_open ip saddr @mx_exempt4 return
add rule inet t mx_open ip saddr & 255.255.240.0 @mx_ban4_20 counter name dropped drop
add rule inet t mx_new ip saddr @mx_throttle4_1h2 counter name dropped drop
add rule inet t mx_new ip saddr @mx_exempt4 return
add rule inet t mx_new ip saddr & 255.255.240.0 @mx_ban4_20 counter name dropped drop
add rule inet t mx_new ip6 saddr & ffff:ffff:ffff:ffff:: @mx_throttle6_64 counter name dropped drop
add rule inet t submission tcp flags & (syn | ack) != syn goto submission_open
add rule inet t submission goto submission_new
"""
    )


def test_submission_refuses_if_asked_to() -> None:
    refusing = replace(rules(), reject=True)
    lines = ruleset.render(refusing, [WIDE, WIDE._replace(scope="submission")], [], {}).splitlines()
    rules_ = [line.removeprefix("add rule inet throttled ") for line in lines if " rule " in line]
    found = [rule for rule in rules_ if "_ban4" in rule or rule.startswith("refuse")]
    network = "ip saddr & 255.255.240.0 @{}_ban4_20 {}"
    assert found == [
        f"mx_open {network.format('mx', 'counter name dropped drop')}",
        f"mx_new {network.format('mx', 'counter name dropped drop')}",
        f"submission_open {network.format('submission', 'goto refuse')}",
        f"submission_new {network.format('submission', 'goto refuse')}",
        "refuse counter name dropped",
        "refuse meta l4proto tcp limit rate 1000/second burst 1000 packets reject with tcp reset",
        "refuse drop",
    ]


def test_sets_that_are_there_are_left_alone() -> None:
    text = ruleset.render(rules(), BASE, [], {})
    assert "add set inet throttled mx_" not in text
    assert "add set inet throttled submission_" not in text
    assert "delete" not in text
    # Bans of networks are looked for in open sessions and in new ones.
    assert text.count("counter name dropped drop") == len(
        [of for of in BASE if of.action != "exempt"]
        + [of for of in BASE if of.action == "ban" and of.mask]
    )


def test_a_set_that_no_rule_needs_goes_after_its_rule() -> None:
    lines = ruleset.render(rules(), BASE, [], {}, drop=[OWN_RATE]).splitlines()
    gone = lines.index("delete set inet throttled mx_throttle4_1h2")
    assert lines.index("flush chain inet throttled mx_new") < gone
    assert not any("@mx_throttle4_1h2" in line for line in lines)


def test_a_set_with_another_definition_keeps_its_elements() -> None:
    elements = [("198.18.0.1", 1500), ("198.18.0.2", 60000)]
    lines = ruleset.render(
        rules(), BASE, [], {BANNED: elements, THROTTLED: [], WIDE: [("198.18.16.0/20", 9)]}
    ).splitlines()
    gone = lines.index("delete set inet throttled mx_ban4")
    made = next(
        n for n, line in enumerate(lines) if line.startswith("add set inet throttled mx_ban4 ")
    )
    filled = lines.index(
        "add element inet throttled mx_ban4"
        " { 198.18.0.1 timeout 1500ms, 198.18.0.2 timeout 60000ms }"
    )
    used = lines.index("add rule inet throttled mx ip saddr @mx_ban4 counter name dropped drop")
    flushed = lines.index("flush chain inet throttled mx")
    assert flushed < gone < made < filled < used
    assert "add element inet throttled mx_ban4_20 { 198.18.16.0 timeout 9ms }" in lines
    assert not any("element inet throttled mx_throttle6_64" in line for line in lines)


@pytest.mark.parametrize("ports", [{}, {"mx": (), "submission": ()}])
def test_without_ports_nothing_is_filtered(ports: dict[Scope, tuple[int, ...]]) -> None:
    text = ruleset.render(rules(ports), BASE, BASE, {})
    assert "dport" not in text


def test_a_scope_without_ports_is_not_reached() -> None:
    text = ruleset.render(rules({"mx": (2525, 25)}), BASE, BASE, {})
    assert "prerouting tcp dport != { 25, 2525 } accept" in text
    assert "goto mx\n" in text
    assert "goto submission\n" not in text


def test_protected_networks_do_not_overlap() -> None:
    protected = (
        "198.51.100.7",
        "198.51.100.0/24",
        "10.0.0.0/8",
        "10.1.0.0/16",
        "198.51.101.0/24",
        "2001:db8:1::1",
        "2001:db8::/32",
        "a00::/8",
        "198.51.100.0/24",
    )
    text = ruleset.render(rules(protected=protected), BASE, [], {})
    assert "protected4 { 10.0.0.0/8, 198.51.100.0/24, 198.51.101.0/24 }" in text
    assert "protected6 { a00::/8, 2001:db8::/32 }" in text


def test_without_protected_networks_the_sets_are_empty() -> None:
    assert "add element" not in ruleset.render(rules(), BASE, [], {})


def test_a_protected_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        ruleset.render(rules(protected=("mail.example.com",)), BASE, [], {})


def test_remove() -> None:
    assert ruleset.remove() == "add table inet throttled\ndelete table inet throttled\n"


def test_every_set_has_a_rule_and_every_rule_a_set() -> None:
    every = [*BASE, WIDE]
    text = ruleset.render(rules(), every, every, {})
    for of in every:
        assert f"add set inet throttled {of.name} " in text
        assert f" @{of.name} {'return' if of.action == 'exempt' else 'counter'}" in text


def test_definitions() -> None:
    assert ruleset.definition(SetId("mx", "ban", 4, 32), RULESET) == SetDefinition(
        1000, None, 4, 16
    )
    throttle = ruleset.definition(SetId("mx", "throttle", 4, 24), RULESET)
    assert throttle == SetDefinition(1000, (10, 60, 7), 4, 16)
    own = ruleset.definition(SetId("mx", "throttle", 4, 24, "1h2"), RULESET)
    assert own == SetDefinition(1000, (1, 3600, 2), 4, 16)
    exempt = ruleset.definition(SetId("mx", "exempt", 6, 128), RULESET)
    assert exempt == SetDefinition(1000, None, 16, 16)


@pytest.mark.parametrize(
    ("rate", "per", "written"),
    [
        (10, 60.0, (10, "minute")),
        (10, 30.0, (20, "minute")),
        (5, 1.0, (5, "second")),
        (1, 3600.0, (1, "hour")),
        (1, 90.0, (40, "hour")),
        (60, 60.0, (1, "second")),
        (7, 13.0, (325662, "week")),
        (1, 3650 * 86400.0, (1, "week")),
    ],
)
def test_a_rate_in_the_units_of_nftables(rate: int, per: float, written: tuple[int, str]) -> None:
    of = SetId("mx", "throttle", 4, 32)
    assert ruleset.limit(of, Ruleset({}, (), rate, per, 3, 1)) == (*written, 3)


@pytest.mark.parametrize(
    ("rate", "written"),
    [
        ("1h2", (1, "hour", 2)),
        ("7h3", (7, "hour", 3)),
        ("1d1", (1, "day", 1)),
        ("90m9", (90, "minute", 9)),
        ("60m9", (1, "second", 9)),
        ("24d5", (1, "hour", 5)),
    ],
)
def test_a_rate_of_its_own_is_exact(rate: str, written: tuple[int, str, int]) -> None:
    assert ruleset.limit(SetId("mx", "throttle", 4, 32, rate), RULESET) == written


@given(st.integers(1, 100_000), st.floats(1.0, 604800.0))
def test_a_rate_is_off_by_no_more_than_rounding(rate: int, per: float) -> None:
    of = SetId("mx", "throttle", 4, 32)
    packets, unit, _burst = ruleset.limit(of, Ruleset({}, (), rate, per, 1, 1))
    seconds = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}[unit]
    assert abs(packets - rate * seconds / per) <= 0.5
