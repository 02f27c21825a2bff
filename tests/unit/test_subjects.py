import pytest
from hypothesis import given
from hypothesis import strategies as st

from throttled import subjects


@pytest.mark.parametrize(
    ("login", "local_domain", "expected"),
    [
        ("alice", "", "account:alice"),
        ("Alice@Example.TEST", "", "account:alice@example.test"),
        ("alice@example.test", "Example.test", "account:alice"),
        ("alice", "example.test", "account:alice"),
        ("alice@other.test", "example.test", "account:alice@other.test"),
    ],
)
def test_account(login: str, local_domain: str, expected: str) -> None:
    assert subjects.account(login, local_domain) == expected


@given(st.text(), st.text())
def test_an_account_is_one_in_any_case_with_and_without_its_domain(name: str, domain: str) -> None:
    for login in (name, name.casefold()):
        assert subjects.account(login, domain) == subjects.account(name, domain)


@pytest.mark.parametrize("written", ["account:alice", "account:alice@local.test"])
def test_spellings_of_an_account(written: str) -> None:
    both = ["account:alice", "account:alice@local.test"]
    assert subjects.spellings(written, "Local.test") == both
    assert subjects.spellings(written, "") == [written]
    assert subjects.spellings("192.0.2.7", "local.test") == ["192.0.2.7"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("alice", "alice"), ("J\xc3\x9c", "J\u00dc"), ("\xff", "\\xff"), ("\u20ac", "\\u20ac")],
)
def test_text_of_a_log(text: str, expected: str) -> None:
    assert subjects.from_log(text) == expected


@pytest.mark.parametrize(
    ("address", "delimiters", "expected"),
    [
        ("alice+x@a.test", "+", "alice@a.test"),
        ("alice+x+y@a.test", "+", "alice@a.test"),
        ("alice-x+y@a.test", "+-", "alice@a.test"),
        ("alice-x@a.test", "+", "alice-x@a.test"),
        ("alice+", "+", "alice"),
        ("alice+x@b+c@a.test", "+", "alice@a.test"),
        ("+x@a.test", "+", "+x@a.test"),  # nobody would be left
        ("alice@a+b.test", "+", "alice@a+b.test"),
        ("alice+x@a.test", "", "alice+x@a.test"),
        ("mailer-daemon@a.test", "-", "mailer-daemon@a.test"),
        ("owner-list@a.test", "-", "owner-list@a.test"),
        ("list-request@a.test", "+-", "list-request@a.test"),
        ("owner-list+x@a.test", "+", "owner-list@a.test"),
        ("", "+", ""),
    ],
)
def test_extensions_of_an_address(address: str, delimiters: str, expected: str) -> None:
    found = subjects.without_extension(subjects.mailbox(address), delimiters)
    assert found == f"mailbox:{expected}"


def test_mailbox_and_domain() -> None:
    assert subjects.mailbox("Bob@Example.ORG") == "mailbox:bob@example.org"
    assert subjects.domain("Bob@Example.ORG") == "domain:example.org"
    assert subjects.domain('"a@b"@example.org') == "domain:example.org"
    assert subjects.domain("bob") == subjects.domain("bob@") == ""
    assert subjects.uid(33) == "uid:33"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("account:alice", "account"),
        ("uid:33", "uid"),
        ("uid:root", None),
        ("uid:\u0663", None),
        ("mailbox:bob@example.org", "mailbox"),
        ("domain:example.org", "domain"),
        ("198.51.100.7", "inside"),
        ("2001:db8::/64", "inside"),
        ("account:", None),
        ("client:x", None),
        ("alice", None),
    ],
)
def test_of(text: str, expected: str | None) -> None:
    assert subjects.of(text) == expected


@pytest.mark.parametrize(
    ("written", "subject"),
    [
        (" account:Alice@Example.test ", "account:alice@example.test"),
        ("Account:alice", "account:alice"),
        ("uid:33", "uid:33"),
        ("domain:EXAMPLE.test", "domain:example.test"),
        ("account:M\u00dcLLER", "account:m\u00fcller"),
    ],
)
def test_what_an_operator_writes(written: str, subject: str) -> None:
    assert subjects.read(written) == subject
    assert subjects.read(subject) == subject


def test_a_name_that_is_not_ascii_is_that_of_the_log() -> None:
    logged = "M\u00dcLLER".encode().decode("latin-1")
    assert subjects.account_in_log(logged, "") == subjects.read("account:m\u00fcller")
    assert subjects.account_in_log(f"{logged}@example.org", "example.org") == "account:m\u00fcller"


@pytest.mark.parametrize("written", ["account:", "uid:x", "alice", "198.51.100.7", "user:alice"])
def test_what_is_no_subject(written: str) -> None:
    with pytest.raises(ValueError, match="not an account"):
        subjects.read(written)


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("account:alice@example.test", "account:alice"),
        ("account:alice@other.test", "account:alice@other.test"),
        ("mailbox:alice@example.test", "mailbox:alice@example.test"),
        ("198.51.100.7", "198.51.100.7"),
    ],
)
def test_a_subject_as_it_is_counted(subject: str, expected: str) -> None:
    assert subjects.counted(subject, "example.test") == expected
