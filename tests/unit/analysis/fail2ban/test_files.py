"""Filters put together from fail2ban's files: the same as fail2ban itself has."""

from pathlib import Path

import pytest

from lab.programs import fail2ban
from throttled.analysis.fail2ban import files

DIRECTORY = Path("/etc/fail2ban/filter.d")


def text_of(name: str) -> str:
    path = DIRECTORY / name
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    "filter_",
    [
        *(f"postfix[mode={m}]" for m in ("normal", "auth", "rbl", "more", "ddos", "aggressive")),
        "postfix",
        "dovecot",
        "dovecot[mode=aggressive]",
        "exim",
        "sendmail-auth",
    ],
)
def test_as_fail2ban_itself(tmp_path: Path, filter_: str) -> None:
    local = f"[sshd]\nenabled = false\n[mine]\nenabled = true\nlogpath = /x\nfilter = {filter_}\n"
    theirs = fail2ban.enabled(fail2ban.configured(tmp_path / "fail2ban", local))["mine"]
    ours = files.expressions(filter_, text_of)
    assert (ours.prefix, ours.fails, ours.ignored) == (theirs.prefix, theirs.fails, theirs.ignored)


def test_what_stands_for_what() -> None:
    texts = {
        "a.conf": (
            "[INCLUDES]\nbefore = b.conf\nafter = c.local\n[DEFAULT]\nx = 1\n"
            "[Definition]\nfailregex = <re-<mode>> %(y)s <HOST> <z>\n  %(s/k)s <s/k>\n"
            "re-m = M%(x)s\nmode = m\nloop = <loop>\n"
        ),
        "a.local": "[Definition]\nx = 2\n",
        "b.conf": "[Definition]\ny = B\nx = 0\n[s]\nk = K\n",
        "c.local": "[Definition]\ny = C\n",
    }
    found = files.expressions("a", lambda name: texts.get(name, ""))
    assert found.fails == ["M2 C <HOST> <z>", "K K"]
    found = files.expressions("a[re-m='q, r', mode=m]", lambda name: texts.get(name, ""))
    assert found.fails[0] == "q, r C <HOST> <z>"
    assert files.expanded("<a>", {"a": "<a><a>"}, {}).count("<a>") < 100_001
    assert files.expanded("<a>", {"a": "<b>", "b": "<a>"}, {}) in ("<a>", "<b>")


@pytest.mark.parametrize("filter_", ["none", "[x", "a b"])
def test_what_is_no_filter(filter_: str) -> None:
    with pytest.raises(ValueError, match="no filter"):
        files.expressions(filter_, lambda _name: "")


def test_files_that_include_each_other_end() -> None:
    with pytest.raises(ValueError, match="no filter"):
        files.expressions("a", lambda _name: "[INCLUDES]\nbefore = a.conf\n")
    with pytest.raises(ValueError, match="no section headers"):
        files.parsed("nonsense")
