"""libbpf on the real kernel: what the backend and the sensor rest on."""

import errno
import shutil
import subprocess
from pathlib import Path

import pytest

from lab.network.netns import without
from lab.programs.bpf_runs import run
from throttled.bpf import bindings
from throttled.bpf.libbpf import OBJECTS, Map, Object
from throttled.errors import BackendError

pytestmark = pytest.mark.root


def keys(count: int) -> bytes:
    return b"".join(n.to_bytes(8, "little") for n in range(count))


def test_a_map() -> None:
    made = Map.hash("map", 8, 4, 10)
    assert (made.key_size, made.value_size, made.max_entries) == (8, 4, 10)
    assert made.lookup(bytes(8)) is None
    made.update(bytes(8), b"four")
    assert made.lookup(bytes(8)) == b"four"
    assert list(made.keys()) == [bytes(8)]
    assert made.delete(bytes(8))
    assert not made.delete(bytes(8))


def test_a_batch_says_how_far_it_came() -> None:
    made = Map.hash("map", 8, 4, 10)
    assert made.update_batch(keys(7), bytes(28), 7) == (7, 0)
    assert made.update_batch(keys(12), bytes(48), 12) == (10, errno.E2BIG)
    assert made.update_batch(keys(10), bytes(40), 10) == (10, 0)
    # A refusal of the first one, and of the whole.
    assert made.update_batch(b"\xff" * 8, bytes(4), 1) == (0, errno.E2BIG)
    made.fd, kept = 1 << 20, made.fd
    assert made.update_batch(keys(2), bytes(8), 2) == (0, errno.EBADF)
    made.fd = kept


def test_reading_in_pieces_finds_everything_once() -> None:
    made = Map.hash("map", 8, 8, 20_000)
    every = keys(15_000)
    made.update_batch(every, every, 15_000)
    found: list[bytes] = []
    pieces, cursor = 0, None
    while True:
        read, values, count, cursor = made.read(cursor)
        assert read == values
        assert len(read) == count * 8
        found += [read[at : at + 8] for at in range(0, len(read), 8)]
        pieces += 1
        if cursor is None:
            break
    assert pieces > 2
    assert sorted(found) == sorted(every[at : at + 8] for at in range(0, len(every), 8))


def test_a_program_runs_and_counts() -> None:
    loaded = Object(OBJECTS / "xdp.o")
    loaded.load()
    verdict, _nanoseconds = run(loaded.program("ethernet"), bytes(64))
    assert verdict == 2  # XDP_PASS
    assert loaded.map("dropped").total(0) == 0
    with pytest.raises(KeyError):
        loaded.map("absent")
    with pytest.raises(KeyError):
        loaded.program("absent")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_stays_open() -> None:
    before = descriptors()
    loaded = Object(OBJECTS / "xdp.o")
    loaded.load()
    objects = [loaded.map("settings"), loaded.program("ethernet")]
    assert descriptors() > before
    del loaded, objects
    assert descriptors() == before


def test_what_was_not_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"absent\.o was not built") as caught:
        Object(tmp_path / "absent.o")
    assert "clang" in caught.value.hint


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.o"
    wrong.write_bytes(b"\x7fELF" + bytes(100))
    with pytest.raises(BackendError, match=r"wrong\.o cannot be opened"):
        Object(wrong)


@pytest.mark.skipif(shutil.which("clang") is None, reason="a machine that builds nothing")
def test_what_the_verifier_says_is_the_hint(tmp_path: Path) -> None:
    source = tmp_path / "bad.c"
    source.write_text(
        "#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n"
        'SEC("xdp") int bad(struct xdp_md *ctx) { return *(char *)(long)ctx->data; }\n'
    )
    include = next(Path("/usr/include").glob("*-linux-gnu/asm/types.h")).parents[1]
    flags = ("-target", "bpf", "-O2", "-g", "-idirafter", str(include))
    subprocess.run(("clang", *flags, "-c", str(source), "-o", str(tmp_path / "bad.o")), check=True)
    with pytest.raises(BackendError, match=r"the kernel does not load bad\.o") as caught:
        Object(tmp_path / "bad.o").load()
    assert "invalid access to packet" in caught.value.hint


def test_without_the_right() -> None:
    code = (
        "from throttled.bpf.libbpf import OBJECTS, Object\nfrom throttled.errors import *\n"
        "try: Object(OBJECTS / 'xdp.o').load()\n"
        "except ThrottledError as error: print(error, '|', error.hint)\n"
    )
    done = without(["bpf", "net_admin", "sys_admin"], code)
    assert "Operation not permitted" in done.stdout
    assert "CAP_BPF" in done.stdout
    assert done.stderr == ""


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bindings, "_LIBRARY", "libbpf-that-is-absent.so.1")
    bindings.library.cache_clear()
    try:
        with pytest.raises(BackendError, match="libbpf-that-is-absent") as caught:
            Map.hash("map", 8, 4, 10)
        assert "install libbpf1" in caught.value.hint
    finally:
        bindings.library.cache_clear()
