"""A gRPC service that fails in the ways that are tried again, and a client that looks at what comes of it.

grpc_retry.py server          serves on a free port of loopback, which it prints first
grpc_retry.py client PORT     calls through a gateway that retries; exit code 0 if all is as it should be

Each call has a name, so that the server knows which tries belong together. The client itself retries nothing.
"""

import sys
import threading
import time
import uuid
from collections import Counter, defaultdict
from concurrent import futures

import grpc

SERVICE = "meshless.test.Retry"
LIMIT = 10  # seconds for one call: a hang is a failure
SLOW = 0.4  # seconds that a slow try takes before it fails


class Retry:
    def __init__(self):
        self.tries = Counter()  # by name
        self.ended = defaultdict(threading.Event)  # by name: the server saw the end of a try that waits

    def begin(self, context):
        name = dict(context.invocation_metadata())["x-name"]
        self.tries[name] += 1
        return name, self.tries[name]

    def once(self, _, context):
        """Is unavailable at first."""
        if self.begin(context)[1] == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return b"served"

    def slow_once(self, _, context):
        """Is unavailable after a while, then tells how much time is left."""
        if self.begin(context)[1] == 1:
            time.sleep(SLOW)
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return b"%f" % (context.time_remaining() or -1)

    def wait_once(self, _, context):
        """Is unavailable at first, then waits for the end of the call."""
        name, number = self.begin(context)
        if number == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        ended = self.ended[name]
        context.add_callback(ended.set)
        ended.wait(LIMIT)
        return b""

    def always(self, request, context):
        """Fails with the code that was asked for."""
        self.begin(context)
        context.abort(next(code for code in grpc.StatusCode if code.name == request.decode()), "never")

    def push_back(self, request, context):
        """Is unavailable and says when to come again."""
        self.begin(context)
        context.set_trailing_metadata([("grpc-retry-pushback-ms", request.decode())])
        context.abort(grpc.StatusCode.UNAVAILABLE, "later")

    def late(self, _, context):
        """Is unavailable in the middle of its answer."""
        self.begin(context)
        yield b"one"
        time.sleep(0.1)
        context.abort(grpc.StatusCode.UNAVAILABLE, "late")

    def count(self, request, context):
        return b"%d" % self.tries[request.decode()]

    def was_ended(self, request, context):
        return b"yes" if self.ended[request.decode()].wait(LIMIT / 2) else b"no"


def server():
    retry = Retry()
    unary = grpc.unary_unary_rpc_method_handler
    methods = {
        "Once": unary(retry.once),
        "SlowOnce": unary(retry.slow_once),
        "WaitOnce": unary(retry.wait_once),
        "Always": unary(retry.always),
        "PushBack": unary(retry.push_back),
        "Late": grpc.unary_stream_rpc_method_handler(retry.late),
        "Count": unary(retry.count),
        "WasEnded": unary(retry.was_ended),
    }
    serving = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    serving.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    port = serving.add_insecure_port("127.0.0.1:0")
    serving.start()
    print(port, flush=True)
    serving.wait_for_termination()


class Calls:
    """Calls by name, and how many tries of each came to the server."""

    def __init__(self, channel):
        self.channel = channel

    def start(self, method, request=b"", kind="unary_unary", timeout=LIMIT):
        name = str(uuid.uuid4())
        path = getattr(self.channel, kind)(f"/{SERVICE}/{method}")
        call = path.future if kind == "unary_unary" else path
        return name, call(request, timeout=timeout, metadata=[("x-name", name)])

    def run(self, method, request=b""):
        """Returns the reply or the code of the failure, and the number of tries."""
        name, call = self.start(method, request)
        try:
            outcome = call.result()
        except grpc.RpcError as error:
            outcome = error.code()
        return outcome, self.tries(name)

    def ask(self, method, name):
        return self.channel.unary_unary(f"/{SERVICE}/{method}")(name.encode(), timeout=LIMIT)

    def tries(self, name):
        return int(self.ask("Count", name))


def unavailable_is_tried_again(calls):
    assert calls.run("Once") == (b"served", 2), calls.run("Once")


def it_is_tried_no_more_often_than_attempts_says(calls):
    outcome = calls.run("Always", b"UNAVAILABLE")
    assert outcome == (grpc.StatusCode.UNAVAILABLE, 2), outcome


def other_failures_are_not_tried_again(calls):
    for code in [grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.NOT_FOUND]:
        outcome = calls.run("Always", code.name.encode())
        assert outcome == (code, 1), outcome


def a_reply_that_has_begun_is_not_tried_again(calls):
    name, call = calls.start("Late", kind="unary_stream")
    try:
        messages = []
        for message in call:
            messages.append(message)
        raise AssertionError("the call must fail")
    except grpc.RpcError as error:
        assert (error.code(), messages) == (grpc.StatusCode.UNAVAILABLE, [b"one"]), (error, messages)
    assert calls.tries(name) == 1, calls.tries(name)


def the_server_may_forbid_it(calls):
    for never in [b"-1", b"no number"]:
        outcome = calls.run("PushBack", never)
        assert outcome == (grpc.StatusCode.UNAVAILABLE, 1), (never, outcome)


def the_server_says_when(calls):
    start = time.monotonic()
    outcome = calls.run("PushBack", b"600")
    took = time.monotonic() - start
    assert outcome == (grpc.StatusCode.UNAVAILABLE, 2), outcome
    assert 0.6 <= took < LIMIT / 2, took


def the_deadline_shrinks_from_try_to_try(calls):
    name, call = calls.start("SlowOnce", timeout=5)
    left = float(call.result())
    assert calls.tries(name) == 2
    assert 0 < left < 5 - SLOW + 0.01, f"{left} s are left of 5 after a try that took {SLOW} s"


def no_try_goes_beyond_the_deadline(calls):
    start = time.monotonic()
    name, call = calls.start("SlowOnce", timeout=SLOW / 2)
    try:
        call.result()
        raise AssertionError("the call must fail")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert time.monotonic() - start < LIMIT / 2
    time.sleep(2 * SLOW)
    assert calls.tries(name) == 1, calls.tries(name)


def cancel_reaches_the_second_try(calls):
    name, call = calls.start("WaitOnce")
    deadline = time.monotonic() + LIMIT / 2
    while calls.tries(name) < 2:
        assert time.monotonic() < deadline, "there was no second try"
        time.sleep(0.01)
    call.cancel()
    assert calls.ask("WasEnded", name) == b"yes", "the server never saw the cancel"


def client(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_retries", 0)]) as channel:
        calls = Calls(channel)
        failed = []
        for part in [
            unavailable_is_tried_again,
            it_is_tried_no_more_often_than_attempts_says,
            other_failures_are_not_tried_again,
            a_reply_that_has_begun_is_not_tried_again,
            the_server_may_forbid_it,
            the_server_says_when,
            the_deadline_shrinks_from_try_to_try,
            no_try_goes_beyond_the_deadline,
            cancel_reaches_the_second_try,
        ]:
            try:
                part(calls)
            except (AssertionError, grpc.RpcError) as error:
                failed.append(f"{part.__name__}: {error!r}")
    if failed:
        sys.exit("\n".join(failed))
    print("grpc: tried again as it should be")


if __name__ == "__main__":
    if sys.argv[1] == "server":
        server()
    else:
        client(int(sys.argv[2]))
