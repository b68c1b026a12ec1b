"""python-socketio as people use it: connects by polling, by WebSocket and by default, chats and gets acks. Run as
`python python_chat.py URL ALICE_TOKEN BOB_TOKEN`.

The cookie is in the headers given to `connect`, which this client sends with the first request only: the id of the session must
do for the rest."""

import queue
import sys

import socketio

URL, ALICE, BOB = sys.argv[1:4]
PATIENCE = 20


class Client:
    """One client and what it has heard."""

    def __init__(self, token, transports):
        self.heard = queue.Queue()
        self.welcomed = queue.Queue()
        self.socket = socketio.Client(reconnection=False)
        # The server ends its events with its offset, as servers with connection state recovery do.
        self.socket.on("message", lambda message, *_: self.heard.put(message))
        self.socket.on("welcome", lambda welcome, *_: self.welcomed.put(welcome))
        cookie = {"Cookie": f"auth_token={token}"}
        self.socket.connect(URL, headers=cookie, transports=transports, wait_timeout=PATIENCE)
        self.name = self.welcomed.get(timeout=PATIENCE)["username"]

    def says(self, text):
        """Says something in the lobby; answers with the ack."""
        return self.socket.call("message", {"text": text}, timeout=PATIENCE)


def chat(way, transports):
    """Two clients talk, each message acked and heard once."""
    alice, bob = Client(ALICE, transports), Client(BOB, transports)
    assert (alice.name, bob.name) == ("alice", "bob"), (alice.name, bob.name)
    texts = [f"{way} {n} ü✓" for n in range(10)]
    acks = [alice.says(text) for text in texts]
    assert all(ack["ok"] for ack in acks), acks
    heard = [bob.heard.get(timeout=PATIENCE) for _ in texts]
    assert [message["data"]["text"] for message in heard] == texts, heard
    assert [message["seq"] for message in heard] == [ack["seq"] for ack in acks], (heard, acks)
    assert {message["from"] for message in heard} == {"alice"}, heard
    answer = bob.says("and back")
    assert alice.heard.get(timeout=PATIENCE)["id"] == answer["id"]
    refused = bob.says("x" * 8193)
    assert (refused["ok"], refused["code"]) == (False, "too_large"), refused
    ending = alice.socket.transport()
    assert ending == (transports or ["polling", "websocket"])[-1], ending
    assert bob.heard.empty() and alice.heard.empty(), "somebody heard itself or something twice"
    alice.socket.disconnect()
    bob.socket.disconnect()


def stays_out():
    """Without a session there is no connection, and the client says so."""
    nobody = socketio.Client(reconnection=False)
    try:
        nobody.connect(URL, headers={"Cookie": "auth_token=" + "A" * 43}, wait_timeout=PATIENCE)
    except socketio.exceptions.ConnectionError:
        return
    raise AssertionError("somebody without a session was let in")


chat("polling", ["polling"])
chat("websocket", ["websocket"])
chat("default", None)
stays_out()
