"""Whether Python and a C header mean the same, by clang's word."""

import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def disagreements(
    header: Path,
    records: Mapping[str, tuple[struct.Struct, Sequence[str]]],
    constants: Mapping[str, int],
) -> str:
    """Return what clang says against it; nothing when all is the same.

    Args:
        header: the file.
        records: of each struct its format, native ("@"), and the names of its members.
        constants: of each macro its value.
    """
    lines = ["#include <stddef.h>", f'#include "{header}"']
    for name, (form, members) in records.items():
        lines.append(_equal(f"sizeof(struct {name})", form.size))
        codes = _codes(form.format.removeprefix("@"))
        for at, member in enumerate(members):
            before, with_it = "".join(codes[:at]), "".join(codes[: at + 1])
            size = struct.calcsize(f"@{codes[at]}")
            start = struct.calcsize(f"@{with_it}") - size
            assert start >= struct.calcsize(f"@{before}")
            lines.append(_equal(f"offsetof(struct {name}, {member})", start))
            lines.append(_equal(f"sizeof(((struct {name} *)0)->{member})", size))
    lines += [_equal(name, value) for name, value in constants.items()]
    done = subprocess.run(
        ("clang", "-fsyntax-only", "-xc", "-"),
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr


def _equal(what: str, value: int) -> str:
    return f'_Static_assert({what} == {value}, "{what} is not {value}");'


def _codes(form: str) -> list[str]:
    """Split "QQ16s" into "Q", "Q", "16s"."""
    found, count = [], ""
    for letter in form:
        count += letter
        if letter.isalpha():
            found.append(count)
            count = ""
    return found
