"""A document against the schema, key by key."""

from typing import Any

import pytest

from throttled.config import validate
from throttled.config.describe import DURATION
from throttled.duration import Duration

GOOD: list[dict[str, Any]] = [
    {},
    {"mode": "observe", "log": {}, "limits": {}},
    {"log": {"files": ["/a"], "journal": False}},
    {"postfix": {"scopes": {"postfix/2525": "submission"}}},
    {"limits": {"x": {"count": "errors", "within": "1m", "soft": None, "mx": {"hard": 3}}}},
    {"firewall": {"ports": {"mx": [25]}}},
]


@pytest.mark.parametrize("document", GOOD, ids=str)
def test_good(document: dict[str, Any]) -> None:
    assert list(validate.errors(document)) == []


_COUNTED = {"count": "errors", "within": "1m"}
BAD: list[tuple[dict[str, Any], str, str]] = [
    ({"mode": "enfroce"}, "mode", 'must be "enforce", "observe" or "throttle"'),
    ({"max_clients": 999}, "max_clients", "must be a whole number from 1000 to 10000000"),
    ({"max_client": 1}, "max_client", "unknown; did you mean max_clients?"),
    ({"zzzz": 1}, "zzzz", "unknown; there are mode, max_clients, log,"),
    ({"within": "1m"}, "within", "unknown here; it belongs under [limits.NAME]"),
    ({"soft": 1}, "soft", "unknown here; it belongs under [limits.NAME] or [network]"),
    ({"log": {"hosts": []}}, "log.hosts", "unknown here; it belongs under [postfix]"),
    ({"log": 3}, "log", "must be a table with files, journal and containers"),
    ({"limits": []}, "limits", "must be a table, each value a table with count"),
    ({"limits": {"errors": {**_COUNTED, "for_": {}}}}, "limits.errors.for_", "did you mean for?"),
    ({"limits": {"x": {**_COUNTED, "for": {"a": 1}}}}, "limits.x.for.a", "must be a table with s"),
    ({"limits": {"x": 3}}, "limits.x", "must be a table with count, within, of, soft"),
    ({"limits": {"Errors": {"hard": 3}}}, "limits.Errors", "no such limit; did you mean errors?"),
    ({"limits": {"auth-usr": {}}}, "limits.auth-usr", "no such limit; did you mean auth-users?"),
    ({"postfix-sasl": {"enabled": True}}, "postfix-sasl", "a section of fail2ban; here it is"),
    ({"ban": {"BanTime": "1h"}}, "ban.BanTime", "a word of fail2ban; here it is [ban] times"),
    ({"postfix": {"ignoreip": []}}, "postfix.ignoreip", "[protect] networks"),
    ({"limits": {"x": {"within": "1m"}}}, "limits.x", 'count is missing; it must be "auth_'),
    ({"limits": {"x": {"count": "errors"}}}, "limits.x", "within is missing; it must be a du"),
    ({"limits": {"X": {"count": "errors", "within": "1m"}}}, "limits.X", "the name must be a name"),
    ({"postfix": {"scopes": {"a": "b"}}}, "postfix.scopes.a", 'must be "mx" or "submission"'),
    ({"postfix": {"scopes": {"a b": "mx"}}}, "postfix.scopes.a b", "the name must be a syslog"),
    ({"postfix": {"scopes": 1}}, "postfix.scopes", "must be a table, each value"),
    ({"throttle": {"per": 60}}, "throttle.per", f"must be {DURATION}"),
    ({"throttle": {"per": "0s"}}, "throttle.per", f"must be {DURATION}"),
    ({"throttle": {"rate": True}}, "throttle.rate", "must be a whole number from 1 to 100000"),
    ({"firewall": {"ports": {"mx": [0]}}}, "firewall.ports.mx", "whole number from 1 to 65535"),
    ({"firewall": {"ports": [25]}}, "firewall.ports", '"auto" or a table with mx and submission'),
    ({"log": {"files": {"a": 1}}}, "log.files", '"auto" or a list, each item an absolute path'),
]  # fmt: skip


@pytest.mark.parametrize(("document", "key", "what"), BAD, ids=range(len(BAD)))
def test_bad(document: dict[str, Any], key: str, what: str) -> None:
    [(at, message)] = validate.errors(document)
    assert ".".join(at) == key
    assert what in message


def test_every_fault_is_found() -> None:
    document = {"mode": 1, "log": {"x": 1, "files": 2}, "limits": {"a": {}, "b": {"soft": 0}}}
    keys = [".".join(at) for at, _ in validate.errors(document)]
    assert keys == [
        "mode", "log.x", "log.files", "limits.a", "limits.a",
        "limits.b.soft", "limits.b", "limits.b",
    ]  # fmt: skip


def test_too_many_names_are_one_fault_of_their_table() -> None:
    limits = {f"x{n}": {"count": "errors", "within": "1m"} for n in range(65)}
    [(at, message)] = validate.errors({"limits": limits})
    assert at == ("limits",)
    assert message == "must be a table of at most 64"


def test_to_duration() -> None:
    assert validate.to_duration(Duration, "90s") == 90.0
    with pytest.raises(ValueError, match="not a duration"):
        validate.to_duration(Duration, 90)
    with pytest.raises(ValueError, match="not a duration"):
        validate.to_duration(complex, "90s")
