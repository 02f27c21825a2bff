"""Compiles the programs for the kernel, throttled/bpf/*.c, when the package is built or installed.

The objects lie beside their sources and go into the wheel. Needs clang and libbpf's headers.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# v3: atomic operations that return what was there (Linux 5.12).
_FLAGS = ("-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror")
# Where it is built is not written into the object: the same sources give the same bytes.
_HERE = "-fdebug-compilation-dir=."


class Hook(BuildHookInterface[Any]):
    """Called by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  theirs
        """Compile, also for an editable install.

        Raises:
            SystemExit: it cannot be done; the text says what is missing.
        """
        sources = sorted(Path(self.root, "throttled", "bpf").glob("*.c"))
        for source in sources:
            compile_program(source)
        build_data["artifacts"] += [
            str(source.with_suffix(".o").relative_to(self.root)) for source in sources
        ]


def compile_program(source: Path) -> None:
    """Compile one source to an object beside it.

    Raises:
        SystemExit: clang or a header is missing, or clang does not like the source.
    """
    # What asm/types.h is for this machine lies in a directory that clang does not know for BPF.
    machines = Path("/usr/include").glob("*-linux-gnu*/asm/types.h")
    headers = [word for found in machines for word in ("-idirafter", str(found.parent.parent))]
    target = source.with_suffix(".o")
    try:
        subprocess.run(
            ("clang", *_FLAGS, _HERE, *headers, "-c", source.name, "-o", target.name),
            cwd=source.parent,
            check=True,
        )
    except FileNotFoundError:
        sys.exit(f"{source.name} needs clang: apt-get install clang libbpf-dev")
    except subprocess.CalledProcessError:
        sys.exit(f"{source.name} was not compiled; is libbpf-dev installed?")
