"""A WebSocket server and client as people run them, for tests through the gateway.

websocket.py server          echoes on a free port of loopback, which it prints first
websocket.py client PORT     tries what matters through whatever listens there; exit code 0 if all of it works
"""

import asyncio
import sys

import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

LIMIT = 20  # seconds for the whole client: a hang is a failure


async def echo(connection):
    try:
        async for message in connection:
            if message == "close, please":
                await connection.close(code=4001, reason="as asked")
            else:
                await connection.send(message)
    except websockets.ConnectionClosedError:
        pass


async def server():
    async with serve(echo, "127.0.0.1", 0, subprotocols=["echo.v1"], max_size=8 << 20) as listening:
        print(next(iter(listening.sockets)).getsockname()[1], flush=True)
        await asyncio.get_running_loop().create_future()


async def client(port):
    url = f"ws://127.0.0.1:{port}/echo?room=1"
    async with connect(url, subprotocols=["echo.v1"], max_size=8 << 20) as connection:
        assert connection.subprotocol == "echo.v1", connection.subprotocol
        for message in ["", "hello", "grüße", b"\x00\xff", b"x" * (2 << 20)]:
            await connection.send(message)
            assert await connection.recv() == message, f"{len(message)} of {type(message)} came back changed"
        pong = await connection.ping()
        await pong

        # Both directions at once, faster than they are read: nothing may be lost or stand still.
        async def send_all():
            for number in range(2000):
                await connection.send(f"{number} " + "y" * 1000)

        sending = asyncio.create_task(send_all())
        for number in range(2000):
            assert (await connection.recv()).startswith(f"{number} "), number
        await sending

        await connection.send("close, please")
        try:
            await connection.recv()
            raise AssertionError("the server's close did not arrive")
        except websockets.ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "as asked"), closed
    print("websocket: all as it should be")


if __name__ == "__main__":
    if sys.argv[1] == "server":
        asyncio.run(server())
    else:
        asyncio.run(asyncio.wait_for(client(int(sys.argv[2])), LIMIT))
