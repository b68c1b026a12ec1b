// Compiled by a test, not run: a client with the types of clients/types. A line after `@ts-expect-error` must not compile.
import { io } from "socket.io-client";
import type { ChatSocket, Code, ConnectError, Message } from "godzilla-chat-types";

const socket: ChatSocket = io("https://chat.example.org", { auth: { token: "token" }, ackTimeout: 5000 });

socket.on("welcome", (welcome, offset) => [welcome.username, welcome.timestamp, offset.length]);
socket.on("message", (message, offset) => [message.data.text, message.seq + 1, offset]);
socket.on("presence:diff", ({ joined, left, count }) => [...joined, ...left, count]);
socket.on("room:joined", ({ room, username }) => room + username);
socket.on("error", ({ ok, code, retryAfter }) => [ok satisfies false, code satisfies Code, retryAfter ?? 0]);
socket.on("connect_error", (error) => ("data" in error ? (error.data as ConnectError).code : error.message));

export async function chat(): Promise<Message[]> {
    const posted = await socket.emitWithAck("message", { text: "hello", clientId: "1" });
    if (!posted.ok) throw new Error(posted.code);
    const seq: number = posted.seq;
    socket.emit("typing", { isTyping: true, room: null }, (answer) => answer.ok);
    const joined = await socket.emitWithAck("join", { room: "tea", since: seq, offset: "" });
    if (joined.ok && joined.reset) return joined.messages.slice(0, joined.head);
    const page = await socket.emitWithAck("history", { before: seq, limit: 20 });
    return page.ok && page.next !== null ? page.messages : [];
}

// @ts-expect-error: there is no such event
socket.on("welcomed", () => {});
// @ts-expect-error: the text is missing
socket.emit("message", { room: "tea" }, () => {});
// @ts-expect-error: there is no such field
socket.emit("join", { room: "tea", sinc: 1 }, () => {});
// @ts-expect-error: a number
socket.emit("history", { limit: "20" }, () => {});
// @ts-expect-error: an event of the server
socket.emit("welcome", {}, () => {});
// @ts-expect-error: a refused ack has no seq
socket.emit("message", { text: "hello" }, (answer) => answer.seq);
