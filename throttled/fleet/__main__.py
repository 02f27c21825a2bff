"""`python -m throttled.fleet SOCKET`: the fleet process, started by `throttled-fleet.service`."""

import asyncio
import os
import sys
from pathlib import Path

from throttled.fleet.process import serve

if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), os.getuid()))
