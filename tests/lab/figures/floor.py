"""The least that a log line costs until a packet is dropped: `python floor.py LOG ADDRESS…`.

Waits for inotify, reads what was appended, and where it is a guess as `the-last-…` sends the one
netlink message that was prepared for its client. It counts nothing, records nothing, and believes
any line. What a Python program on this machine cannot be faster than.
"""

import socket
import subprocess
import sys

from inotify_simple import INotify, flags

from throttled.enforce.nftables import messages

_TABLE = """
table inet floor {
  set banned { type ipv4_addr; flags timeout; }
  chain input { type filter hook prerouting priority raw; ip saddr @banned drop; }
}
"""


def main(log: str, *sources: str) -> None:
    """Ban for ever."""
    subprocess.run(["nft", "-f", "-"], input=_TABLE.encode(), check=True)
    prepared = {}
    for source in sources:
        element = messages.element(socket.inet_aton(source), 600_000)
        add = messages.add("floor", "banned", [element], 1)
        prepared[source.encode()] = messages.transaction([add])
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)  # NETLINK_NETFILTER
    with open(log, "rb", buffering=0) as file, INotify() as events:  # noqa: PTH123 - its bytes
        file.seek(0, 2)
        events.add_watch(log, flags.MODIFY)
        print("ready", flush=True)
        while events.read():
            text = file.read(65_536) or b""
            if b"=the-last-" in text:
                client = text[text.rindex(b"[") + 1 : text.rindex(b"]")]
                netlink.send(prepared[client])


if __name__ == "__main__":
    main(*sys.argv[1:])
