"""Calls the five methods of presence with grpcio and the original's proto. Usage: presence_calls.py HOST:PORT [ONLINE_USER ...]"""

import sys
import tempfile
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_tools import protoc


def compiled():
    """Compiles original.proto into a temporary folder and imports it."""
    source = Path(__file__).resolve().parent
    target = tempfile.mkdtemp()
    arguments = ["protoc", f"-I{source}", f"--python_out={target}", f"--grpc_python_out={target}", "original.proto"]
    assert protoc.main(arguments) == 0, "original.proto does not compile"
    sys.path.insert(0, target)
    import original_pb2
    import original_pb2_grpc

    return original_pb2, original_pb2_grpc


def main(address, *others):
    messages, services = compiled()
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for service in ("", "presence.PresenceService"):
            response = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert response.status == health_pb2.HealthCheckResponse.SERVING, (service, response)
        presence = services.PresenceServiceStub(channel)
        nothing = messages.Empty()
        carol = messages.UserRequest(username="carol")

        def online():
            return list(presence.GetOnlineUsers(nothing, timeout=10).usernames)

        def typing():
            return list(presence.GetTypingUsers(nothing, timeout=10).usernames)

        assert online() == sorted(others), online()
        response = list(presence.UserConnected(carol, timeout=10).usernames)
        assert response == sorted([*others, "carol"]), response
        presence.UserConnected(carol, timeout=10)
        presence.UserDisconnected(carol, timeout=10)
        assert "carol" in online(), "one of two connections is open: online"

        presence.SetTyping(messages.SetTypingRequest(username="carol", is_typing=True), timeout=10)
        assert typing() == ["carol"], typing()
        presence.SetTyping(messages.SetTypingRequest(username="carol", is_typing=False), timeout=10)
        assert typing() == [], typing()

        presence.SetTyping(messages.SetTypingRequest(username="carol", is_typing=True), timeout=10)
        presence.UserDisconnected(carol, timeout=10)
        assert online() == sorted(others), online()
        assert typing() == [], "the end of the last connection ends the typing"
        presence.UserDisconnected(carol, timeout=10)
        assert online() == sorted(others), "an excess disconnect does not affect other users"

        try:
            presence.UserConnected(messages.UserRequest(username=""), timeout=10)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        else:
            raise AssertionError("an empty user name was accepted")


if __name__ == "__main__":
    main(*sys.argv[1:])
