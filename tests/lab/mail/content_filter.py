"""A content filter as amavis is one: takes a message by SMTP and hands it back by SMTP.

Passes every command on and every answer back; in the answer to a message it says, as amavis does,
whose answer that is. Run in the server's namespace: `content_filter.py PORT BACK yes|no`; the last
says whether it knows XFORWARD.
"""

import asyncio
import sys


async def line_of(reader: asyncio.StreamReader) -> bytes:
    """Return the next command; none when the client has hung up."""
    try:
        return await reader.readline()
    except ConnectionResetError:
        return b""


async def reply(reader: asyncio.StreamReader) -> list[bytes]:
    """Return the lines of an answer."""
    lines = []
    while True:
        line = await reader.readline()
        lines.append(line)
        if line[3:4] != b"-":
            return lines


def without_xforward(lines: list[bytes]) -> list[bytes]:
    """Return an EHLO answer of a server that does not know XFORWARD."""
    words = [line[4:] for line in lines if not line[4:].startswith(b"XFORWARD")]
    return [b"250-" + word for word in words[:-1]] + [b"250 " + words[-1]]


async def session(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: int, *, xforward: bool
) -> None:
    """Serve one client until it quits."""
    behind, to = await asyncio.open_connection("127.0.0.1", back)
    writer.writelines(await reply(behind))
    while command := await line_of(reader):
        to.write(command)
        lines = await reply(behind)
        verb = command[:4].upper()
        if verb == b"EHLO" and not xforward:
            lines = without_xforward(lines)
        writer.writelines(lines)
        if verb == b"DATA" and lines[0].startswith(b"354"):
            while (line := await reader.readline()) not in (b".\r\n", b""):
                to.write(line)
            to.write(line)
            [answer] = await reply(behind)
            code, _, text = answer.partition(b" ")
            where = f"from MTA(smtp:[127.0.0.1]:{back}): ".encode()
            writer.write(code + b" 2.0.0 " + where + code + b" " + text)
    to.close()
    writer.close()


async def main(port: int, back: int, *, xforward: bool) -> None:
    """Listen; say so on standard output."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await session(reader, writer, back, xforward=xforward)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), xforward=sys.argv[3] == "yes"))
