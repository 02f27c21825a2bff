"""The rules of admission control in nftables, as text."""

import pytest

from throttled.enforce.admission import nft_rules
from throttled.enforce.admission.protocol import AdmissionLimits

NAME = "throttled_admission_25"


def rules(**limits: float) -> list[str]:
    text = nft_rules.rules(NAME, AdmissionLimits(**limits))  # type: ignore[arg-type]
    return [line.removeprefix(f"add rule inet {NAME} ") for line in text.splitlines()]


def test_a_table_is_named_by_its_first_port() -> None:
    assert nft_rules.table((587, 465)) == "throttled_admission_465"


def test_a_table_is_made_anew() -> None:
    lines = nft_rules.create(NAME).splitlines()
    assert lines[:2] == [f"add table inet {NAME}", f"delete table inet {NAME}"]
    hooks = [line for line in lines if " hook " in line]
    assert ["prerouting" in hooks[0], "output" in hooks[1], len(hooks)] == [True, True, 2]
    assert f"add chain inet {NAME} repeated" in lines
    assert nft_rules.remove(NAME).splitlines() == lines[:2]


def test_tables_of_ours_are_found() -> None:
    listed = (
        "table inet throttled\ntable inet throttled_admission_25\ntable ip throttled_admission_9\n"
    )
    assert nft_rules.ours(listed) == [NAME]


def test_all_means_of_a_limit() -> None:
    found = rules(cap=80, pace=8, turn=1.5)
    assert found[:3] == [f"flush chain inet {NAME} {chain}" for chain in nft_rules._CHAINS]
    order = [
        "arriving tcp dport != @lease accept",
        "arriving ip6 saddr @networks6 accept",
        "arriving tcp dport @closed counter name dropped_cap drop",
        "arriving ip saddr & 255.255.255.0 @turn4 counter name dropped_turn drop",
        "arriving limit rate 80/second burst 8 packets counter name admitted accept",
        "arriving ip6 saddr . tcp sport @seen6 goto repeated",
        "arriving goto repeated",
        "repeated limit rate 80/second burst 8 packets counter name admitted accept",
        "repeated counter name dropped_pace drop",
        "leaving add @turn4 { ip daddr & 255.255.255.0 timeout 1s } accept",
    ]
    assert [found.index(each) for each in order] == sorted(map(found.index, order))


def test_without_pace_and_turn() -> None:
    found = rules(cap=80)
    assert "arriving counter name admitted accept" in found
    assert not [each for each in found if "turn" in each or each.startswith("leaving")]


def test_without_dropping() -> None:
    assert not [
        each for each in rules(cap=1, pace=1, turn=1, dropping=False) if "drop" in each.split()
    ]


def test_a_lease_is_set_anew() -> None:
    lines = nft_rules.renew(NAME, "lease", (587, 25), 1.5).splitlines()
    assert lines == [
        f"add element inet {NAME} lease {{ 25, 587 }}",
        f"delete element inet {NAME} lease {{ 25, 587 }}",
        f"add element inet {NAME} lease {{ 25 timeout 1500ms, 587 timeout 1500ms }}",
    ]
    assert nft_rules.renew(NAME, "lease", (587, 25), 0).splitlines() == lines[:2]


def test_known_addresses() -> None:
    both = ["198.18.0.1", "2001:db8::1", "198.18.0.2"]
    assert nft_rules.known(NAME, both, add=True).splitlines() == [
        f"add element inet {NAME} known4 {{ 198.18.0.1, 198.18.0.2 }}",
        f"add element inet {NAME} known6 {{ 2001:db8::1 }}",
    ]
    assert nft_rules.known(NAME, both[:1], add=False).splitlines() == [
        f"add element inet {NAME} known4 {{ 198.18.0.1 }}",
        f"delete element inet {NAME} known4 {{ 198.18.0.1 }}",
    ]


def test_networks_do_not_overlap() -> None:
    text = nft_rules.networks(NAME, ["198.18.0.0/15", "198.18.7.0/24", "2001:db8::/64"])
    assert text.splitlines() == [
        f"flush set inet {NAME} networks4",
        f"flush set inet {NAME} networks6",
        f"add element inet {NAME} networks4 {{ 198.18.0.0/15 }}",
        f"add element inet {NAME} networks6 {{ 2001:db8::/64 }}",
    ]
    assert len(nft_rules.networks(NAME, []).splitlines()) == 2
    with pytest.raises(ValueError, match="not an IP"):
        nft_rules.networks(NAME, ["account:x/24"])
