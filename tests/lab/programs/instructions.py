"""The instructions of a compiled BPF program, to look for what older kernels refuse.

Format: Documentation/bpf/standardization/instruction-set.rst of Linux.
"""

import struct
from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import NamedTuple

_WIDE = 0x18  # a load of a constant of eight bytes takes two instructions
_LOAD, _STORE_NUMBER, _STORE = 0x61, 0x62, 0x63  # of four bytes
_SIZE, _DOUBLE = 0x18, 0x18  # the bits that say how many, and all of them for eight
_SIZES = {0x00: 4, 0x08: 2, 0x10: 1, _DOUBLE: 8}
_MOVE, _ADD_NUMBER = 0xBF, 0x07
_JUMP, _CALL, _EXIT = 0x05, 0x85, 0x95
#: Classes of instructions: those that write a register, those that jump.
_WRITES, _JUMPS = (0, 1, 4, 7), (5, 6)
_STACK = 10  # the register that points to the end of the stack
_OF_MAPS = (1, 2, 3)  # the helpers that look up, update and delete an element


class Instruction(NamedTuple):
    """An instruction, or half of a wide one."""

    code: int
    target: int
    source: int
    offset: int
    value: int


def instructions(file: Path, section: str) -> list[Instruction]:
    """Return those of a section of an ELF file of 64 bits."""
    data = file.read_bytes()
    (start,) = struct.unpack_from("<Q", data, 40)
    size, count, names = struct.unpack_from("<HHH", data, 58)
    headers = [struct.unpack_from("<I20xQQ", data, start + n * size) for n in range(count)]
    for name, at, length in headers:
        begin = headers[names][1] + name
        if data[begin : data.index(b"\0", begin)].decode() == section:
            found = struct.iter_unpack("<BBhi", data[at : at + length])
            return [Instruction(c, r & 15, r >> 4, off, value) for c, r, off, value in found]
    raise KeyError(section)


def narrowed(code: Sequence[Instruction]) -> AbstractSet[int]:
    """Return the places of the stack where eight bytes are stored, and a part of them too."""
    sizes: dict[int, set[int]] = defaultdict(set)
    for each in code:
        if each.target == _STACK and each.code & ~_SIZE in (_STORE_NUMBER, _STORE):
            sizes[each.offset // 8].add(_SIZES[each.code & _SIZE])
    return {place * 8 for place, found in sizes.items() if 8 in found and len(found) > 1}


def strange_keys(code: Sequence[Instruction]) -> list[int]:
    """Return the calls for an element of a map whose key is not on the caller's own stack.

    On any way through a function: for each instruction it is found out which registers, and which
    places of the stack (by their negative offsets), hold an address of the function's own stack.
    """
    known: dict[int, AbstractSet[int]] = {}
    for begin in range(len(code)):
        if begin in known or (begin and code[begin - 1].code == _WIDE):
            continue
        known[begin] = {_STACK}  # what nothing leads to is the begin of a function
        waiting = [begin]
        while waiting:
            at = waiting.pop()
            after = _after(code[at], known[at])
            for following in _following(at, code[at]):
                joined = after & known.get(following, after)
                if joined != known.get(following):
                    known[following] = joined
                    waiting.append(following)
    return [at for at, each in enumerate(code) if _asks_a_map(each) and 2 not in known[at]]


def _after(each: Instruction, own: AbstractSet[int]) -> AbstractSet[int]:
    if each.code == _CALL:
        return own - set(range(6))
    if each.code == _STORE | _DOUBLE and each.target == _STACK:
        place, holds = each.offset, each.source in own
    elif each.code == _LOAD | _DOUBLE and each.source == _STACK:
        place, holds = each.target, each.offset in own
    elif each.code & 7 in _WRITES and each.code != _ADD_NUMBER:
        place, holds = each.target, each.code == _MOVE and each.source in own
    else:
        return own
    return own | {place} if holds else own - {place}


def _following(at: int, each: Instruction) -> list[int]:
    if each.code == _EXIT:
        return []
    if each.code == _JUMP:
        return [at + 1 + each.offset]
    branches = each.code & 7 in _JUMPS and each.code != _CALL
    step = 2 if each.code == _WIDE else 1
    return [at + step, *([at + 1 + each.offset] if branches else [])]


def _asks_a_map(each: Instruction) -> bool:
    return each.code == _CALL and each.source == 0 and each.value in _OF_MAPS
