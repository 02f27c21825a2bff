import pytest

from throttled.errors import RefusedError
from throttled.store import allowlist
from throttled.store.rows import TEXT
from throttled.store.store import Allowed, Store

NOW = 1_700_000_000.0


A = "198.51.100.7"


def test_what_is_allowed_is_listed_until_it_expires(store: Store) -> None:
    store.allowlist.allow("198.51.100.0/24", 0.0, "our office", NOW)
    store.allowlist.allow(".example.com", NOW + 60, "", NOW)
    forever = Allowed("198.51.100.0/24", 0.0, "our office", NOW)
    assert store.allowlist.entries(NOW) == [Allowed(".example.com", NOW + 60, "", NOW), forever]
    assert store.allowlist.entries(NOW + 60) == [forever]


def test_allowing_again_changes(store: Store) -> None:
    store.allowlist.allow(A, 0.0, "first", NOW)
    store.allowlist.allow(A, NOW + 60, "n" * (TEXT + 1), NOW + 1)
    assert store.allowlist.entries(NOW) == [Allowed(A, NOW + 60, "n" * TEXT, NOW + 1)]


def test_disallow_says_whether_it_was_there(store: Store) -> None:
    store.allowlist.allow(A, 0.0, "", NOW)
    assert store.allowlist.disallow(A) is True
    assert store.allowlist.disallow(A) is False
    assert store.allowlist.entries(NOW) == []


def test_a_full_allowlist_refuses(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowlist, "ALLOWED", 2)
    store.allowlist.allow("198.51.100.1", 0.0, "", NOW)
    store.allowlist.allow("198.51.100.2", 0.0, "", NOW)
    with pytest.raises(RefusedError, match="2 entries") as caught:
        store.allowlist.allow("198.51.100.3", 0.0, "", NOW)
    assert caught.value.hint
    store.allowlist.allow("198.51.100.2", 0.0, "changed", NOW)
    assert [a.note for a in store.allowlist.entries(NOW)] == ["", "changed"]
