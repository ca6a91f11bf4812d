"""A gRPC server and client as people run them, for tests through the gateway.

grpc_echo.py server          serves on a free port of loopback, which it prints first
grpc_echo.py client PORT     tries what matters through whatever listens there; exit code 0 if all of it works

Messages are plain bytes: what is tested is the wire, and no generated code has to be kept.
"""

import sys
import threading
import time
import uuid
from concurrent import futures

import grpc

SERVICE = "meshless.test.Echo"
LIMIT = 10  # seconds for one call: a hang is a failure
OPTIONS = [("grpc.max_receive_message_length", 16 << 20)]


class Echo:
    def __init__(self):
        self.ended = {}  # names of calls that wait → set when the server saw their end

    def unary(self, request, context):
        metadata = dict(context.invocation_metadata())
        context.send_initial_metadata([("x-initial", metadata.get("x-asked", ""))])
        context.set_trailing_metadata([("x-trailing", "end"), ("x-binary-bin", b"\x00\xff")])
        return request

    def packed(self, request, context):
        context.set_compression(grpc.Compression.Gzip)
        return request

    def count(self, request, context):
        for number in range(int(request)):
            yield b"%d" % number

    def sum(self, requests, context):
        return b"%d" % sum(int(request) for request in requests)

    def chat(self, requests, context):
        for request in requests:
            yield b"re: " + request

    def fail(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no: 100 % & <grüße>")

    def fail_late(self, request, context):
        yield b"one"
        context.abort(grpc.StatusCode.DATA_LOSS, "late")

    def wait(self, request, context):
        """Streams one message, then waits for the end of the call."""
        ended = self.ended.setdefault(request, threading.Event())
        context.add_callback(ended.set)
        yield b"waiting"
        ended.wait(LIMIT)

    def was_ended(self, request, context):
        return b"yes" if self.ended.setdefault(request, threading.Event()).wait(LIMIT / 2) else b"no"

    def remaining(self, request, context):
        return b"%f" % (context.time_remaining() or -1)


def server():
    echo = Echo()
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(echo.unary),
        "Packed": grpc.unary_unary_rpc_method_handler(echo.packed),
        "Count": grpc.unary_stream_rpc_method_handler(echo.count),
        "Sum": grpc.stream_unary_rpc_method_handler(echo.sum),
        "Chat": grpc.stream_stream_rpc_method_handler(echo.chat),
        "Fail": grpc.unary_unary_rpc_method_handler(echo.fail),
        "FailLate": grpc.unary_stream_rpc_method_handler(echo.fail_late),
        "Wait": grpc.unary_stream_rpc_method_handler(echo.wait),
        "WasEnded": grpc.unary_unary_rpc_method_handler(echo.was_ended),
        "Remaining": grpc.unary_unary_rpc_method_handler(echo.remaining),
    }
    serving = grpc.server(futures.ThreadPoolExecutor(max_workers=32), options=OPTIONS)
    serving.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = serving.add_insecure_port("127.0.0.1:0")
    serving.start()
    print(port, flush=True)
    serving.wait_for_termination()


def status_of(call):
    """Runs a call that must fail and returns its code and message."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call must fail")


def unary_with_metadata(path):
    call = path("Unary", "unary_unary")
    reply, ended = call.with_call(b"hello", timeout=LIMIT, metadata=[("x-asked", "yes")])
    assert reply == b"hello", reply
    assert dict(ended.initial_metadata())["x-initial"] == "yes", ended.initial_metadata()
    trailing = dict(ended.trailing_metadata())
    assert (trailing["x-trailing"], trailing["x-binary-bin"]) == ("end", b"\x00\xff"), trailing


def large_and_empty_messages(path):
    for size in [0, 1, 16_384, 65_536, 5 << 20]:
        assert path("Unary", "unary_unary")(b"z" * size, timeout=LIMIT) == b"z" * size, size


def packed_messages(path):
    """gRPC packs each message by itself: an end that lost `grpc-encoding` on the way could not read it."""
    for size in [0, 100, 1 << 20]:
        reply = path("Packed", "unary_unary")(b"z" * size, timeout=LIMIT, compression=grpc.Compression.Gzip)
        assert reply == b"z" * size, size


def streams(path):
    numbers = list(path("Count", "unary_stream")(b"5000", timeout=LIMIT))
    assert numbers == [b"%d" % number for number in range(5000)], len(numbers)
    assert path("Sum", "stream_unary")((b"%d" % number for number in range(1000)), timeout=LIMIT) == b"499500"


def both_ways_in_turn(path):
    """Each message is sent only when the answer to the one before is there: nothing may be held back."""
    answered = threading.Semaphore(1)

    def messages():
        for number in range(200):
            assert answered.acquire(timeout=LIMIT), "an answer was held back"
            yield b"%d" % number

    count = 0
    for number, reply in enumerate(path("Chat", "stream_stream")(messages(), timeout=LIMIT)):
        assert reply == b"re: %d" % number, reply
        count += 1
        answered.release()
    assert count == 200, count


def failures(path):
    failed = grpc.StatusCode.FAILED_PRECONDITION, "no: 100 % & <grüße>"
    assert status_of(lambda: path("Fail", "unary_unary")(b"", timeout=LIMIT)) == failed
    late = grpc.StatusCode.DATA_LOSS, "late"
    assert status_of(lambda: list(path("FailLate", "unary_stream")(b"", timeout=LIMIT))) == late
    missing = status_of(lambda: path("Missing", "unary_unary")(b"", timeout=LIMIT))
    assert missing[0] == grpc.StatusCode.UNIMPLEMENTED, missing


def cancel_reaches_the_server(path):
    name = uuid.uuid4().bytes
    call = path("Wait", "unary_stream")(name, timeout=LIMIT)
    assert next(call) == b"waiting"
    call.cancel()
    assert path("WasEnded", "unary_unary")(name, timeout=LIMIT) == b"yes", "the server never saw the cancel"


def deadline_ends_both_sides(path):
    name = uuid.uuid4().bytes
    start = time.monotonic()
    code, _ = status_of(lambda: list(path("Wait", "unary_stream")(name, timeout=0.5)))
    took = time.monotonic() - start
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED, code
    assert took < LIMIT / 2, took
    assert path("WasEnded", "unary_unary")(name, timeout=LIMIT) == b"yes", "the server never saw the deadline"
    remaining = float(path("Remaining", "unary_unary")(b"", timeout=5))
    assert 0 < remaining < 5.5, f"the server was told {remaining} s of 5"


def many_at_once(path):
    calls = [path("Unary", "unary_unary").future(b"%d" % number, timeout=LIMIT) for number in range(300)]
    assert [call.result() for call in calls] == [b"%d" % number for number in range(300)]


def client(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:

        def path(method, kind):
            return getattr(channel, kind)(f"/{SERVICE}/{method}")

        for part in [
            unary_with_metadata,
            large_and_empty_messages,
            packed_messages,
            streams,
            both_ways_in_turn,
            failures,
            cancel_reaches_the_server,
            deadline_ends_both_sides,
            many_at_once,
        ]:
            try:
                part(path)
            except (AssertionError, grpc.RpcError) as error:
                sys.exit(f"grpc: {part.__name__}: {error}")
    print("grpc: all as it should be")


if __name__ == "__main__":
    if sys.argv[1] == "server":
        server()
    else:
        client(int(sys.argv[2]))
