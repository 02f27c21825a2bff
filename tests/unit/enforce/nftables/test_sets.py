import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled import address
from throttled.enforce.nftables import sets
from throttled.enforce.nftables.sets import BASE, Definition, SetId
from throttled.model import ACTIONS, SCOPES, Entry, Rate, Ruleset

RULESET = Ruleset({"mx": (25,)}, (), rate=10, per=60.0, burst=7, size=1000)
WIDE = SetId("mx", "throttle", 4, 20)

ids = st.builds(
    lambda scope, action, version, prefix, rate: SetId(
        scope,
        action,
        version,
        min(128 if action == "exempt" else prefix, 32 if version == 4 else 128),
        rate if action == "throttle" else "",
    ),
    st.sampled_from(SCOPES),
    st.sampled_from(ACTIONS),
    st.sampled_from((4, 6)),
    st.integers(0, 128),
    st.sampled_from(("", "6h2", "100000s100000", "1d1")),
)


def test_names_say_what_is_in_a_set() -> None:
    assert SetId("mx", "ban", 4, 32).name == "mx_ban4"
    assert SetId("mx", "ban", 4, 24).name == "mx_ban4_24"
    assert SetId("submission", "throttle", 6, 128).name == "submission_throttle6"
    assert SetId("submission", "throttle", 6, 64).name == "submission_throttle6_64"
    assert SetId("mx", "exempt", 4, 32).name == "mx_exempt4"
    assert SetId("mx", "throttle", 4, 32, "6h2").name == "mx_throttle4_6h2"
    assert SetId("mx", "throttle", 4, 24, "6h2").name == "mx_throttle4_24_6h2"


@given(ids)
def test_a_name_is_read_back(of: SetId) -> None:
    assert sets.parse_name(of.name) == of


@pytest.mark.parametrize(
    "name",
    [
        "protected4",
        "mx_ban",
        "mx_ban5",
        "mx_ban4_",
        "mx_ban4_32",
        "mx_ban4_33",
        "mx_ban4_024",
        "mx_ban6_129",
        "xmx_ban4",
        "mx_ban4x",
        "mx_ban4_6h2",
        "mx_exempt4_24",
        "mx_exempt4_6h2",
        "mx_throttle4_06h2",
        "mx_throttle4_1h25",
        "mx_throttle4_6h2_6h2",
        "mx_throttle4_32_6h2",
    ],
)
def test_other_sets_are_not_ours(name: str) -> None:
    assert sets.parse_name(name) is None


def test_the_mask_of_networks() -> None:
    assert SetId("mx", "ban", 4, 32).mask == ""
    assert SetId("mx", "ban", 4, 24).mask == "255.255.255.0"
    assert SetId("mx", "ban", 4, 0).mask == "0.0.0.0"
    assert SetId("mx", "ban", 6, 128).mask == ""
    assert SetId("mx", "ban", 6, 64).mask == "ffff:ffff:ffff:ffff::"
    assert SetId("mx", "ban", 6, 48).mask == "ffff:ffff:ffff::"


def test_a_new_table_has_sets_for_addresses_and_their_networks() -> None:
    assert len(set(BASE)) == 20
    assert {(of.version, of.prefix) for of in BASE} == {(4, 32), (4, 24), (6, 128), (6, 64)}
    assert not any(of.mask for of in BASE if of.action == "exempt")


@pytest.mark.parametrize(
    ("subject", "version", "prefix"),
    [
        ("198.18.0.1", 4, 32),
        ("198.18.0.1/32", 4, 32),
        ("198.18.0.0/24", 4, 24),
        ("::ffff:198.18.0.1", 4, 32),
        ("2001:db8::1", 6, 128),
        ("2001:db8::/64", 6, 64),
    ],
)
def test_each_subject_has_its_place_and_comes_back(subject: str, version: int, prefix: int) -> None:
    of, key = sets.place(Entry(subject, "mx", "ban", 1.0))
    assert of == SetId("mx", "ban", version, prefix)
    assert of.subject(key) == address.subject(subject)


def test_what_is_no_subject_has_no_place() -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        sets.place(Entry("mail.example.com", "mx", "ban", 1.0))


def test_definitions() -> None:
    assert sets.definition(SetId("mx", "ban", 4, 32), RULESET) == Definition(1000, None, 4, 16)
    throttle = sets.definition(SetId("mx", "throttle", 4, 24), RULESET)
    assert throttle == Definition(1000, (10, 60, 7), 4, 16)
    own = sets.definition(SetId("mx", "throttle", 4, 24, "1h2"), RULESET)
    assert own == Definition(1000, (1, 3600, 2), 4, 16)
    exempt = sets.definition(SetId("mx", "exempt", 6, 128), RULESET)
    assert exempt == Definition(1000, None, 16, 16)


def test_a_rate_of_its_own_has_a_set_of_its_own() -> None:
    entry = Entry("198.18.0.0/24", "mx", "throttle", 1.0, Rate(6, 3600.0, 2))
    assert sets.place(entry)[0] == SetId("mx", "throttle", 4, 24, "6h2")


def test_rivals_are_the_sets_of_other_rates() -> None:
    plain, slow, slower = (SetId("mx", "throttle", 4, 32, rate) for rate in ("", "6h2", "1h1"))
    rivals = sets.Rivals({*BASE, slow, slow._replace(prefix=24), slow._replace(version=6)})
    assert rivals.of(plain) == [slow]
    assert rivals.of(plain) == [slow]
    assert rivals.of(slow) == [plain]
    assert set(rivals.of(slower)) == {plain, slow}  # which is not there yet, but will be
    assert set(rivals.of(plain)) == {slow, slower}
    assert rivals.of(SetId("mx", "ban", 4, 32)) == []


def test_a_cap_on_rates() -> None:
    def of(number: int, prefix: int = 32) -> SetId:
        return SetId("mx", "throttle", 4, prefix, f"{number}h1")

    present = {*BASE, *(of(n) for n in range(1, sets.RATES))}
    assert sets.admitted(present, [of(100), of(1, 24)]) == {of(100), of(1, 24)}
    assert sets.admitted(present | {of(100)}, [of(101), of(100, 24), WIDE]) == {of(100, 24), WIDE}


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
    assert sets.limit(of, Ruleset({}, (), rate, per, 3, 1)) == (*written, 3)


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
    assert sets.limit(SetId("mx", "throttle", 4, 32, rate), RULESET) == written


@given(st.integers(1, 100_000), st.floats(1.0, 604800.0))
def test_a_rate_is_off_by_no_more_than_rounding(rate: int, per: float) -> None:
    of = SetId("mx", "throttle", 4, 32)
    packets, unit, _burst = sets.limit(of, Ruleset({}, (), rate, per, 1, 1))
    seconds = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}[unit]
    assert abs(packets - rate * seconds / per) <= 0.5
