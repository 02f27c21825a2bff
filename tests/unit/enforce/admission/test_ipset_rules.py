"""The chains and sets of admission control in iptables."""

from throttled.enforce.admission import ipset_rules
from throttled.enforce.admission.protocol import AdmissionLimits

BEGIN = "thra25"
HALVES = [(bytes(4), 1), (b"\x80" + bytes(3), 1)]


def rules(version: int = 4, **limits: float) -> list[str]:
    given = AdmissionLimits(**limits)  # type: ignore[arg-type]
    return ipset_rules.rules(BEGIN, given, version).splitlines()


def within(which: str) -> str:
    return f"-m set --match-set thra25_{which}4 src"


def test_names_begin_with_the_first_port_and_are_short_enough() -> None:
    assert ipset_rules.base((587, 465)) == "thra465"
    made = list(ipset_rules.ipsets("thra65535", 30, 10))
    assert len({each.name for each in made}) == len(made) == 20
    assert max(len(each.name) for each in made) < 32
    assert {each.mask for each in made if "turn" in each.name} == {24, 64}
    timeouts = {each.name: each.definition.timeout for each in made}
    assert (timeouts["thra65535_lease4"], timeouts["thra65535_closed6"]) == (30, 10)


def test_names_of_ours_are_found() -> None:
    others = ["thr_mx_ban4", "thra", "thra25x", "throttled", "thra25_known5"]
    ours = ["thra25", "thra587o", "thra465_known4"]
    assert ipset_rules.begins([*others, *ours]) == {"thra25", "thra587", "thra465"}


def test_everybody_is_two_halves() -> None:
    assert ipset_rules.everybody(4) == HALVES
    assert [len(key) for key, _ in ipset_rules.everybody(6)] == [16, 16]


def test_subjects_are_elements_of_their_version() -> None:
    assert ipset_rules.elements(["198.18.0.1", "2001:db8::1"], 4) == [(b"\xc6\x12\0\1", 0)]
    both = ["198.18.0.0/24", "0.0.0.0/0", "2001:db8::/64"]
    assert ipset_rules.networks(both, 4) == [(b"\xc6\x12\0\0", 24), *HALVES]
    assert [prefix for _, prefix in ipset_rules.networks(both, 6)] == [64]


def test_all_means_of_a_limit() -> None:
    found = rules(cap=80, pace=8, turn=1.5)
    assert found[:4] == ["*raw", *(f":{BEGIN}{end} - [0:0]" for end in ("", "r", "o"))]
    assert found[-1] == "COMMIT"
    order = [
        "-A thra25 -m set ! --match-set thra25_lease4 src -j RETURN",
        "-A thra25 -m set --match-set thra25_networks4 src -j RETURN",
        f"-A thra25 {within('closed')} {within('cap')} -j DROP",
        f"-A thra25 {within('turn')} {within('late')} -j DROP",
        f"-A thra25 -m limit --limit 80/sec --limit-burst 8 {within('in')} -j RETURN",
        "-A thra25 -m set --match-set thra25_seen4 src,src -g thra25r",
        "-A thra25 -g thra25r",
        f"-A thra25r {within('pace')} -j DROP",
        "-A thra25o -m set ! --match-set thra25_lease4 dst -j RETURN",
        "-A thra25o -j SET --add-set thra25_turn4 dst --timeout 1",
    ]
    assert [found.index(each) for each in order] == sorted(map(found.index, order))
    assert "-A thra25o -j SET --add-set thra25_turn6 dst --timeout 300" in rules(6, cap=1, turn=999)


def test_without_pace_and_turn() -> None:
    found = rules(cap=80)
    assert "-A thra25 -m set --match-set thra25_in4 src -j RETURN" in found
    assert not [each for each in found if "turn" in each or each.startswith("-A thra25o")]


def test_without_dropping() -> None:
    assert not [each for each in rules(cap=1, pace=1, turn=1, dropping=False) if "DROP" in each]


def test_hooks() -> None:
    found = ipset_rules.hooks(BEGIN, (587, 465))
    assert [each.split()[0] for each in found] == ["PREROUTING", "OUTPUT"] * 2
    assert "--dport 465" in found[0]
    assert found[1].endswith("-j thra25o")
    assert ipset_rules.hook(["A"], remove=["B"]).splitlines() == ["*raw", "-D B", "-A A", "COMMIT"]


def test_what_is_there_is_removed_and_nothing_else() -> None:
    present = [
        "-P PREROUTING ACCEPT",
        "-N thra25",
        "-N thra25o",
        "-N other",
        "-A PREROUTING ! -i lo -p tcp -j thra25",
        "-A PREROUTING -j other",
        "-A thra25 -g thra25r",
    ]
    assert ipset_rules.remove(BEGIN, present).splitlines() == [
        "*raw",
        "-D PREROUTING ! -i lo -p tcp -j thra25",
        "-F thra25",
        "-F thra25o",
        "-X thra25",
        "-X thra25o",
        "COMMIT",
    ]
    assert ipset_rules.remove(BEGIN, ["-P PREROUTING ACCEPT", "-N other"]) == ""
