"""Validates every event and every ack of the running server against /asyncapi.yaml. Run as
`python asyncapi.py URL ALICE_TOKEN BOB_TOKEN`. Fails when an event or an ack of the document was not received."""

import queue
import sys

import jsonschema_rs
import requests
import socketio
import yaml

URL, ALICE, BOB = sys.argv[1:4]
TIMEOUT = 20

DOCUMENT = yaml.safe_load(requests.get(f"{URL}/asyncapi.yaml", timeout=TIMEOUT).text)
MESSAGES = DOCUMENT["components"]["messages"]
OPERATIONS = DOCUMENT["operations"]
# The messages that were received and are valid.
SEEN = set()


def resolve(reference):
    """The key of the message that a reference to the channel names."""
    return reference["$ref"].rsplit("/", 1)[-1]


def validate(key, payload):
    """Validates a payload of the message with this key."""
    schemas = {"components": {"schemas": DOCUMENT["components"]["schemas"]}}
    validator = jsonschema_rs.Draft202012Validator({**schemas, **MESSAGES[key]["payload"]})
    errors = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(payload)]
    assert not errors, f"{key}: {payload}: {errors}"
    SEEN.add(key)


# The keys of the server's events by their name.
EVENTS = {MESSAGES[key]["name"]: key for key, operation in OPERATIONS.items() if operation["action"] == "send"}


class Client:
    """One client. Events are validated in the order in which they are awaited."""

    def __init__(self, token):
        self.events = queue.Queue()
        self.socket = socketio.Client(reconnection=False)
        self.socket.on("*", lambda name, *arguments: self.events.put((name, arguments)))
        headers = {"Cookie": f"auth_token={token}"}
        self.socket.connect(URL, headers=headers, transports=["websocket"], wait_timeout=TIMEOUT)

    def receive(self, name, accept=lambda payload: True):
        """Validates all events up to the first one with this name and an accepted payload, and returns that payload."""
        while True:
            received, arguments = self.events.get(timeout=TIMEOUT)
            key = EVENTS[received]
            assert len(arguments) == (2 if "x-second-argument" in MESSAGES[key] else 1), (received, arguments)
            validate(key, arguments[0])
            if received == name and accept(arguments[0]):
                return arguments[0]

    def call(self, operation, payload, refused=False):
        """Sends the event of an operation, validates its ack and returns it."""
        key = resolve(OPERATIONS[operation]["messages"][0])
        validate(key, payload)
        ack = self.socket.call(MESSAGES[key]["name"], payload, timeout=TIMEOUT)
        succeeded, failed = (resolve(reply) for reply in OPERATIONS[operation]["reply"]["messages"])
        validate(failed if refused else succeeded, ack)
        return ack


def check_refused_connect():
    """CONNECT with a token of no session is refused."""
    client, errors = socketio.Client(reconnection=False), queue.Queue()
    client.on("connect_error", errors.put)
    validate("connect", {"token": "A" * 64})
    try:
        client.connect(URL, headers={"Cookie": "auth_token=" + "A" * 64}, transports=["websocket"], wait_timeout=TIMEOUT)
    except socketio.exceptions.ConnectionError:
        validate("connectError", errors.get(timeout=TIMEOUT)["data"])
        return
    raise AssertionError("connected without a session")


def check_events():
    """Two clients chat, until every event and every ack was received."""
    alice, bob = Client(ALICE), Client(BOB)
    for client in (alice, bob):
        client.receive("welcome")
        client.receive("presence", lambda presence: presence["online"] == ["alice", "bob"])
    alice.call("post", {"text": "hello", "clientId": "1"})
    assert bob.receive("message")["data"] == {"text": "hello"}
    alice.call("setTyping", {"isTyping": True})
    assert bob.receive("typing")["users"] == ["alice"]

    headers = {"Authorization": f"Bearer {ALICE}"}
    requests.post(f"{URL}/rooms", json={"name": "tea"}, headers=headers, timeout=TIMEOUT).raise_for_status()
    bob.call("join", {"room": "tea"})
    alice.receive("room:joined", lambda joined: joined["username"] == "bob")
    rev = alice.receive("change", lambda change: change["items"][0]["member"]["username"] == "bob")["rev"]
    caught_up = bob.call("join", {"room": "tea", "rev": rev - 1, "since": 0, "enter": False})
    assert [change["rev"] for change in caught_up["changes"]] == [rev], caught_up
    assert bob.call("join", {"room": "tea", "rev": rev + 1, "types": ["member"]})["reset"]
    alice.call("post", {"text": "hello", "room": "tea"})
    assert len(bob.call("join", {"room": "tea", "since": 0, "offset": ""})["messages"]) == 1
    assert bob.call("join", {"room": "tea", "since": 9})["reset"]
    assert len(bob.call("history", {"room": "tea", "limit": 1, "offset": ""})["messages"]) == 1
    bob.call("leave", {"room": "tea"})
    alice.receive("room:left", lambda left: left["username"] == "bob")
    bob.call("join", {"room": "tea", "rev": rev, "enter": False}, refused=True)

    for operation, payload in [
        ("post", {"text": "hello", "room": "nowhere"}),
        ("post", {"text": "x" * 8193}),
        ("setTyping", {"isTyping": True, "room": "nowhere"}),
        ("join", {"room": "nowhere"}),
        ("history", {"room": "nowhere"}),
    ]:
        bob.call(operation, payload, refused=True)
    bob.socket.emit("history", {"room": 1})
    bob.receive("error")
    bob.socket.disconnect()
    alice.receive("presence:diff", lambda diff: diff["left"] == ["bob"])
    alice.socket.disconnect()


for message_key, message in MESSAGES.items():
    for example in message["examples"]:
        validate(message_key, example["payload"])
SEEN.clear()
check_refused_connect()
check_events()
unseen = set(MESSAGES) - SEEN
assert not unseen, f"not received: {unseen}"
