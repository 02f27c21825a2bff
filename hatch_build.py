"""Compiles the programs for the kernel, throttled/bpf/*.c, when the package is built or installed.

The objects are beside their sources and go into the wheel, which is for the platform of the Python
that builds it, as objects have a byte order. Needs clang and libbpf's headers.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# v3: atomic operations that return what was there (Linux 5.12).
_FLAGS = ("-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror")
_TARGETS = {"little": "bpfel", "big": "bpfeb"}
# Where it is built is not written into the object: the same sources give the same bytes.
_HERE = "-fdebug-compilation-dir=."


class Hook(BuildHookInterface[Any]):
    """Called by hatchling."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  theirs
        """Compile for a wheel, also of an editable install; a source distribution has no objects.

        Raises:
            SystemExit: it cannot be done; the text says what is missing.
        """
        if self.target_name != "wheel":
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"], build_data["tag"] = False, f"py3-none-{platform}"
        sources = sorted(Path(self.root, "throttled", "bpf").glob("*.c"))
        for source in sources:
            compile_program(source)
        build_data["artifacts"] += [
            str(source.with_suffix(".o").relative_to(self.root)) for source in sources
        ]


def compile_program(source: Path, order: str = sys.byteorder) -> None:
    """Compile one source to an object beside it.

    Args:
        source: a C file.
        order: of the bytes in what the programs read and write, "little" or "big".

    Raises:
        SystemExit: clang or a header is missing, or clang does not like the source.
    """
    # Debian has asm/types.h of each machine in a directory that clang does not know for BPF.
    headers = f"/usr/include/{sysconfig.get_config_var('MULTIARCH') or ''}"
    target = source.with_suffix(".o")
    flags = ("-target", _TARGETS[order], *_FLAGS, _HERE, "-idirafter", headers)
    try:
        subprocess.run(
            ("clang", *flags, "-c", source.name, "-o", target.name),
            cwd=source.parent,
            check=True,
        )
    except FileNotFoundError:
        sys.exit(f"{source.name} needs clang: apt-get install clang libbpf-dev")
    except subprocess.CalledProcessError:
        sys.exit(f"{source.name} was not compiled; is libbpf-dev installed?")
