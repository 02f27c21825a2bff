"""The disk of a stock Debian machine, made once by mmdebstrap and stored in a cache.

The kernel, systemd, ifupdown and Postfix are as apt installs them, journald is the only logger. The
packages that a check installs later lie in apt's cache of the image, so that the machine needs no
network. Needs root, mmdebstrap and mkfs.ext4.

The differences from what Debian's installer leaves, each with its reason:

- qemu's guest agent runs commands, and `root` has no password: nobody can log in otherwise.
- /etc/network/interfaces has the addresses of the lab and no DNS: there is no other network.
- apt's, man-db's and e2scrub's timers are masked: they take minutes of an emulated core.
- No boot loader: qemu starts the kernel.
"""

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lab.machines.command import run
from lab.mail.postfix import DOMAIN, HOST, USER
from lab.network.netns import CLIENT4, CLIENT6, SERVER4, SERVER6, SOURCES4, SOURCES6

#: The releases, and the version of each one's Python.
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}

_INSTALLED = (
    *("linux-image-amd64", "systemd-sysv", "udev", "dbus", "kmod", "procps", "e2fsprogs"),
    *("ifupdown", "iproute2", "netbase", "logrotate", "nftables", "python3", "apparmor"),
    *("postfix", "qemu-guest-agent"),
)
#: A line of an apt source that names Debian's archive, in both formats.
_DEBIAN = r"^(?:URIs:|deb(?: \[[^]]*\])?) *(\S+/debian(?:-security)?)/?\s"
_SIZE = 6 * 2**30  # bytes of the disk; only what is written takes space
_MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer"),
    *("man-db.timer", "dpkg-db-backup.timer", "fstrim.timer"),
)
_INTERFACES = f"""\
auto lo eth0
iface lo inet loopback
iface eth0 inet static
    address {SERVER4}/24
    up ip route add {SOURCES4} via {CLIENT4}
iface eth0 inet6 static
    address {SERVER6}/64
    dad-attempts 0
    accept_ra 0
    up ip -6 route add {SOURCES6} via {CLIENT6}
"""
_FILES = {
    "etc/hostname": f"{HOST.partition('.')[0]}\n",
    "etc/hosts": f"127.0.0.1 localhost\n127.0.1.1 {HOST} {HOST.partition('.')[0]}\n::1 localhost\n",
    "etc/fstab": "/dev/vda / ext4 errors=remount-ro 0 1\n",
    "etc/network/interfaces": _INTERFACES,
    "etc/resolv.conf": "nameserver 127.0.0.1\n",  # answers no, at once
}
# What the package asked when it was installed in the chroot of another host is asked again.
_POSTFIX = rf"""\
mount -t proc proc /proc
hostname {HOST.partition(".")[0]}
echo PURGE | debconf-communicate postfix >/dev/null
printf '%s\n' 'postfix postfix/main_mailer_type select Internet Site' \
    'postfix postfix/mailname string {DOMAIN}' | debconf-set-selections
rm -f /etc/postfix/main.cf /etc/postfix/master.cf /etc/mailname
DEBIAN_FRONTEND=noninteractive dpkg-reconfigure postfix
useradd --create-home {USER}
passwd --delete root
systemctl mask {" ".join(_MASKED)}
"""


class Image(NamedTuple):
    """What qemu needs to boot a release."""

    disk: Path  # raw; never written to
    kernel: Path
    initrd: Path


def cache() -> Path:
    """Return the default directory of the images."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "throttled-machines")


def image(suite: str, later: Sequence[str], directory: Path) -> Image:
    """Return the image of a release, made if it is not in the cache; an outdated one is removed.

    Args:
        suite: which Debian.
        later: packages that `apt-get install` is to find in the machine, without a network.
        directory: the cache.

    Raises:
        RuntimeError: it could not be made; the text is the failed command's.
    """
    recipe = repr((suite, sorted(later), _INSTALLED, _SIZE, _FILES, _POSTFIX))
    place = directory / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            for old in directory.glob(f"{suite}-*"):
                shutil.rmtree(old)
            _make(suite, later, place)
    return Image(place / "disk", place / "vmlinuz", place / "initrd")


def _make(suite: str, later: Sequence[str], place: Path) -> None:
    fresh = place.with_name(f"{place.name}-new")
    root = fresh / "root"
    try:
        fresh.mkdir()
        _bootstrap(suite, later, root)
        for name, text in _FILES.items():
            root.joinpath(name).unlink(missing_ok=True)
            root.joinpath(name).write_text(text)
        run("unshare", "--mount", "--uts", "chroot", root, "sh", "-euc", _POSTFIX)
        for name in ("vmlinuz", "initrd"):
            (found,) = root.glob(f"boot/{name}*-amd64")
            shutil.copy(found, fresh / name)
        with (fresh / "disk").open("wb") as disk:
            disk.truncate(_SIZE)
        run("mkfs.ext4", "-q", "-F", "-d", root, fresh / "disk")
        shutil.rmtree(root)
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _bootstrap(suite: str, later: Sequence[str], root: Path) -> None:
    download = f'chroot "$1" apt-get install -y -qq --download-only {" ".join(later)}'
    run(
        # What it mounts and starts ends with it, also when it is killed.
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=directory"),
        *("--skip=cleanup/apt", f"--include={','.join(_INSTALLED)}"),
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=force-unsafe-io",
        f"--customize-hook={download}",
        suite,
        root,
        *mirrors(suite),
    )


def mirrors(suite: str) -> list[str]:
    """Return the lines for Debian's archive from this machine's apt sources; none: the default."""
    text = "\n".join(
        path.read_text()
        for path in (
            Path("/etc/apt/sources.list"),
            *Path("/etc/apt/sources.list.d").glob("*.list"),
            *Path("/etc/apt/sources.list.d").glob("*.sources"),
        )
        if path.exists()
    )
    found = re.findall(_DEBIAN, text, re.MULTILINE)
    names = {uri: f"{suite}-security" if "security" in uri else suite for uri in found}
    return [f"deb {uri} {name} main" for uri, name in names.items()]
