import logging

import pytest

from throttled import skipped as module
from throttled.errors import StoreError
from throttled.skipped import Skipped


def odd(number: int) -> int:
    if number % 2:
        raise ValueError(f"odd: {number}")
    return number


def test_run_skips_what_raises() -> None:
    skipped, seen = Skipped(), []
    skipped.run("number", range(8), lambda n: seen.append(odd(n)))
    assert seen == [0, 2, 4, 6]
    assert skipped.counts == {"number": 4}
    assert skipped.total() == 4


def test_each_skips_what_raises_and_does_the_rest_at_once() -> None:
    skipped = Skipped()
    parts = skipped.each("number", [2, 4, 5, 6, 8], lambda some: [odd(n) for n in some])
    assert [n for part in parts for n in part] == [2, 4, 6, 8]
    assert skipped.counts == {"number": 1}
    assert skipped.each("number", [2, 4], len) == [2]
    assert skipped.each("number", [], lambda _: odd(1)) == []
    assert skipped.counts == {"number": 2}


def test_what_is_foreseen_passes() -> None:
    def fail(_: object) -> None:
        raise StoreError("full")

    skipped = Skipped()
    with pytest.raises(StoreError):
        skipped.run("number", [1], fail)
    with pytest.raises(StoreError):
        skipped.each("number", [1, 2], fail)
    assert skipped.counts == {}


def test_each_kind_is_logged_once_in_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = 0.0
    monkeypatch.setattr(module, "monotonic", lambda: at)
    caplog.set_level(logging.INFO)
    skipped = Skipped()
    skipped.run("line", [1] * 1000, odd)
    assert len(caplog.records) == 2  # and its traceback
    assert "skipped a line: unexpected ValueError at test_skipped.py:" in caplog.text
    assert "in odd" in caplog.text
    caplog.clear()
    at = module._QUIET
    skipped.run("line", [1], odd)
    (record,) = caplog.records
    assert "(999 more since the last message)" in record.getMessage()
    skipped.run("decision", [1], odd)
    assert len(caplog.records) == 3


def test_text_of_strangers_is_escaped(caplog: pytest.LogCaptureFixture) -> None:
    Skipped().add("line", ValueError("\x1b[31m\n"), "\udcff\x1b" + "x" * 9999)
    text = caplog.records[0].getMessage()
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 1000


def test_many_kinds_take_no_more_room() -> None:
    skipped = Skipped()
    for number in range(3 * module._KINDS):
        skipped.add(f"kind{number}", ValueError())
    assert len(skipped._logged) <= module._KINDS
