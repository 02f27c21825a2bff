"""The least that a policy server can do: answers DUNNO. `python bare.py SOCKET`."""

import asyncio
import os
import sys


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pending = b""

    def data_received(self, data: bytes) -> None:
        self._pending += data
        if self._pending.endswith(b"\n\n"):
            self._pending = b""
            self._transport.write(b"action=DUNNO\n\n")


async def main(path: str) -> None:
    """Serve for ever."""
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(_Connection, path)
    os.chmod(path, 0o777)  # noqa: PTH101 - in a directory of the benchmark's own
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
