"""Text of clients disturbs no terminal, and misleads no reader."""

import pytest

from throttled.printable import blanked, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, 100 %", "plain text, 100 %"),
        ("caf\xe9 漢", "caf\xe9 漢"),
        ("\x1b[31mred\x07\x7f\x9b", r"\x1b[31mred\x07\x7f\x9b"),
        ("a\nb\tc\rd", r"a\x0ab\x09c\x0dd"),
        ("abc\u202edef\u2066", r"abc\u202edef\u2066"),
        ("\u05d0\u0627\u0661", r"\u05d0\u0627\u0661"),
        ("e\u0301", r"e\u0301"),
        ("\u200b\ufeff\u2028\xa0", r"\u200b\ufeff\u2028\xa0"),
        ("\U000e0041", r"\ue0041"),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
    ],
)
def test_text_of_strangers_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_what_cannot_be_printed_is_replaced_in_a_line() -> None:
    assert blanked("caf\xe9") == "caf\xe9"
    assert blanked("a\nb\x1b[31m") == "a b [31m"
    assert blanked("na\tme", "?") == "na?me"
