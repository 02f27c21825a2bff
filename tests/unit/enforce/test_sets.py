import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled import address
from throttled.enforce import sets
from throttled.enforce.backend import Ruleset
from throttled.enforce.sets import BASE, SetId
from throttled.model import ACTIONS, SCOPES, Entry, Rate

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
    assert sets.parse_name("mx_throttle4_24_6h2") == SetId("mx", "throttle", 4, 24, "6h2")


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


def test_a_rate_of_its_own_has_a_set_of_its_own() -> None:
    entry = Entry("198.18.0.0/24", "mx", "throttle", 1.0, Rate(6, 3600.0, 2))
    assert sets.place(entry)[0] == SetId("mx", "throttle", 4, 24, "6h2")


def test_the_rate_of_a_set() -> None:
    ruleset = Ruleset({}, (), rate=10, per=60.0, burst=7, size=1000)
    assert sets.rate(SetId("mx", "throttle", 4, 32), ruleset) == Rate(10, 60.0, 7)
    assert sets.rate(SetId("mx", "throttle", 4, 32, "6h2"), ruleset) == Rate(6, 3600.0, 2)


@pytest.mark.parametrize(
    ("rate", "written"),
    [
        (Rate(10, 30.0, 1), (20.0, "minute")),
        (Rate(60, 60.0, 1), (1.0, "second")),
        (Rate(1, 7200.0, 1), (0.5, "hour")),
        (Rate(7, 13.0, 1), (7 * 3600 / 13, "hour")),
    ],
)
def test_a_rate_in_units(rate: Rate, written: tuple[float, str]) -> None:
    assert sets.in_units(rate, {"second": 1, "minute": 60, "hour": 3600}) == written


def test_networks_inside_others_are_left_out() -> None:
    subjects = ["198.18.7.0/24", "2001:db8::1", "198.18.0.0/15", "203.0.113.7", "198.18.0.0/15"]
    wanted = {4: ["198.18.0.0/15", "203.0.113.7/32"], 6: ["2001:db8::1/128"]}
    assert sets.outermost(subjects) == wanted
    with pytest.raises(ValueError, match="not an IP"):
        sets.outermost(["mail.example.com"])
