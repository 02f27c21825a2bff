"""A small authoritative DNS server for the lab's mail server: the clients' names.

Of four neighbouring addresses two have a name that resolves back to them
(`client-198-18-0-2.lab.test`), one has a name that does not, one has none: as seen in the wild.
Everything else does not exist, at once. Runs as `python dns.py ADDRESS PORT [HOSTS]`, without
state: the file HOSTS is read for each query, and its lines `ADDRESS NAME` are answered first.
"""

import contextlib
import ipaddress
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

_A, _PTR, _AAAA = 1, 12, 28
_ZONE = "lab.test"
_HEADER = struct.Struct(">6H")
_FOUND, _MISSING = 0x8580, 0x8583  # authoritative answer; NOERROR and NXDOMAIN


def answer(query: bytes, hosts: Sequence[tuple[str, str]] = ()) -> bytes:
    """Return the response to a query packet.

    Args:
        query: as it came.
        hosts: addresses and names that are answered first.

    Raises:
        ValueError, IndexError, struct.error: the packet is no question.
    """
    labels, end = [], _HEADER.size
    while length := query[end]:
        labels.append(query[end + 1 : end + 1 + length].decode("ascii").lower())
        end += 1 + length
    (kind,) = struct.unpack_from(">H", query, end + 1)
    records = _listed(".".join(labels), kind, hosts)
    if records is None:
        record = _record(labels, kind)
        records = None if record is None else [record] if record else []
    found = _MISSING if records is None else _FOUND
    head = _HEADER.pack(int.from_bytes(query[:2]), found, 1, len(records or ()), 0, 0)
    answers = [
        struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(record)) + record for record in records or ()
    ]
    return head + query[_HEADER.size : end + 5] + b"".join(answers)


def client_name(address: str) -> str:
    """Return the name that an address is given, whether or not it resolves back."""
    ip = ipaddress.ip_address(address)
    text = address.replace(".", "-") if ip.version == 4 else ip.packed.hex()
    return f"client-{text}.{_ZONE}"


def _listed(name: str, kind: int, hosts: Sequence[tuple[str, str]]) -> list[bytes] | None:
    """Return the data of the records of a listed name; None: it is not listed."""
    addresses = [ipaddress.ip_address(address) for address, known in hosts if known == name]
    if not addresses:
        return None
    version = {_A: 4, _AAAA: 6}.get(kind)
    return [address.packed for address in addresses if address.version == version]


def _record(labels: list[str], kind: int) -> bytes | None:
    """Return the data of a record; empty: the name has none of this kind; None: no such name."""
    if labels[-1] == "arpa":
        address = _reversed(labels)
        if address is None or int(address) % 4 == 3:
            return None
        name = client_name(str(address)).split(".")
        text = b"".join(bytes([len(label)]) + label.encode() for label in name)
        return text + b"\0" if kind == _PTR else b""
    if labels[1:] != _ZONE.split(".") or not labels[0].startswith("client-"):
        return None
    encoded = labels[0].removeprefix("client-")
    dotted = "-" in encoded
    address = ipaddress.ip_address(encoded.replace("-", ".") if dotted else bytes.fromhex(encoded))
    right = (kind, address.version) in ((_A, 4), (_AAAA, 6)) and int(address) % 4 != 1
    return address.packed if right else b""


def _reversed(labels: list[str]) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if labels[-2:] == ["in-addr", "arpa"]:
        return ipaddress.IPv4Address(".".join(reversed(labels[:-2])))
    if labels[-2:] == ["ip6", "arpa"]:
        return ipaddress.IPv6Address(bytes.fromhex("".join(reversed(labels[:-2]))))
    return None


def _hosts(path: str) -> list[tuple[str, str]]:
    lines = Path(path).read_text().splitlines() if path else []
    return [(address, name) for address, name in map(str.split, lines)]


def main(address: str, port: str, hosts: str = "") -> None:
    """Answer for ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, int(port)))
        print("ready", flush=True)
        while True:
            query, sender = sock.recvfrom(2048)
            with contextlib.suppress(ValueError, IndexError, struct.error):
                sock.sendto(answer(query, _hosts(hosts)), sender)


if __name__ == "__main__":
    main(*sys.argv[1:])
