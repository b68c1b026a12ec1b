"""python-socketio: connects by polling, by WebSocket and by default, exchanges messages and receives acks. Run as
`python python_chat.py URL ALICE_TOKEN BOB_TOKEN`.

This client sends the headers that are given to `connect`, and so the cookie, with the first request only: the later requests are
authenticated by the id of the session."""

import queue
import sys

import socketio

URL, ALICE, BOB = sys.argv[1:4]
TIMEOUT = 20


class Client:
    """One client and its received messages."""

    def __init__(self, token, transports):
        self.received = queue.Queue()
        self.welcomed = queue.Queue()
        self.socket = socketio.Client(reconnection=False)
        # The last argument of the server's events is the offset, as in servers with connection state recovery.
        self.socket.on("message", lambda message, *_: self.received.put(message))
        self.socket.on("welcome", lambda welcome, *_: self.welcomed.put(welcome))
        cookie = {"Cookie": f"auth_token={token}"}
        self.socket.connect(URL, headers=cookie, transports=transports, wait_timeout=TIMEOUT)
        self.name = self.welcomed.get(timeout=TIMEOUT)["username"]

    def send(self, text):
        """Sends a message to the lobby and returns the ack."""
        return self.socket.call("message", {"text": text}, timeout=TIMEOUT)


def chat(way, transports):
    """Two clients exchange messages: each message is acked and received once."""
    alice, bob = Client(ALICE, transports), Client(BOB, transports)
    assert (alice.name, bob.name) == ("alice", "bob"), (alice.name, bob.name)
    texts = [f"{way} {n} ü✓" for n in range(10)]
    acks = [alice.send(text) for text in texts]
    assert all(ack["ok"] for ack in acks), acks
    received = [bob.received.get(timeout=TIMEOUT) for _ in texts]
    assert [message["data"]["text"] for message in received] == texts, received
    assert [message["seq"] for message in received] == [ack["seq"] for ack in acks], (received, acks)
    assert {message["from"] for message in received} == {"alice"}, received
    answer = bob.send("reply")
    assert alice.received.get(timeout=TIMEOUT)["id"] == answer["id"]
    refused = bob.send("x" * 8193)
    assert (refused["ok"], refused["code"]) == (False, "too_large"), refused
    ending = alice.socket.transport()
    assert ending == (transports or ["polling", "websocket"])[-1], ending
    assert bob.received.empty() and alice.received.empty(), "a client received its own message or a duplicate"
    alice.socket.disconnect()
    bob.socket.disconnect()


def check_refused():
    """Without a session the connection is refused and the client raises an error."""
    client = socketio.Client(reconnection=False)
    try:
        client.connect(URL, headers={"Cookie": "auth_token=" + "A" * 43}, wait_timeout=TIMEOUT)
    except socketio.exceptions.ConnectionError:
        return
    raise AssertionError("connected without a session")


chat("polling", ["polling"])
chat("websocket", ["websocket"])
chat("default", None)
check_refused()
