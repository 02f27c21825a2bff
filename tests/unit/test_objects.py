"""What clang made of the programs that the unit loads without CAP_PERFMON.

Before Linux 6.8 the verifier does not let such a program overwrite a part of eight bytes of stack
to which a number was spilled ("attempt to corrupt spilled pointer on stack", kernel/bpf/verifier.c:
check_stack_write_fixed_off). Debian 12 has Linux 6.1. Whether clang does that depends on its
version and on any change of the source, and the kernel that runs the tests may be a later one.
"""

import struct
import sys
from collections import defaultdict
from collections.abc import Iterator

import pytest

from throttled.bpf.libbpf import OBJECTS

_ORDER = "<" if sys.byteorder == "little" else ">"
_CODE, _EXECUTABLE = 1, 4  # elf(5): SHT_PROGBITS, SHF_EXECINSTR
#: linux/bpf.h: instructions that store, the frame pointer, bytes of BPF_SIZE.
_STORES, _FRAME, _BYTES = (2, 3), 10, {0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8}


def programs(elf: bytes) -> Iterator[bytes]:
    (at,) = struct.unpack_from(f"{_ORDER}Q", elf, 40)
    size, count = struct.unpack_from(f"{_ORDER}HH", elf, 58)
    for number in range(count):
        kind, flags, _address, offset, length = struct.unpack_from(
            f"{_ORDER}IQQQQ", elf, at + number * size + 4
        )
        if kind == _CODE and flags & _EXECUTABLE:
            yield elf[offset : offset + length]


def stores(program: bytes) -> Iterator[tuple[int, int]]:
    """Yield where on the stack an instruction stores something, and how many bytes."""
    for op, registers, offset, _number in struct.iter_unpack(f"{_ORDER}BBhi", program):
        register = registers & 15 if sys.byteorder == "little" else registers >> 4
        if op & 7 in _STORES and register == _FRAME:
            yield offset, _BYTES[op & 0x18]


@pytest.mark.parametrize("name", ["admission", "sensor"])
def test_no_part_of_a_spilled_number_is_overwritten(name: str) -> None:
    found = list(programs(OBJECTS.joinpath(f"{name}.o").read_bytes()))
    assert any(map(len, found))
    for program in found:
        slots = defaultdict(list)
        for offset, size in stores(program):
            slots[offset // 8 * 8].append((offset, size))
        for slot, those in slots.items():
            spilled = any(offset == slot for offset, _size in those)
            parts = [size for _offset, size in those if size < 8]
            assert not (spilled and parts and len(those) > 1), (slot, those)
