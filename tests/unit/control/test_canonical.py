"""What an operator wrote: made canonical, or refused."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from throttled.control import canonical, wire
from throttled.control.bulk import UnbanMany
from throttled.control.requests import (
    Allow,
    Audit,
    Ban,
    Disallow,
    Entered,
    Explain,
    Import,
    List,
    Resolve,
    Throttle,
    Unban,
)
from throttled.errors import RefusedError, UsageError

#: Without Hypothesis's table of all of Unicode, which takes seconds to build.
_LATIN = st.integers(0, 0x250).map(chr)
#: Text that is often, but not always, something that can be allowed.
_PARTS = ["192.0.2.7", "2001:DB8::1", "::ffff:", "/24", "/64", ".", "Example", "com", "-", "7", " "]
_LIKELY = st.lists(st.sampled_from(_PARTS), max_size=4).map("".join)


def test_subjects_are_canonical() -> None:
    assert wire.decode_request(b'{"op":"explain","subject":"::ffff:192.0.2.7"}') == Explain(
        "192.0.2.7"
    )
    assert wire.decode_request(b'{"op":"unban","subject":" 192.0.2.7/24 "}') == Unban(
        "192.0.2.0/24"
    )
    assert wire.decode_request(b'{"op":"list","within":"2001:DB8::/64"}') == List(
        within="2001:db8::/64"
    )
    assert wire.decode_request(b'{"op":"allow","what":"Mail.Example.COM"}') == Allow(
        "mail.example.com"
    )
    assert wire.decode_request(b'{"op":"disallow","what":"192.0.2.7/32"}') == Disallow("192.0.2.7")
    assert wire.decode_request(b'{"op":"unban","subject":"Account:Alice"}') == Unban(
        "account:alice"
    )
    assert wire.decode_request(b'{"op":"allow","what":"domain:A.test"}') == Allow("domain:a.test")
    assert wire.decode_request(b'{"op":"audit","subject":"192.0.2.7/32"}') == Audit("192.0.2.7")
    assert wire.decode_request(b'{"op":"audit"}') == Audit()


def test_words_of_an_operator_can_stand_in_a_log() -> None:
    for line in (
        b'{"op":"ban","subject":"192.0.2.7","why":"a\\nb\\u001b\\u202e "}',
        b'{"op":"throttle","subject":"192.0.2.7","why":"a\\nb"}',
        b'{"op":"allow","what":"192.0.2.7","note":"a\\u2028b"}',
    ):
        request = wire.decode_request(line)
        assert isinstance(request, Ban | Throttle | Allow)
        assert (request.note if isinstance(request, Allow) else request.why) == "a b"


@pytest.mark.parametrize("wide", ["0.0.0.0/0", "10.0.0.0/15", "2001:db8::/31", "::/0"])
@pytest.mark.parametrize("op", ["ban", "throttle", "allow"])
def test_a_wide_network_is_refused_without_force(op: str, wide: str) -> None:
    message = {"op": op, "what" if op == "allow" else "subject": wide}
    with pytest.raises(RefusedError) as caught:
        wire.decode_request(json.dumps(message).encode())
    assert "--force" in caught.value.hint
    assert wire.decode_request(json.dumps({**message, "force": True}).encode())


@pytest.mark.parametrize("narrow", ["10.0.0.0/16", "2001:db8::/32", "192.0.2.7", "2001:db8::1"])
def test_the_floor_itself_and_addresses_are_not_refused(narrow: str) -> None:
    canonical.refuse_wide(narrow, force=False)


@given(st.text(_LATIN, max_size=80) | _LIKELY)
@example("192.0.2.7/24 ")
@example(".Example.com")
def test_allowable_is_idempotent_or_refuses(text: str) -> None:
    try:
        what = canonical.allowable(text)
    except UsageError:
        return
    assert canonical.allowable(what) == what


def test_a_list_is_canonical() -> None:
    entries = [Entered("2001:DB8::1", "ban", why="a\nb"), Entered("Example.COM", "allow")] * 3
    request = wire.decode_request(wire.encode(Import(entries)))
    assert isinstance(request, Import)
    assert request.entries[:2] == [
        Entered("2001:db8::1", "ban", why="a b"),
        Entered("example.com", "allow"),
    ]
    for wide in (Entered("0.0.0.0/0", "allow"), Entered("198.0.0.0/8", "ban")):
        with pytest.raises(RefusedError):
            wire.decode_request(wire.encode(Import([wide])))
        wire.decode_request(wire.encode(Import([wide], force=True)))


def test_a_host_and_its_addresses_are_made_canonical() -> None:
    request = wire.decode_request(
        b'{"op":"resolve","what":"Mail.Example.COM","addresses":["2001:DB8:0::1"],"note":"a\\nb"}'
    )
    assert request == Resolve("mail.example.com", ["2001:db8::1"], None, "a b")


@pytest.mark.parametrize(
    ("what", "addresses"),
    [
        (".example.com", ["192.0.2.7"]),
        ("192.0.2.7", ["192.0.2.7"]),
        ("account:alice", ["192.0.2.7"]),
        ("example.com", ["192.0.2.0/24"]),
        ("example.com", ["nonsense"]),
        ("example.com", []),
        ("example.com", ["192.0.2.7"] * 65),
    ],
)
def test_what_is_no_host_or_none_of_its_addresses(what: str, addresses: list[str]) -> None:
    line = json.dumps({"op": "resolve", "what": what, "addresses": addresses}).encode()
    with pytest.raises(UsageError):
        wire.decode_request(line)


def test_many_subjects() -> None:
    request = UnbanMany(["2001:DB8::1", " 198.51.100.7"], within="198.51.100.7/24")
    expected = UnbanMany(["2001:db8::1", "198.51.100.7"], within="198.51.100.0/24")
    assert canonical.canonical(request) == expected
    assert canonical.canonical(UnbanMany(limit="errors")) == UnbanMany(limit="errors")
