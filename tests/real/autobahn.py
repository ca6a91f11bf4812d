"""Autobahn's WebSocket cases (as kosoku runs them) and a server for them, for tests through the gateway.

autobahn.py server          echoes on a free port of loopback, which it prints first
autobahn.py client PORT     runs the cases against whatever listens there and prints one verdict a line: CASE MESSAGES CLOSE

A verdict is about both ends at once. What the gateway must not do is change one, so the exit code is 0 whatever they
are: who runs this compares two lists.
"""

import asyncio
import sys

import kosoku
import websockets
from websockets.asyncio.server import serve

LIMIT = 120  # seconds for all cases: a hang is a failure

# 12.* and 13.* press a hundred thousand messages through zlib, minutes of work in which the gateway sees only opaque
# frames: the first case of each of their groups shows that the extension is agreed on and its frames pass.
COMPRESSED = [f"12.{group}.1" for group in range(1, 6)] + [f"13.{group}.1" for group in range(1, 8)]


async def echo(connection):
    try:
        async for message in connection:
            await connection.send(message)
    except websockets.ConnectionClosed:
        pass


async def server():
    async with serve(echo, "127.0.0.1", 0, max_size=32 << 20) as listening:
        print(next(iter(listening.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


async def cases(address, include, exclude):
    try:
        return await kosoku.run_fuzzingclient(address, include, exclude, concurrency=4)
    except kosoku.FailureError as failure:
        return failure.results


async def client(port):
    address = f"127.0.0.1:{port}"
    results = await cases(address, None, ["12.*", "13.*"])
    results += await cases(address, COMPRESSED, None)
    for result in results:
        print(result.case_id, result.behavior.value, result.behavior_close.value)


if __name__ == "__main__":
    if sys.argv[1] == "server":
        asyncio.run(server())
    else:
        asyncio.run(asyncio.wait_for(client(int(sys.argv[2])), LIMIT))
