"""A small authoritative DNS server for the lab's mail server: the clients' names.

Of four neighbouring addresses two have a name that resolves back to them
(`client-198-18-0-2.lab.test`), one has a name that does not, one has none: as seen in the wild.
Everything else does not exist, at once. Runs as `python dns.py ADDRESS PORT`, without state.
"""

import contextlib
import ipaddress
import socket
import struct
import sys

_A, _PTR, _AAAA = 1, 12, 28
_ZONE = "lab.test"
_HEADER = struct.Struct(">6H")
_FOUND, _MISSING = 0x8580, 0x8583  # authoritative answer; NOERROR and NXDOMAIN


def answer(query: bytes) -> bytes:
    """Return the response to a query packet.

    Raises:
        ValueError, IndexError, struct.error: the packet is no question.
    """
    labels, end = [], _HEADER.size
    while length := query[end]:
        labels.append(query[end + 1 : end + 1 + length].decode("ascii").lower())
        end += 1 + length
    (kind,) = struct.unpack_from(">H", query, end + 1)
    record = _record(labels, kind)
    head = _HEADER.pack(
        int.from_bytes(query[:2]), _MISSING if record is None else _FOUND, 1, bool(record), 0, 0
    )
    question = query[_HEADER.size : end + 5]
    if not record:
        return head + question
    return head + question + struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(record)) + record


def client_name(address: str) -> str:
    """Return the name that an address is given, whether or not it resolves back."""
    ip = ipaddress.ip_address(address)
    text = address.replace(".", "-") if ip.version == 4 else ip.packed.hex()
    return f"client-{text}.{_ZONE}"


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
    told = labels[0].removeprefix("client-")
    dotted = "-" in told
    address = ipaddress.ip_address(told.replace("-", ".") if dotted else bytes.fromhex(told))
    right = (kind, address.version) in ((_A, 4), (_AAAA, 6)) and int(address) % 4 != 1
    return address.packed if right else b""


def _reversed(labels: list[str]) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    if labels[-2:] == ["in-addr", "arpa"]:
        return ipaddress.IPv4Address(".".join(reversed(labels[:-2])))
    if labels[-2:] == ["ip6", "arpa"]:
        return ipaddress.IPv6Address(bytes.fromhex("".join(reversed(labels[:-2]))))
    return None


def main(address: str, port: str) -> None:
    """Answer for ever."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((address, int(port)))
        print("ready", flush=True)
        while True:
            query, sender = sock.recvfrom(2048)
            with contextlib.suppress(ValueError, IndexError, struct.error):
                sock.sendto(answer(query), sender)


if __name__ == "__main__":
    main(*sys.argv[1:])
