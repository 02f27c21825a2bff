"""Posts standard input as JSON to the URL in `THROTTLED_URL`: a process of its own, see `hook`.

The URL comes by the environment, as others may read command lines, and URLs of webhooks are
secrets. With `--connect` it connects and posts nothing. Follows no redirects, uses no proxy; the
certificate must be valid. Ends with 0 after an answer of 2xx, else with a sentence on standard
error. Owns no state.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

#: Seconds for each step; the whole is bounded by who started this.
_TIMEOUT = 60.0


def main() -> int:
    """Post, and return the exit code."""
    post = "--connect" not in sys.argv[1:]
    body = sys.stdin.buffer.read()
    try:
        url = urlsplit(os.environ["THROTTLED_URL"])
        kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        connection = kind(url.hostname or "", url.port, timeout=_TIMEOUT)
        if not post:
            connection.connect()
            connection.close()
            return 0
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        status = connection.getresponse().status
    except (OSError, HTTPException, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if 200 <= status < 300:
        return 0
    sys.stderr.write(f"the server answered {status}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
