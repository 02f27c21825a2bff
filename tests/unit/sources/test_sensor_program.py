"""What Linux 6.1 refuses in our programs, which newer kernels accept."""

from pathlib import Path

from lab.programs.instructions import Instruction, instructions, narrowed, strange_keys
from throttled.bpf.libbpf import OBJECTS

CALL, EXIT = Instruction(0x85, 0, 0, 0, 1), Instruction(0x95, 0, 0, 0, 0)
KEY = [Instruction(0xBF, 2, 10, 0, 0), Instruction(0x07, 2, 0, 0, -8)]  # r2 = r10; r2 += -8


def sections(name: str, *sections: str) -> list[list[Instruction]]:
    return [instructions(Path(OBJECTS, name), section) for section in sections]


def test_what_needs_no_perfmon_stores_no_part_of_eight_bytes() -> None:
    """Without CAP_PERFMON the verifier of Linux 6.1 refuses it where they hold a number."""
    admission = sections("admission.o", "sockops", "cgroup_skb/ingress")
    for code in (*sections("sensor.o", "sockops"), *admission):
        assert narrowed(code) == set()


def test_every_key_of_a_map_is_on_the_stack_of_its_function() -> None:
    """Before Linux 6.2 it may not be in memory that a global function gets as an argument."""
    admission = sections("admission.o", "sockops", "cgroup_skb/ingress")
    for code in (
        *admission,
        *sections("sensor.o", "sockops"),
        *sections("xdp.o", ".text", "xdp.frags"),
    ):
        assert strange_keys(code) == []
    assert any(each.code == 0x85 for each in code)


def test_what_is_looked_for_is_found() -> None:
    whole, half = Instruction(0x7B, 10, 1, -8, 0), Instruction(0x62, 10, 0, -4, 0)
    assert narrowed([whole, half]) == {-8}
    assert narrowed([whole, Instruction(0x62, 10, 0, -12, 0)]) == set()
    given = Instruction(0xBF, 2, 1, 0, 0)  # r2 = r1: an argument
    assert strange_keys([*KEY, CALL, EXIT]) == []
    assert strange_keys([given, CALL, EXIT]) == [1]
    assert strange_keys([*KEY, CALL, CALL, EXIT]) == [3]  # a call leaves nothing in r2
    either = Instruction(0x15, 1, 0, 1, 0)  # if r1 == 0 goto the call
    assert strange_keys([*KEY, either, given, CALL, EXIT]) == [4]
    saved, back = Instruction(0x7B, 10, 2, -16, 0), Instruction(0x79, 2, 10, -16, 0)
    assert strange_keys([*KEY, saved, CALL, back, CALL, EXIT]) == []
