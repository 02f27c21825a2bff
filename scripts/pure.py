"""The pure modules, and their own tests, which cover all of them; run, it prints those tests."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "throttled"
PURE = (
    "address.py",
    "duration.py",
    "facts.py",
    "histogram.py",
    "limits.py",
    "log_paths.py",
    "model.py",
    "printable.py",
    "settings.py",
    "subjects.py",
    "parse",
    "maincf",
    "decide",
    "analysis/fail2ban/advice.py",
    "analysis/fail2ban/files.py",
    "analysis/fail2ban/filters.py",
    "analysis/fail2ban/jails.py",
    "config/checks.py",
    "config/places.py",
    "control/admission.py",
    "control/bulk.py",
    "control/canonical.py",
    "control/fields.py",
    "control/requests.py",
    "control/results.py",
    "control/wire.py",
    "core/explain.py",
    "enforce/admission/ipset_rules.py",
    "enforce/admission/layout.py",
    "enforce/admission/nft_rules.py",
    "enforce/admission/protocol.py",
    "enforce/allowance.py",
    "enforce/batch.py",
    "enforce/cover.py",
    "enforce/entries.py",
    "enforce/iptables/messages.py",
    "enforce/iptables/ruleset.py",
    "enforce/nftables/messages.py",
    "enforce/nftables/ruleset.py",
    "enforce/sets.py",
    "enforce/xdp/layout.py",
    "fleet/frames.py",
    "fleet/wire.py",
    "linux/netlink.py",
    "notify/line.py",
    "sources/sensor_maps.py",
    "store/good.py",
    "tail/backoff.py",
    "tail/lines.py",
    "tail/position.py",
)
#: Those of them of which some lines are run by generated inputs (hypothesis) alone.
GENERATED = (
    "control/canonical.py",
    "decide/guessing.py",
    "decide/owners.py",
    "decide/queue.py",
    "decide/tables.py",
    "fleet/frames.py",
    "parse/message.py",
    "parse/policy_request.py",
)


def modules() -> list[Path]:
    """Return the modules of the pure rooms."""
    found = []
    for name in PURE:
        path = PACKAGE / name
        found += sorted(path.glob("*.py")) if path.is_dir() else [path]
    return [path for path in found if path.name != "__init__.py"]


def test_of(module: Path) -> Path:
    """Return the file of a module's own tests."""
    return ROOT / "tests" / "unit" / module.parent.relative_to(PACKAGE) / f"test_{module.name}"


if __name__ == "__main__":
    for path in sorted({test_of(module) for module in modules()}):
        print(path.relative_to(ROOT))
