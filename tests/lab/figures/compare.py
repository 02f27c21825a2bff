"""Figures of docs/comparison.md: throttled beside fail2ban, sshguard, CrowdSec and anvil.

Each tool does the same in turn, in one run on one machine: the ratios count. Owns nothing.
"""

import contextlib
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from lab.figures import latency, rivals
from lab.figures.rig import Options, Row, addresses, quantiles, rig
from lab.figures.rivals import CROWDSEC, FAIL2BAN, SSHGUARD, Ours, Setup, Tool, rival
from lab.mail.postfix import lab
from lab.network import netns
from lab.network.netns import SERVER4
from throttled.decide.session import Scale, Session
from throttled.parse.parser import Parser
from throttled.settings import Points

SAMPLES = Path(__file__).parents[2] / "samples"
OFFENDERS = 5_000
_BOUND = 180.0  # until all offenders are banned

_DEFAULT, _POLLING, _NFTABLES, _ALLPORTS = FAIL2BAN
#: All of what is measured, and the ones of which everything is.
_ALL = (_DEFAULT, _POLLING, _NFTABLES, _ALLPORTS, SSHGUARD, CROWDSEC)
_EACH = (_DEFAULT, _NFTABLES, SSHGUARD, CROWDSEC)

#: Makes a tool whose first bans last so many seconds.
Make = Callable[[int], AbstractContextManager[Tool]]


def compare(options: Options) -> list[Row]:
    """Measure every tool, and say who does better than throttled."""
    with rivals.unpacked() as root:
        return [
            *_compared(root, _ALL, partial(_latency, trials=min(options.trials, 30)), "seconds"),
            *_compared(root, _EACH, _offenders, "seconds"),
            *_compared(root, _EACH, _kept, "lost"),
            *_compared(root, _EACH, _leaked, "left"),
            *anvil(),
            *kinds(root),
        ]


def _compared(
    root: Path, setups: Sequence[Setup], measure: Callable[[Make], Row], less: str
) -> Iterator[Row]:
    """Yield a row of ours and one of each rival, which is to have no less of `less`."""
    ours = measure(_ours)
    yield ours
    for setup in setups:
        row = measure(partial(_rival, setup, root))
        row.target = "no less than throttled"
        row.ok = row.values[less] >= ours.values[less]
        yield row


@contextlib.contextmanager
def _ours(seconds: int) -> Iterator[Tool]:
    with rig(start=False) as at:
        more = f'[log]\nfiles = ["{at.log}"]\n[ban]\ntimes = ["{seconds}s", "1d"]\n'
        at.guard.configure(more)
        yield Ours(at)


def _rival(setup: Setup, root: Path, seconds: int) -> AbstractContextManager[Tool]:
    return rival(setup, root, seconds)


def _latency(make: Make, trials: int) -> Row:
    """The line that crosses the limit written → first packet dropped."""
    with make(3600) as tool, tool.log.open("a", buffering=1) as log:
        tool.start()
        values = []
        for source in latency.sources(trials if tool.every <= 1.0 else trials // 2):
            time.sleep(random.uniform(0.0, tool.every))  # not in step with what it does in turns
            log.write(rivals.offence(source, tool.failures - 1))
            values.append(latency.measure(log.write, tool.client, source, 60.0))
    median, p99 = quantiles(values)
    return Row(
        f"log line → first drop: {tool.name}",
        "",
        f"{median * 1e3:,.1f} / {p99 * 1e3:,.1f} ms ({len(values)} trials)",
        True,
        {"seconds": median, "p99": p99, "trials": len(values)},
    )


def _offenders(make: Make) -> Row:
    """5,000 offenders in a log at once."""
    sources = addresses(OFFENDERS)
    with make(3600) as tool:
        tool.start()
        before = rivals.cpu(tool)
        seconds, count = _ban(tool, sources)
        used = rivals.cpu(tool) - before
    return Row(
        f"{len(sources):,} offenders at once: {tool.name}",
        "",
        f"{count:,} banned after {seconds:.1f} s, CPU {used:.1f} s",
        count == len(sources),
        {"seconds": seconds, "banned": count, "cpu": used},
    )


def _ban(tool: Tool, sources: Sequence[str]) -> tuple[float, int]:
    """Let all offend; return after how long all are banned, or the bound, and how many are."""
    text = "".join(rivals.offence(source, tool.failures) for source in sources)
    began = time.monotonic()
    rivals.append(tool, text)
    while True:
        count = _there(tool, sources)
        seconds = time.monotonic() - began
        if count == len(sources) or seconds > _BOUND:
            return seconds, count
        time.sleep(min(0.5, max(0.02, seconds / 20)))  # looking takes time from the tool


def _there(tool: Tool, sources: Sequence[str]) -> int:
    return len(set(tool.banned()).intersection(sources))


def _kept(make: Make) -> Row:
    """What is left of 1,000 bans after kill -9 and a start, after a flush, and after a stop."""
    sources = addresses(1_000)
    with make(3600) as tool:
        tool.start()
        _, banned = _ban(tool, sources)
        tool.kill()
        _bans(tool.start)
        time.sleep(10.0)
        still_banned = tool.banned()
        restarted = len(set(still_banned).intersection(sources))
        doubles = len(still_banned) - len(set(still_banned))
        tool.server.run("nft", "flush", "ruleset", seconds=120.0)
        time.sleep(10.0)
        flushed = _there(tool, sources)
        works = _bans(partial(rivals.canary, tool, 25.0))
        tool.stop()
        stopped = _there(tool, sources)
    return Row(
        f"{banned:,} bans: {tool.name}",
        "",
        f"{restarted:,} after kill -9 and start ({doubles:,} twice), {flushed:,} after a flush "
        f"({'bans' if works else 'BANS NOBODY'} since), {stopped:,} when stopped",
        True,
        {
            "lost": 2 * len(sources) - restarted - flushed,
            "banned": banned,
            "restarted": restarted,
            "doubles": doubles,
            "flushed": flushed,
            "works": works,
            "stopped": stopped,
        },
    )


def _bans(tried: Callable[[], object]) -> bool:
    try:
        tried()
    except TimeoutError:
        return False
    return True


def _leaked(make: Make) -> Row:
    """Bans of 20 s, all processes killed and not started again: what is left after 30 s."""
    sources = addresses(20)
    with make(20) as tool:
        tool.start()
        _, banned = _ban(tool, sources)
        tool.kill()
        time.sleep(30.0)
        left = _there(tool, sources)
    return Row(
        f"20 bans of 20 s, killed: {tool.name}",
        "",
        f"{left} of {banned} still banned after 30 s",
        True,
        {"left": left, "banned": banned},
    )


_LIMIT, _CONNECTIONS = 10, 300


def anvil() -> list[Row]:
    """A rate limit of Postfix's own: what the refused connections cost the server."""
    with lab() as (server, client, mail):
        config = str(mail.config)
        server.run("postconf", "-c", config, "-e", f"smtpd_client_connection_rate_limit={_LIMIT}")
        mail.command("reload")
        first = mail.cpu()
        replies: Counter[bytes] = Counter()
        for _ in range(_CONNECTIONS):
            with client.connect("198.18.0.7", SERVER4, 25) as sock:
                replies[sock.recv(100)[:3]] += 1
        used = mail.cpu() - first
    refused = replies[b"421"]
    return [
        Row(
            f"{_CONNECTIONS} connections in a minute, {_LIMIT} allowed: anvil",
            "costs more than 0",
            f"{refused} refused with 421, each by an smtpd: {used / _CONNECTIONS * 1e3:.1f} ms of "
            "CPU a connection; nothing dropped",
            refused >= _CONNECTIONS - 2 * _LIMIT,
            {"refused": refused, "cpu": used / _CONNECTIONS},
        )
    ]


class Sample(NamedTuple):
    """A line of the corpus, marked with its number in place of its pid."""

    line: str
    kind: str  # as the corpus says, with the reason of a reject
    client: str  # empty where there is none


#: What each tool makes of the corpus: the client that it would blame for a line, by its number.
Blamed = dict[int, str]

_PID = re.compile(r"\[\d+\]: ")
_SPOOFED = "198.51.100.1"  # what the hostile lines want to have blamed
_ABUSE = (
    "auth_failure",
    "reject relay",
    "reject unknown_user",
    "reject syntax",
    "reject access",
    "reject dnsbl",
    "reject protocol",
    "too_many_errors",
    "non_smtp_command",
    "pipelining",
    "bare_newline",
    "bad_address",
    "command_limit",
    "rate_limit",
    "concurrency_limit",
    "pregreet",
    "dnsbl",
    "denylisted",
)
_HANGUPS = ("lost_connection", "timeout", "hangup")
_HARMLESS = (
    *("accepted", "login", "connect", "passed", "screened", "peak", "saturated", "lines_lost"),
    *("queued", "active", "delivery", "removed", "expired", "held", "requeued"),
    *("reject temporary", "auth_failure temporary", "no event"),
)


def kinds(root: Path) -> list[Row]:
    """Which lines of tests/samples each takes for an offence, and whom it blames."""
    samples = _samples()
    text = "".join(f"{sample.line}\n" for sample in samples).encode("latin-1")
    with netns.directory("kinds") as home:
        path = home / "samples.log"
        path.write_bytes(text)
        blamed = {"throttled": _by_throttled(samples)}
        with rival(_DEFAULT, root) as tool:
            tool.start()
            for mode in ("more", "auth", "aggressive"):
                name = f"fail2ban, mode {mode}"
                said = tool.command(*_REGEX, str(path), f"postfix[mode={mode}]")
                blamed[name] = _by_fail2ban(said)
        with rival(SSHGUARD, root) as tool:
            tool.start()
            parser = f"/{rivals.LIBRARY}/sshg-parser"
            marked = tool.command("sh", "-c", f"{parser} -a <{path}")
            attacks = tool.command("sh", "-c", f"{parser} <{path}")
            blamed["sshguard"] = _by_sshguard(marked, attacks)
        with rival(CROWDSEC, root) as tool:
            tool.start()
            words = "cscli explain --verbose --type syslog --file"
            blamed["CrowdSec"] = _by_crowdsec(tool.command(*words.split(), str(path)))
    rows = [_understood(name, samples, each) for name, each in blamed.items()]
    for kind in (*_ABUSE, *_HANGUPS, *_HARMLESS):
        which = [n for n, sample in enumerate(samples) if sample.kind == kind]
        count = {
            name: sum(n in each and samples[n].client in {"", each[n]} for n in which)
            for name, each in blamed.items()
        }
        entry = ", ".join(f"{name} {number}" for name, number in count.items())
        rows.append(Row(f"{kind}, {len(which)} lines", "", entry, True, {**count}))
    return rows


def _understood(name: str, samples: Sequence[Sample], blamed: Blamed) -> Row:
    """Return how many abusive lines a tool blames on their client, and what it gets wrong."""
    abuse = [n for n, each in enumerate(samples) if each.kind in _ABUSE]
    right = sum(blamed.get(n) == samples[n].client for n in abuse)
    wrong = [n for n, who in blamed.items() if who != samples[n].client and samples[n].client]
    spoofed = sum(blamed[n] == _SPOOFED for n in wrong)
    harmless = [n for n, each in enumerate(samples) if each.kind in _HARMLESS]
    alarms = sum(n in blamed for n in harmless)
    return Row(
        f"abusive lines understood: {name}",
        "" if name == "throttled" else "less than two thirds",
        f"{right} of {len(abuse)}; {len(wrong)} blame another ({spoofed} whom the client chose); "
        f"{alarms} of {len(harmless)} harmless lines are offences",
        right < len(abuse) * 2 // 3 or name == "throttled",
        {"right": right, "wrong": len(wrong), "spoofed": spoofed, "alarms": alarms},
    )


def _samples() -> list[Sample]:
    """Read the corpus; lines without a pid cannot be marked and are left out."""
    samples: list[Sample] = []
    for path in sorted(SAMPLES.glob("*.txt")):
        line = ""
        for text in path.read_bytes().decode("latin-1").split("\n"):
            if text.startswith("=") and _PID.search(line) and " sshd[" not in line:
                kind, client, *_ = [*text[2:].split(), ""]
                if kind in {"no", "unknown"} or client == "-":
                    client = ""
                reason = re.search(r" reason=(\w+)", text)
                if reason and (kind == "reject" or reason[1] == "temporary"):
                    kind += f" {reason[1]}"
                marked = _PID.sub(f"[{len(samples)}]: ", line, count=1)
                kind = "no event" if kind == "no" else kind
                samples.append(Sample(marked.rstrip("\r"), kind, client))
            if text and not text.startswith(("[", "#")):
                line = text
    return samples


_REGEX = ("fail2ban-regex", "--encoding=latin-1", "-o", "<ip>\t<matches>")


def _by_throttled(samples: Sequence[Sample]) -> Blamed:
    """Return the lines that count against a client: as a failed login, or with points."""
    parser = Parser(UTC, datetime(2026, 11, 22, 23, 59, tzinfo=UTC).timestamp())
    scale = Scale(Points())
    blamed = {}
    for number, sample in enumerate(samples):
        event = parser.event(sample.line)
        if event is None:
            continue
        guessed = event.kind == "auth_failure" and event.reason != "temporary"
        weighed = event.kind in Scale.kinds() and scale.error(Session(event.client), event) > 0
        if guessed or weighed:
            blamed[number] = event.client
    return blamed


def _by_fail2ban(said: str) -> Blamed:
    matches = re.findall(r"^([0-9a-f.:]+)\t.*?\[(\d+)\]: ", said, re.MULTILINE)
    return {int(number): who for who, number in matches}


def _by_sshguard(marked: str, attacks: str) -> Blamed:
    """Take the marked lines and the attacks together: an attack each, in the same order."""
    numbers = re.findall(r"^\* .*?\[(\d+)\]: ", marked, re.MULTILINE)
    clients = [line.split()[1] for line in attacks.splitlines() if re.match(r"\d+ \S+ [46] ", line)]
    return {int(number): who for number, who in zip(numbers, clients, strict=True)}


def _by_crowdsec(said: str) -> Blamed:
    """Take what went into a scenario, with the address that its parser took for the source."""
    blamed = {}
    for entry in said.split("line: ")[1:]:
        number = re.search(r"\[(\d+)\]: ", entry)
        who = re.search(r"source_ip\S* : (\S+)", entry)
        if number and who and re.search(r"Scenarios\s.*crowdsecurity/post", entry, re.DOTALL):
            blamed[int(number[1])] = who[1]
    return blamed
