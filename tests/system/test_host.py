"""A Postfix whose configuration changes, or is broken, while it is guarded."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.daemon.daemon import Daemon, daemon
from lab.daemon.watch import V4, answers
from lab.mail.postfix import Lab
from lab.network import netns

pytestmark = [pytest.mark.root, pytest.mark.postfix]

#: Seconds, of the minute after which the daemon looks at the host in any case.
AT_ONCE = 30.0


@pytest.fixture
def postfix(lab: Lab, tmp_path: Path) -> Path:
    """Return a copy of the configuration of the Postfix that runs."""
    return shutil.copytree(lab.mail.config, tmp_path / "postfix")


@pytest.fixture
def guard(lab: Lab, postfix: Path) -> Iterator[Daemon]:
    with daemon(lab.server, postfix) as made:
        yield made
    lab.server.run("nft", "flush", "ruleset")


def missing(main: Path) -> None:
    main.unlink()


def broken(main: Path) -> None:
    main.write_text("half a li")


def no_master(main: Path) -> None:
    main.with_name("master.cf").unlink()


@pytest.mark.parametrize("damage", [missing, broken, no_master])
def test_a_start_with_a_broken_configuration_protects_the_last_known_ports(
    lab: Lab, guard: Daemon, postfix: Path, damage: Callable[[Path], None]
) -> None:
    guard.start()
    assert guard.command("ban", V4, "--for", "1h").returncode == 0
    known = guard.command("check", "--no-visit")
    guard.stop()
    damage(postfix / "main.cf")
    lab.server.run("nft", "flush", "ruleset")
    guard.start()
    netns.until(lambda: not answers(lab, V4, 25), "the ban is active again")
    assert not answers(lab, V4, 587)
    warnings = [p.what for p in guard.status().health if p.key == "host"]
    assert f"{postfix} cannot be read: the last known services are used, ports 25, 465, 587" in (
        warnings
    )
    assert "no-ports" not in {p.key for p in guard.status().health}
    assert "Postfix, mx: port 25\n" in known.stdout


def test_a_first_start_with_a_broken_configuration_says_that_nothing_is_protected(
    guard: Daemon, postfix: Path
) -> None:
    whole = (postfix / "main.cf").read_text()
    broken(postfix / "main.cf")
    guard.start()
    assert "no-ports" in {p.key for p in guard.status().health}
    (postfix / "main.cf").write_text(whole)
    netns.until(
        lambda: "no-ports" not in {p.key for p in guard.status().health}, "seen at once", AT_ONCE
    )


def test_a_new_port_is_guarded_at_once(lab: Lab, guard: Daemon, postfix: Path) -> None:
    guard.start()
    assert "2525" not in lab.server.run("nft", "list", "ruleset").stdout
    master = postfix / "master.cf"
    with master.open("a") as file:  # in place
        file.write("2525 inet n - n - - smtpd\n")
    netns.until(
        lambda: "2525" in lab.server.run("nft", "list", "ruleset").stdout, "it is guarded", AT_ONCE
    )
    other = master.with_suffix(".new")  # another file, as editors do
    other.write_text(master.read_text() + "2626 inet n - n - - smtpd\n")
    other.rename(master)
    netns.until(
        lambda: "2626" in lab.server.run("nft", "list", "ruleset").stdout, "it is guarded", AT_ONCE
    )


def test_check_compares_what_postfix_listens_on_with_the_rules(
    guard: Daemon, postfix: Path
) -> None:
    def ports() -> str:
        found = json.loads(guard.command("check", "--json", "--no-visit").stdout)["problems"]
        (finding,) = (p for p in found if p["what"].startswith("ports: "))
        return f"{finding['state']}: {finding['what']}"

    assert ports() == "ok: ports: all on which Postfix listens are filtered: 25, 465, 587"
    guard.start()
    assert ports() == "ok: ports: all on which Postfix listens are filtered: 25, 465, 587"
    master = postfix / "master.cf"
    lines = master.read_text().splitlines(keepends=True)
    master.write_text("".join(line for line in lines if not line.startswith("submission ")))
    unfiltered = "fault: ports: Postfix listens on 587, which is not filtered"
    netns.until(lambda: ports() == unfiltered, "the rules are without it, Postfix is not")
    guard.stop()
    assert ports() == unfiltered


def test_check_tests_the_configured_backend_and_says_that_another_runs(guard: Daemon) -> None:
    guard.start()
    guard.configure('[firewall]\nbackend = "iptables"\n')
    shown = guard.command("check", "--no-visit").stdout
    assert "ok       firewall nftables: an element was added, found and removed again" in shown
    assert (
        "warning  the daemon runs with backend nftables, the configuration says iptables" in shown
    )
    assert " firewall iptables: " in shown  # and what is so of it, which depends on the host
    guard.configure("")
    guard.config.write_text('mode = "throttle"\n' + guard.config.read_text())
    shown = guard.command("check", "--no-visit").stdout
    assert "the daemon runs in mode enforce, the configuration says throttle" in shown


def test_a_file_of_mynetworks_is_followed(lab: Lab, guard: Daemon, postfix: Path) -> None:
    trusted = postfix / "trusted"
    trusted.write_text("198.51.100.0/24\n")
    with (postfix / "main.cf").open("a") as main:
        main.write(f"mynetworks = {trusted}\n")
    guard.start()
    trusted.write_text("198.51.100.0/24 203.0.113.64/26\n")
    netns.until(
        lambda: "203.0.113.64/26" in lab.server.run("nft", "list", "ruleset").stdout,
        "it is followed",
        AT_ONCE,
    )
