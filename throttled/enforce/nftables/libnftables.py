"""libnftables, in this process: rules as text, as `nft` reads them. For what is rarely done.

Owns one context, and in it a netlink socket of the network namespace in which it was made. Not
for elements: see `messages`. Functions: libnftables(3).
"""

import ctypes
import socket

from throttled.errors import BackendError
from throttled.linux.netlink_socket import NETFILTER

_LIBRARY = "libnftables.so.1"


class Libnftables:
    """One context."""

    def __init__(self) -> None:
        """Load the library.

        Raises:
            BackendError: it is not installed, or there is no netlink.
        """
        try:
            self._library = _load()
        except OSError as error:
            raise BackendError(
                f"{_LIBRARY} cannot be loaded: {error}",
                "install libnftables1 (or nftables-libs); --mode observe needs no firewall",
            ) from error
        _spare_socket()
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise BackendError("libnftables gives no context", "--mode observe does without")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._library.nft_ctx_free(self._context)

    def run(self, commands: str, *, trial: bool = False) -> str:
        """Run commands as one transaction and return what they print.

        Args:
            commands: as in a file for `nft -f`.
            trial: let the kernel go through all of it and then take it back.

        Raises:
            BackendError: nothing was changed; the message is libnftables' own.
        """
        _spare_socket()
        self._library.nft_ctx_set_dry_run(self._context, trial)
        failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        # Reading a buffer empties it; both are read so that neither speaks of this run later.
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        errors: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        if failed:
            raise BackendError(_reason(errors.decode(errors="replace")))
        return output.decode(errors="replace")


def _spare_socket() -> None:
    """See that a socket can be had: where libnftables gets none it ends the process.

    It opens one for a context, and one after the other for what it reads about interfaces.

    Raises:
        BackendError: none can be.
    """
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETFILTER).close()
    except OSError as error:
        raise BackendError(
            f"the kernel's firewall cannot be reached: {error.strerror}",
            "needs Linux with nf_tables; --mode observe does without",
        ) from error


def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("nft_ctx_new", pointer, (ctypes.c_uint32,)),
        ("nft_ctx_free", None, (pointer,)),
        ("nft_ctx_set_dry_run", None, (pointer, ctypes.c_bool)),
        ("nft_ctx_buffer_output", number, (pointer,)),
        ("nft_ctx_buffer_error", number, (pointer,)),
        ("nft_ctx_get_output_buffer", text, (pointer,)),
        ("nft_ctx_get_error_buffer", text, (pointer,)),
        ("nft_run_cmd_from_buffer", number, (pointer, text)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _reason(errors: str) -> str:
    """Return the first line; the next ones show the wrong line of what was run."""
    first = errors.partition("\n")[0].removeprefix("Error: ")
    return f"nftables: {first or 'failed without a message'}"
