"""fail2ban's filters: the same as fail2ban's own, on the samples of Postfix's lines."""

import subprocess
from pathlib import Path

import pytest

from lab.programs import fail2ban
from throttled.analysis.fail2ban import filters
from throttled.analysis.fail2ban.filters import Filter
from throttled.analysis.fail2ban.jails import Jail

SAMPLES = Path(__file__).parents[3] / "samples"
STAMP = "Nov 22 14:16:45"


def lines() -> list[str]:
    """Return what follows the time of sample lines."""
    found = []
    for path in SAMPLES.glob("*.txt"):
        for line in path.read_text("latin-1").splitlines():
            at = line.find(" postfix")
            if at > 0 and line[at:].find("]: ") > 0 and line.isascii():
                found.append(f" mx{line[at:]}")
    return found


@pytest.mark.parametrize("mode", ["normal", "auth", "rbl", "ddos", "more", "extra", "aggressive"])
def test_as_fail2ban_itself(tmp_path: Path, mode: str) -> None:
    local = f"[sshd]\nenabled = false\n[postfix]\nenabled = true\nmode = {mode}\n"
    conf = fail2ban.configured(tmp_path / "fail2ban", local)
    ours = Filter(fail2ban.enabled(conf)["postfix"])
    tried = lines()
    assert len(tried) > 100
    log = tmp_path / "mail.log"
    log.write_text("".join(f"{STAMP}{line}\n" for line in tried))
    filter_ = f"{conf}/filter.d/postfix.conf[mode={mode}]"
    theirs = subprocess.run(
        [*("fail2ban-regex", "-o", "<ip> <msg>", "--usedns", "no"), log, filter_],
        capture_output=True,
        text=True,
        check=True,
    )
    expected = sorted(row.split()[0] for row in theirs.stdout.splitlines() if row.strip())
    assert sorted(filter(None, map(ours.client, tried))) == expected
    assert expected or mode == "rbl"


def test_tags() -> None:
    jail = Jail(
        "x",
        prefix=r"^\w+: <F-CONTENT>.+</F-CONTENT>$",
        fails=[
            r"^user=<F-USER>\S*</F-USER> from <ADDR>$",
            r"^((?i)FAILED) <F-ID/> by \[?<HOST>\]?$",
            r"^<F-NOFAIL>ok</F-NOFAIL> <HOST>$",
            r"^two <IP4> <IP4>$",
            r"^name <DNS>$",
        ],
        ignored=["monitor"],
    )
    made = Filter(jail)
    assert made.client("a: user=bob from 198.51.100.7") == "198.51.100.7"
    assert made.client("a: failed x by [2001:DB8::7]") == "2001:db8::7"
    assert made.client("a: ok 198.51.100.7") == ""
    assert made.client("a: two 198.51.100.7 198.51.100.8") == "198.51.100.7"
    assert made.client("a: name host.example.com") == ""
    assert made.client("a: user=monitor from 198.51.100.7") == ""
    assert made.client("a: user=bob from 198.51.100.777") == ""
    assert made.client("nothing") == ""
    assert Filter(Jail("y", fails=["<HOST>"])).client("198.51.100.7") == "198.51.100.7"


def test_an_expression_that_is_none() -> None:
    with pytest.raises(ValueError, match="filter of x: "):
        Filter(Jail("x", fails=["("]))
    assert filters.translated("<not-a-tag> <UNKNOWN>") == "<not-a-tag> <UNKNOWN>"
