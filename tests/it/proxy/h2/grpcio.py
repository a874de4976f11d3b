"""A server and a client of gRPC's own implementation, without generated code.

`serve` prints its port and serves until its input ends; `call ADDRESS` makes calls of all kinds through the proxy.
"""

import queue
import sys
from concurrent import futures

import grpc

SERVICE = "test.Echo"


def unary(request, context):
    context.set_trailing_metadata((("x-trailer", "1"),))
    if request == b"refuse":
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
    return request


def streamed(request, context):
    for number in range(100):
        yield request + str(number).encode()


def both(requests, context):
    for request in requests:
        yield request


def collected(requests, context):
    return b"".join(requests)


def serve():
    server = grpc.server(futures.ThreadPoolExecutor(8), options=(("grpc.so_reuseport", 0),))
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Streamed": grpc.unary_stream_rpc_method_handler(streamed),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Collected": grpc.stream_unary_rpc_method_handler(collected),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    sys.stdin.read()
    server.stop(None)


def call(address):
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        name = f"/{SERVICE}/"
        response, ended = channel.unary_unary(name + "Unary").with_call(b"text", timeout=10)
        assert response == b"text", response
        assert ("x-trailer", "1") in [tuple(it) for it in ended.trailing_metadata()], ended.trailing_metadata()
        long = bytes(range(256)) * 8000
        assert channel.unary_unary(name + "Unary")(long, timeout=10) == long
        responses = list(channel.unary_stream(name + "Streamed")(b"n", timeout=10))
        assert responses == [b"n%d" % number for number in range(100)], responses
        # Each message waits for the response to the one before.
        turns, received = queue.Queue(), []
        turns.put(b"0")
        for response in channel.stream_stream(name + "Both")(iter(turns.get, None), timeout=10):
            received.append(response)
            turns.put(b"%d" % len(received) if len(received) < 50 else None)
        assert received == [b"%d" % number for number in range(50)], received
        parts = (b"a" * 10000 for _ in range(100))
        assert len(channel.stream_unary(name + "Collected")(parts, timeout=10)) == 1000000
        for path, request, code in (
            (name + "Unary", b"refuse", grpc.StatusCode.PERMISSION_DENIED),
            (name + "Missing", b"", grpc.StatusCode.UNIMPLEMENTED),
            ("/down.Echo/Unary", b"", grpc.StatusCode.UNAVAILABLE),
        ):
            try:
                channel.unary_unary(path)(request, timeout=10)
            except grpc.RpcError as error:
                assert error.code() == code, (path, error)
            else:
                raise AssertionError(path)
    print("all calls are well")


serve() if sys.argv[1] == "serve" else call(sys.argv[2])
