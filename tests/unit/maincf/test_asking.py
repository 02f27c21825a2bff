"""Our check in lists of restrictions: last, but before what permits."""

import pytest

from throttled.maincf.asking import (
    CHECK,
    RECIPIENTS,
    connected,
    disconnected,
    finding,
    one_word,
    spares,
    words,
)

_LITERAL = "check_policy_service { unix:throttled/policy, try_limit=1 }"


def lookup(**values: str) -> "dict[str, str]":
    return {CHECK.name: CHECK.value, **values}


def found(values: "dict[str, str]", name: str) -> str:
    return values.get(name, "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "$throttled_check"),
        ("reject_unauth_pipelining", "reject_unauth_pipelining, $throttled_check"),
        ("a, b,", "a, b, $throttled_check"),
        ("a permit", "a $throttled_check, permit"),
        ("permit_mynetworks, a", "$throttled_check, permit_mynetworks, a"),
        ("a, warn_if_reject permit_x", "a, $throttled_check, warn_if_reject permit_x"),
        ("$mine, a", "$throttled_check, $mine, a"),
        ("a, ${others}", "a, ${others}, $throttled_check"),
        ("friends, a", "$throttled_check, friends, a"),
        ("a, permit, $throttled_check", "a, $throttled_check, permit"),
        (f"{_LITERAL}, a", "a, $throttled_check"),
        (f"a, {_LITERAL}", "a, $throttled_check"),
        ("a, $(throttled_check) b", "a, b, $throttled_check"),
        ("check_policy_service", "check_policy_service, $throttled_check"),
        (
            "check_policy_service unix:other",
            "check_policy_service unix:other, $throttled_check",
        ),
    ],
)
def test_the_check_has_one_place(before: str, after: str) -> None:
    values = lookup(
        mine="permit_sasl_authenticated",
        others="reject_x",
        smtpd_restriction_classes="friends, loop",
        friends="check_y z, permit",
        loop="loop",
    )
    assert connected(before, lambda name: found(values, name)) == after
    assert words(connected(after, lambda name: found(values, name))) == words(after)
    assert "throttled" not in disconnected(after)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("a, $throttled_check", ""),
        (_LITERAL, ""),
        ("check_policy_service unix:throttled/policy", ""),
        ("", "it does not name it"),
        ("a", "it does not name it"),
        ("permit", "it does not name it"),
        ("a, permit, $throttled_check", "permit comes before it"),
        ("loop, $throttled_check", ""),
        ("check_policy_service unix:throttled/policy2", "it does not name it"),
    ],
)
def test_where_postfix_does_not_ask_is_found(value: str, why: str) -> None:
    values = lookup(smtpd_restriction_classes="loop", loop="loop")
    assert finding(value, lambda name: found(values, name)) == why


def test_a_brace_without_its_end() -> None:
    assert words("a { b") == ["a", "{ b"]


def test_lists_for_master_cf_have_no_white_space() -> None:
    assert one_word("a, b c") == "a,b,c"
    assert one_word(_LITERAL) is None


_OWN = "permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", RECIPIENTS.word),
        (_OWN, f"{_OWN}, {RECIPIENTS.word}"),
        (f"{_OWN}, permit", f"{_OWN}, {RECIPIENTS.word}, permit"),
        ("permit_dnswl_client x, y", f"{RECIPIENTS.word}, permit_dnswl_client x, y"),
        ("$throttled_check, a", f"a, {RECIPIENTS.word}"),
    ],
)
def test_recipients_are_asked_about_after_what_permits_this_hosts_own(
    before: str, after: str
) -> None:
    """Behind reject_unauth_destination where that is there: of other hosts nobody asks."""
    values = lookup(**{RECIPIENTS.name: RECIPIENTS.value})
    made = connected(before, lambda name: found(values, name), RECIPIENTS)
    assert made == after
    assert finding(made, lambda name: found(values, name), RECIPIENTS) == ""
    assert finding(made, lambda name: found(values, name))
    assert disconnected(made) == disconnected(before)
    assert spares(made, lambda name: found(values, name), RECIPIENTS) == ("mynet" in before)


def test_a_check_without_its_context_asks_about_no_recipient() -> None:
    assert finding(CHECK.value, lambda _: "", RECIPIENTS) == "it does not name it"
    assert finding(RECIPIENTS.value, lambda _: "") == "it does not name it"
    late = f"permit, {RECIPIENTS.value}"
    assert finding(late, lambda _: "", RECIPIENTS) == "permit comes before it"
