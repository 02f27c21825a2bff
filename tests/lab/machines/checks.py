"""What is checked in each machine, in this order: each leaves the machine as the next needs it.

A check returns nothing, or a few words for the table. It fails by an exception with a text.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from shlex import quote
from typing import NamedTuple

from lab.machines.guest import Failed
from lab.machines.knock import Knocks, knock_while
from lab.machines.site import CONFIG, PACKAGE, PATIENCE, SHARE, TREE, Site
from lab.machines.strangers import by_bpf, strangers
from lab.mail.asking import check
from lab.mail.bots import Bot
from lab.network.netns import SERVER4

_DROP_IN = "/etc/systemd/system/throttled.service.d/xdp.conf"
_EXAMPLE = f"/usr/share/doc/{PACKAGE}/examples/xdp.conf"

#: Of it the second message above the limit would wait for longer than Postfix lets it.
_LIMIT = """
[limits.machines]
of = "inside"
count = "messages"
within = "1h"
soft = 2
mode = "throttle"
throttle = { rate = 1, per = "1m", burst = 1 }
"""
_QUEUED = "/run/systemd/system/throttled.service.d/queue.conf"

_TESTS = "/var/tmp/tests"
#: The tests start `throttled` from beside their Python. Debian's packages come after the wheels.
_VENV = f"""\
python3 -m venv --without-pip --system-site-packages venv
printf '%s\\n' {_TESTS}/python {_TESTS} >$(echo venv/lib/python3.*/site-packages)/tests.pth
cat >venv/bin/throttled <<'END'
#!{_TESTS}/venv/bin/python
from throttled.cli.main import main
main()
END
chmod +x venv/bin/throttled"""


class Check(NamedTuple):
    """A line of the table."""

    name: str
    run: Callable[[Site], str | None]
    needed: bool = False  # without it no other check makes sense


def _install(site: Site) -> str:
    site.run(f"mkdir -p /{SHARE} && mount -t 9p -o trans=virtio,version=9p2000.L {SHARE} /{SHARE}")
    if site.guest.succeeds("command -v rsyslogd"):
        raise Failed("rsyslog is installed: the image is not what it should be")
    site.run("postfix status")
    site.install(site.tree)
    tails = [tail["path"] for tail in site.json("status")["tails"]]
    if tails != ["journal"]:
        raise Failed(f"the log is read from {tails}, not from the journal")
    kernel, postfix, nft, python = site.run(
        "uname -r; postconf -h mail_version; nft --version; python3 --version"
    ).splitlines()
    return f"Linux {kernel}, Postfix {postfix}, {nft.partition(' (')[0]}, {python}"


def _check(site: Site) -> str:
    site.run("throttled check")
    findings = site.json("check")["problems"]
    return f"{len(findings)} findings, {sum(each['state'] != 'ok' for each in findings)} warnings"


def _abuse(site: Site) -> str:
    for v6 in (False, True):
        for kind in ("garbage", "relay"):
            site.attack(site.source(v6=v6), kind)
        site.good(v6=v6)
    return "garbage, relay"


def _sensor(site: Site) -> str:
    what: str = site.json("status")["sensor"]["what"]
    if what != "completed handshakes are counted at ports 25":
        raise Failed(what)
    source = site.source()
    site.good()
    with site.client.connect(source, SERVER4, 25, 30.0) as connection:
        connection.recv(100)
    script = (
        "import json, sys; "
        'sys.exit(not any(m["value"] for m in json.load(sys.stdin)["meters"] if m["kernel"]))'
    )
    site.until(
        f"throttled explain {source} --json | python3 -c '{script}'",
        "the kernel has counted a handshake",
    )
    return what


def _asked(site: Site) -> str:
    """Let Postfix ask about an inside host's mail, and read its queue in the unit's sandbox."""
    source = site.source()
    site.run(f"cp -p {CONFIG} /etc/postfix/main.cf /var/tmp")
    back = (
        f"postsuper -d ALL; rm -f {_QUEUED}; systemctl daemon-reload; postfix reload;"
        f"mv /var/tmp/main.cf /etc/postfix; mv /var/tmp/throttled.toml {CONFIG};"
        f"postfix reload; systemctl restart throttled; throttled unban {source}"
    )
    with site.undone(back):
        site.run(f"printf %s {quote(_LIMIT)} >>{CONFIG}")
        inside, asks = f"mynetworks=127.0.0.0/8 {source}/32", f"smtpd_data_restrictions={check()}"
        site.run(f"postconf -e {quote(inside)} {quote(asks)}")
        site.run("postfix reload; systemctl restart throttled")
        Bot(site.client, "sender", 3.0, [source], PATIENCE).report()
        site.until("postqueue -p | grep -q '^[0-9A-F]*!'", "mail above the limit is on hold")
        site.run(f"throttled list {source} --action throttle")
        held = int(site.run("postqueue -p | grep -c '^[0-9A-F]*!'"))
        # What the unit starts has its sandbox.
        queue_id = site.run("postqueue -p | sed -n '/^[0-9A-F]*!/{s/!.*//p;q}'").strip()
        commands = f"ExecStartPost=postqueue -p\\nExecStartPost=postcat -e -q {queue_id}\\n"
        site.run(f"mkdir -p {_QUEUED.rpartition('/')[0]}")
        site.run(f"printf '[Service]\\n{commands}' >{_QUEUED}; systemctl daemon-reload")
        site.run("systemctl restart throttled || { journalctl -q -u throttled -n 15; false; }")
        # A job that waits for the mail would keep a boot from its end.
        site.run("systemctl is-active throttled-release && ! systemctl list-jobs | grep throttled")
        site.run("throttled mail release --all --yes")
        site.until("systemctl is-active throttled-release | grep -qx inactive", "it ended")
        site.run("! postqueue -p | grep '^[0-9A-F]*!'; ! ls -A /var/lib/throttled/on-hold | grep .")
    return f"{held} messages on hold and released"


def _limits(site: Site) -> str:
    """Change a limit of Postfix, and revert that."""
    name = "smtpd_hard_error_limit"
    before = site.run("cat /etc/postfix/main.cf")
    rows = len(site.json("postfix")["instances"][0]["rows"])
    site.run(f"throttled postfix set {name}=30 --yes")
    if site.run(f"postconf -h {name}").strip() != "30":
        raise Failed(f"{name} is not changed")
    site.good()
    site.run("throttled postfix undo --yes")
    if (after := site.run("cat /etc/postfix/main.cf")) != before:
        raise Failed(f"not reverted:\n{after}")
    return f"{rows} limits"


def _journal(site: Site) -> str:
    """Look at what the daemon logged since it was installed: no errors."""
    ours = "journalctl -q -o cat _SYSTEMD_UNIT=throttled.service"
    found = site.run(f"{ours} -p err; {ours} | grep -E 'Traceback|not attributed' || true").strip()
    if found:
        raise Failed(found)
    if skipped := site.json("status")["skipped"]:
        raise Failed(f"skipped: {skipped}")
    return f"{len(site.run(f'{ours} -p warning').splitlines())} warnings"


def _iptables(site: Site) -> str:
    site.run("apt-get install --yes iptables ipset python3-iptables", 900.0)
    for name in ("iptables", "ip6tables"):
        site.run(f"update-alternatives --set {name} /usr/sbin/{name}-legacy")
    with site.backend("iptables"):
        for v6 in (False, True):
            site.attack(site.source(v6=v6))
            site.good(v6=v6)
        site.run("throttled check")
        return f"{site.run('iptables -V').strip()}; {_restarted(site)}"


def _xdp(site: Site) -> str:
    site.run(f"install -D -m644 {_EXAMPLE} {_DROP_IN} && systemctl daemon-reload")
    back = f"rm {_DROP_IN}; systemctl daemon-reload; systemctl start throttled"
    # The unit without the drop-in may not take the program away.
    with (
        site.undone(f"systemctl stop throttled; throttled purge --yes; {back}"),
        site.backend("xdp"),
    ):
        for v6 in (False, True):
            site.attack(site.source(v6=v6))
            site.good(v6=v6)
        by_bpf(site)
        site.run("throttled check")
        return _restarted(site)


def _unban(site: Site) -> None:
    for v6 in (False, True):
        source = site.source(v6=v6)
        site.attack(source)
        site.run(f"throttled unban {source}")
        site.reachable(source)


def _kill(site: Site) -> str:
    source = site.source()
    site.attack(source)
    restarts = int(site.show("NRestarts"))
    with _knocking(site, source) as knocks:
        site.run("kill -9 $(systemctl show --value -p MainPID throttled)")
        site.until(
            f"[ $(systemctl show --value -p NRestarts throttled) -gt {restarts} ] "
            "&& systemctl is-active --quiet throttled",
            "systemd started it again",
        )
    site.run(f"throttled list {source} --action ban")
    site.attack(site.source(v6=True))
    return _unanswered(knocks)


def _flush(site: Site) -> str:
    source = site.source()
    site.attack(source)
    with _knocking(site, source) as knocks:
        site.run("nft flush ruleset")
        site.stopped(source)
    site.attack(site.source(v6=True))
    return f"{knocks[0].answered} of {knocks[0].sent} SYNs answered until it was restored"


def _reboot(site: Site) -> str:
    source = site.source()
    site.attack(source)
    return _restarted(site, source)


def _restarted(site: Site, source: str = "") -> str:
    """Reboot; none of a banned source's SYNs may be answered, and the rest is as before."""
    if not source:
        source = site.source()
        site.attack(source)
    with _knocking(site, source) as knocks:
        site.guest.reboot()
        site.run(f"mount -t 9p -o trans=virtio,version=9p2000.L {SHARE} /{SHARE}")
        site.reachable(site.source())
        site.stopped(source)
    site.run("systemctl is-active throttled && throttled check")
    site.attack(site.source(v6=True))
    return f"reboot: {_unanswered(knocks)}"


def _upgrade(site: Site) -> str:
    site.run(f"apt-get purge --yes {PACKAGE}", 900.0)
    site.install(site.before)
    version = site.run(f"dpkg-query -W -f '${{Version}}' {PACKAGE}")
    source = site.source()
    site.attack(source)
    site.run(f"sed -i 's/^#per_session = .*/per_session = 9/' {CONFIG}")
    with _knocking(site, source) as knocks:
        site.install(site.tree)
    site.run(f"grep -qx 'per_session = 9.*' {CONFIG}")
    site.run(f"throttled list {source} --action ban && throttled check")
    site.attack(site.source(v6=True))
    return f"from {version}: {_unanswered(knocks)}"


def _remove(site: Site) -> None:
    source = site.source()
    site.attack(source)
    site.run(f"apt-get remove --yes {PACKAGE}", 900.0)
    site.reachable(source)
    if site.guest.succeeds("nft list ruleset | grep -q thr"):
        raise Failed(f"left in the kernel: {site.run('nft list ruleset')}")
    site.run(f"test -e /var/lib/throttled/throttled.db && test -e {CONFIG}")
    site.run("test ! -e /usr/lib/throttled && postfix status")


def _purge(site: Site) -> None:
    site.run("touch /etc/throttled/mine /var/lib/throttled/mine")
    site.run(f"apt-get purge --yes {PACKAGE}", 900.0)
    find = "find / -xdev -path '*throttled*' -not -path '/proc/*' -not -path '/var/log/journal/*'"
    left = set(site.run(find).split())
    mine = {f"/{place}/throttled" for place in ("etc", "var/lib")}
    mine |= {f"{place}/mine" for place in mine}
    if left != mine:
        raise Failed(f"left, or removed though not ours: {sorted(left ^ mine)}")
    if units := site.run("systemctl list-unit-files 'throttled*' --no-legend || true").strip():
        raise Failed(f"left: {units}")


def _tests(site: Site) -> str:
    """Run the tests of the backends with the machine's kernel, Python, nft and iptables."""
    site.run("systemctl stop throttled || true")  # purged, or not (`--only`)
    site.run(f"mkdir /tree {_TESTS}")
    site.run(f"mount -t 9p -o trans=virtio,version=9p2000.L {TREE} /tree")
    site.run(f"cp -r /{SHARE}/python {_TESTS}")  # imports over 9p take minutes
    site.run(f"cd /tree && cp -r pyproject.toml packaging scripts tests throttled {_TESTS}")
    site.run("apt-get install --yes iptables ipset python3-iptables libnftables1 libbpf1", 900.0)
    site.run(f"cd {_TESTS} && {_VENV}")
    pytest = "venv/bin/python -m pytest -q -p no:cacheprovider -o timeout=3000 --tb=short"
    output = site.run(f"cd {_TESTS} && {pytest} tests/kernel tests/contract; echo $?", 4 * 3600.0)
    *lines, code = output.strip().splitlines()
    if code != "0":
        raise Failed(output)
    return lines[-1]


@contextmanager
def _knocking(site: Site, source: str) -> Iterator[list[Knocks]]:
    """Send SYNs from a source throughout the block; the list has what became of them after it."""
    ended = threading.Event()
    found: list[Knocks] = []
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(knock_while, site.client, source, lambda _: not ended.is_set())
        try:
            yield found
        finally:
            ended.set()
            found.append(run.result(PATIENCE))


def _unanswered(knocks: list[Knocks]) -> str:
    """Return how many SYNs were sent, none of which may have been answered.

    Raises:
        Failed: some were.
    """
    (all_of_them,) = knocks
    text = f"{all_of_them.answered} of {all_of_them.sent} SYNs answered"
    if all_of_them.answered:
        raise Failed(text)
    return text


CHECKS = (
    Check("the .deb beside stock Postfix, journald only", _install, needed=True),
    Check("throttled check", _check),
    Check("nftables: abuse stopped, IPv4 and IPv6; good sender", _abuse),
    Check("sensor in the unit", _sensor),
    Check("strangers wait at the cap, by BPF in the unit", strangers),
    Check("unban", _unban),
    Check("Postfix asks; its queue is read in the unit", _asked),
    Check("throttled postfix", _limits),
    Check("kill -9", _kill),
    Check("nft flush ruleset", _flush),
    Check("reboot", _reboot),
    Check("xdp in the unit, and a reboot", _xdp),
    Check("iptables in the unit, and a reboot", _iptables),
    Check("no errors in the journal", _journal),
    Check("upgrade from the commit before", _upgrade),
    Check("remove", _remove),
    Check("purge", _purge),
)

#: With `--tests`: they take as long as all others.
TESTS = Check("kernel and contract tests", _tests)
