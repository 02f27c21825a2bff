"""Runs a loaded program on frames, with bpf_prog_test_run_opts of libbpf."""

import ctypes

from throttled.bpf.bindings import checked, library
from throttled.bpf.libbpf import Program

_LIVE_FRAMES = 2  # BPF_F_TEST_XDP_LIVE_FRAMES
_u32, _int, _pointer = ctypes.c_uint32, ctypes.c_int, ctypes.c_void_p


class _TestRun(ctypes.Structure):
    """struct bpf_test_run_opts."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        *((name, _pointer) for name in ("data_in", "data_out")),
        *((name, _u32) for name in ("data_size_in", "data_size_out")),
        *((name, _pointer) for name in ("ctx_in", "ctx_out")),
        *((name, _u32) for name in ("ctx_size_in", "ctx_size_out", "retval")),
        ("repeat", _int),
        *((name, _u32) for name in ("duration", "flags", "cpu", "batch_size")),
    )


def run(program: Program, data: bytes, repeat: int = 1) -> tuple[int, int]:
    """Run a program on a packet; return what it returns and the nanoseconds that it took."""
    memory = ctypes.create_string_buffer(data, len(data))
    options = _TestRun(data_in=ctypes.addressof(memory), data_size_in=len(data), repeat=repeat)
    _run(program, options)
    return options.retval, options.duration


def transmit(program: Program, data: bytes, ifindex: int, repeat: int, batch: int = 64) -> int:
    """Run an XDP program on live frames: what it returns happens to them.

    Returns how many nanoseconds it took for each, without the preparation (15 ms in all).

    Args:
        program: the program.
        data: the frame.
        ifindex: the interface on which they seem to arrive.
        repeat: how many.
        batch: how many at a time, at most 256.
    """
    memory = ctypes.create_string_buffer(data, len(data))
    # struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    context = (_u32 * 6)(0, len(data), 0, ifindex, 0, 0)
    options = _TestRun(
        data_in=ctypes.addressof(memory),
        data_size_in=len(data),
        ctx_in=ctypes.addressof(context),
        ctx_size_in=ctypes.sizeof(context),
        repeat=repeat,
        flags=_LIVE_FRAMES,
        batch_size=batch,
    )
    _run(program, options)
    elapsed: int = options.duration
    return elapsed


def _run(program: Program, options: _TestRun) -> None:
    options.sz = ctypes.sizeof(options)
    checked(library().bpf_prog_test_run_opts(program.fd, ctypes.byref(options)))
