import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from throttled.enforce.backend import Ruleset
from throttled.enforce.iptables import ruleset
from throttled.enforce.sets import BASE, SetId
from throttled.model import Scope

BANNED = SetId("mx", "ban", 4, 32)
THROTTLED = SetId("mx", "throttle", 6, 64)
OWN_RATE = SetId("mx", "throttle", 6, 128, "1h2")
EXEMPT = SetId("mx", "exempt", 6, 128)
EVERYONE = SetId("submission", "ban", 6, 0)


def rules(rate: int = 10, per: float = 60.0, burst: int = 5) -> Ruleset:
    ports: dict[Scope, tuple[int, ...]] = {"mx": (25,), "submission": (587, 465)}
    return Ruleset(ports, ("127.0.0.0/8", "::1"), rate, per, burst, 1000)


def written(rule: ruleset.Rule) -> str:
    """Write a rule as iptables would."""
    words = ["-A", rule.chain, *["! -i lo"] * rule.arriving, *["-p tcp"] * rule.tcp]
    for name, options in rule.matches:
        words.append(f"-m {name}")
        for option, value in options:
            values = [value] if isinstance(value, str) else list(value)
            inverted = values[0] == "!"
            words += [*["!"] * inverted, f"--{option}", *values[inverted:]]
    target = [f"--{name} {value}" for name, value in rule.options]
    return " ".join([*words, "-g" if rule.goto else "-j", rule.target, *target])


def test_all_rules() -> None:
    made = ruleset.render(rules(), [BANNED, THROTTLED, EVERYONE, OWN_RATE, EXEMPT], 6)
    assert (
        "\n".join(map(written, made))
        == """\
-A PREROUTING -p tcp -j throttled
-A throttled ! -i lo -p tcp -m tcp --dport 25 -m addrtype --dst-type LOCAL -g throttled_mx
-A throttled ! -i lo -p tcp -m tcp --dport 465 -m addrtype --dst-type LOCAL -g throttled_submission
-A throttled ! -i lo -p tcp -m tcp --dport 587 -m addrtype --dst-type LOCAL -g throttled_submission
-A throttled_mx -m set --match-set thr_protected6 src -j RETURN
-A throttled_mx -p tcp -m tcp --tcp-flags SYN,ACK SYN \
-m set --match-set thr_mx_t6_1h2 src ! --update-counters \
-m hashlimit --hashlimit-above 1/hour --hashlimit-burst 2 --hashlimit-mode srcip \
--hashlimit-srcmask 128 --hashlimit-name thr_mx_t6_1h2_1hour2_1000 \
--hashlimit-htable-size 125 --hashlimit-htable-max 2000 --hashlimit-htable-expire 7200000 \
--hashlimit-htable-gcinterval 10000 -m set --match-set thr_mx_t6_1h2 src -j throttled_drop
-A throttled_mx -m set --match-set thr_mx_exempt6 src -j RETURN
-A throttled_mx -p tcp -m tcp ! --tcp-flags SYN,ACK SYN -j RETURN
-A throttled_mx -m set --match-set thr_mx_throttle6_64 src ! --update-counters \
-m hashlimit --hashlimit-above 10/min --hashlimit-burst 5 --hashlimit-mode srcip \
--hashlimit-srcmask 64 --hashlimit-name thr_mx_throttle6_64_10min5_1000 \
--hashlimit-htable-size 125 --hashlimit-htable-max 2000 --hashlimit-htable-expire 30000 \
--hashlimit-htable-gcinterval 10000 -m set --match-set thr_mx_throttle6_64 src -j throttled_drop
-A throttled_submission -m set --match-set thr_protected6 src -j RETURN
-A throttled_submission -m set --match-set thr_submission_ban6_0 src -j throttled_drop
-A throttled_submission -p tcp -m tcp ! --tcp-flags SYN,ACK SYN -j RETURN
-A throttled_drop -m set --match-set thr_dropped6 src -j DROP"""
    )
    assert {rule.chain for rule in made} == {"PREROUTING", *ruleset.CHAINS} - {"throttled_refuse"}


def test_submission_refuses_if_asked_to() -> None:
    subjects = [BANNED._replace(version=6, prefix=128), EVERYONE]
    made = [written(rule) for rule in ruleset.render(replace(rules(), reject=True), subjects, 6)]
    marked = "-m mark --mark 0x8000000/0x8000000"
    assert [line for line in made if "_ban" in line or "_refuse" in line.split()[1]] == [
        "-A throttled_mx -m set --match-set thr_mx_ban6 src -j throttled_drop",
        "-A throttled_submission -m set --match-set thr_submission_ban6_0 src -j throttled_refuse",
        (
            "-A throttled_refuse -p tcp -m set --match-set thr_dropped6 src -m limit "
            "--limit 1000/second --limit-burst 1000 -j MARK --set-xmark 0x8000000/0x8000000"
        ),
        f"-A throttled_refuse -p tcp {marked} -j ACCEPT",
        "-A throttled_refuse -j DROP",
    ]
    rejecting = [written(rule) for rule in ruleset.rejecting()]
    assert rejecting == [
        f"-A INPUT -p tcp {marked} -j throttled_reject",
        f"-A FORWARD -p tcp {marked} -j throttled_reject",
        "-A throttled_reject -p tcp -j REJECT --reject-with tcp-reset",
    ]
    assert all(map(ruleset.is_ours, rejecting))


def test_other_versions_and_absent_scopes_have_no_rules() -> None:
    text = "".join(map(written, ruleset.render(Ruleset({}, (), 1, 1.0, 1, 10), [THROTTLED], 4)))
    assert "--dport" not in text
    assert "throttle6" not in text


def test_which_lines_of_a_list_are_ours() -> None:
    jump, goto = "-A PREROUTING -p tcp -j throttled", "-A PREROUTING -g throttled_mx"
    ours = ["-N throttled", "-N throttled_mx", jump, goto, "-A throttled -j theirs"]
    listed = [*ours, "-N theirs", "-A PREROUTING -p udp -j NOTRACK", "-P PREROUTING ACCEPT"]
    assert [line for line in listed if ruleset.is_ours(line)] == ours


@pytest.mark.parametrize(
    "of",
    [
        *(*BASE, EVERYONE, SetId("submission", "throttle", 6, 127), OWN_RATE),
        SetId("submission", "throttle", 6, 127, "100000s100000"),
        SetId("mx", "throttle", 4, 20, "6h2"),
    ],
)
def test_names_fit_and_say_what_is_in_a_set(of: SetId) -> None:
    assert len(ruleset.name(of) + ruleset.SPARE) <= 31
    assert ruleset.subjects(ruleset.name(of)) == of
    assert ruleset.subjects(of.name) is None


def test_sets_that_hold_no_subjects() -> None:
    assert ruleset.subjects(ruleset.protected(4)) is None
    assert ruleset.subjects(ruleset.dropped(6)) is None


def test_sets_of_others_are_not_ours() -> None:
    ours = (ruleset.name(BANNED), ruleset.protected(4), ruleset.dropped(6))
    assert all(ruleset.is_set(name) and ruleset.is_set(name + ruleset.SPARE) for name in ours)
    assert not any(map(ruleset.is_set, ("thr_blocklist", "thr_mx_ban5", "mx_ban4", "protected4")))
    assert not any(map(ruleset.is_set, ("thr_mx_t4", "thr_mx_t4_9x9", "thr_mx_throttle4_6h2")))


def test_the_name_of_a_trial_says_whose_it_is() -> None:
    assert ruleset.trial_of(ruleset.trial_name(7)) == 7
    assert not any(map(ruleset.trial_of, ("thr_check", "thr_check7x", "thr_mx_ban4", "check7")))


@pytest.mark.parametrize(
    ("rate", "per", "burst", "written"),
    [
        (10, 60.0, 10, (10, "min")),
        (10, 30.0, 5, (20, "min")),
        (5, 1.0, 5, (5, "sec")),
        (1, 3600.0, 1, (1, "hour")),
        (7, 11.0, 1, (54982, "day")),
        (1, 1e9, 1, (1, "day")),
        (1, 86400.0, 3, (3, "day")),  # hashlimit cannot wait three days
        (1, 3600.0, 48, (2, "hour")),
    ],
)
def test_a_rate_in_the_units_of_hashlimit(
    rate: int, per: float, burst: int, written: tuple[int, str]
) -> None:
    assert ruleset.rate(THROTTLED, rules(rate, per, burst)) == written


@pytest.mark.parametrize(
    ("rate", "written"),
    [("1h24", (1, "hour")), ("7h3", (7, "hour")), ("1d1", (1, "day")), ("90m9", (90, "min"))],
)
def test_a_rate_of_its_own_is_exact(rate: str, written: tuple[int, str]) -> None:
    assert ruleset.rate(THROTTLED._replace(rate=rate), rules()) == written


@given(st.integers(1, 10_000), st.floats(1.0, 1e6), st.integers(1, 10_000))
def test_no_allowance_takes_more_than_a_day(rate: int, per: float, burst: int) -> None:
    count, unit = ruleset.rate(THROTTLED, rules(rate, per, burst))
    seconds = {"sec": 1, "min": 60, "hour": 3600, "day": 86400}[unit]
    assert burst * seconds / count <= 86400


def test_what_is_protected() -> None:
    subjects = (
        "127.0.0.0/8",
        "::1",
        "198.51.100.7",
        "198.51.100.0/24",
        "2001:db8::/32",
        "0.0.0.0/0",
    )
    assert ruleset.protected_networks(subjects, 4) == [
        (bytes(4), 1),
        (b"\x7f\0\0\0", 8),
        (b"\x80\0\0\0", 1),
        (b"\xc6\x33\x64\0", 24),
        (b"\xc6\x33\x64\x07", 32),
    ]
    assert [prefix for _, prefix in ruleset.protected_networks(subjects, 6)] == [128, 32]
    with pytest.raises(ValueError, match="mail"):
        ruleset.protected_networks(["mail.example.com"], 4)


def test_definitions() -> None:
    assert ruleset.definition(BANNED, 7) == ("hash:ip", 4, 7, 600)
    assert ruleset.definition(THROTTLED, 7) == ("hash:net", 6, 7, 600)
    assert ruleset.definition(EVERYONE, 7) == ("hash:net", 6, 2, 600)
    assert ruleset.networks(4, 1000) == ("hash:net", 4, 1000, 0)


def test_a_trial_is_where_no_packet_comes_to() -> None:
    made = ruleset.trial(rules(), "thr_check7", 4)
    assert {rule.chain for rule in made} == {"thr_check7"}
    assert {rule.target for rule in made} == {"RETURN", "DROP"}
    names = {match.name for rule in made for match in rule.matches}
    assert names == {"tcp", "addrtype", "set", "hashlimit"}
