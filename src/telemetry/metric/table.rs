//! The table of all metrics. A test compares it with the names, types and labels in the sources.

use super::{Group, Kind, Metric};

type Labels = &'static [(&'static str, &'static str)];

const fn counter(name: &'static str, unit: &'static str, labels: Labels, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, help }
}

const fn gauge(name: &'static str, unit: &'static str, labels: Labels, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help }
}

const fn histogram(name: &'static str, unit: &'static str, labels: Labels, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, unit, labels, help }
}

const CLOSE_REASON: (&str, &str) = ("reason", "a [close reason](events.md#close-reasons)");
const METHOD: (&str, &str) = ("method", "an HTTP method of the route");
const PART: (&str, &str) = ("part", "the name of the part, as in the log");
const ROUTE: (&str, &str) = ("route", "a path of the [route table](http.md#routes), with its placeholders");
const SERVICE: (&str, &str) = ("service", "`accounts`, `chat`, `gateway`, `sockets`");
const STORE: (&str, &str) = ("store", "`users`, `sessions`, `chat`");

/// The metrics by crate.
#[rustfmt::skip]
pub const GROUPS: &[Group] = &[
    Group { folder: "gateway", roles: "`serve`, `gateway`", metrics: &[
        counter("godzilla_http_refused_total", "requests", &[("reason", "a [refusal of the gateway](http.md#refusals)")],
            "Requests that the gateway refused."),
        histogram("godzilla_http_request_seconds", "seconds", &[METHOD, ROUTE, SERVICE],
            "Time from a request until the head of the service's response."),
        counter("godzilla_http_requests_total", "requests", &[METHOD, ROUTE, SERVICE, ("status", "`1xx`, `2xx`, `3xx`, `4xx`, `5xx`")],
            "Requests to which a service responded."),
        gauge("godzilla_proxied_websockets", "connections", &[],
            "Open WebSockets that the gateway proxies to chat nodes."),
    ] },
    Group { folder: "accounts", roles: "`serve`, `accounts`", metrics: &[
        counter("godzilla_accounts_entropy_failures_total", "requests", &[],
            "Requests that were refused because the system gave no random bytes for a salt or a token."),
        counter("godzilla_accounts_password_queue_full_total", "requests", &[],
            "Logins and registrations that were refused because the queue of password checks was full."),
        histogram("godzilla_accounts_password_seconds", "seconds", &[],
            "Time to verify or hash a password, without the time in the queue."),
        counter("godzilla_accounts_passwords_verified_total", "passwords", &[],
            "Passwords that were compared with a hash."),
        counter("godzilla_accounts_requests_total", "requests",
            &[("action", "`register`, `login`, `logout`"), ("outcome", "`ok`, or the HTTP status of the refusal")],
            "Registrations, logins and logouts."),
    ] },
    Group { folder: "chat", roles: "`serve`, `chat`", metrics: &[
        histogram("godzilla_chat_batch_posts", "messages", &[],
            "Messages that a room stored in one transaction."),
        histogram("godzilla_chat_broker_batch_entries", "entries", &[],
            "Entries that the broker sent to the sockets in one batch."),
        counter("godzilla_chat_broker_queue_full_total", "entries", &[],
            "Entries for which the queue of the broker was full."),
        counter("godzilla_chat_broker_slow_batches_total", "events", &[],
            "Times that a worker did not take a batch of events within the time limit, after which the broker keeps waiting."),
        counter("godzilla_chat_changes_from_store_total", "changes", &[],
            "Changes of rooms that the node read from the store because it had not received them."),
        gauge("godzilla_chat_clients", "clients", &[],
            "Connected clients."),
        counter("godzilla_chat_clients_closed_total", "clients", &[CLOSE_REASON],
            "Clients that were disconnected."),
        counter("godzilla_chat_entropy_failures_total", "requests", &[],
            "Operations that failed because the system gave no random bytes for an id."),
        counter("godzilla_chat_fenced_total", "transactions", &[],
            "Transactions of a room that were repeated because another node had appended to the room."),
        counter("godzilla_chat_optional_writes_failed_total", "writes", &[("data", "`messages`, `notes`")],
            "Writes to MongoDB that failed and without which the node is degraded."),
        counter("godzilla_chat_posts_total", "messages",
            &[("outcome", "`stored`, `duplicate`, `conflict`, `unavailable`")],
            "Messages that clients sent to a room."),
        counter("godzilla_chat_refused_total", "events", &[("status", "the HTTP status of the [code](events.md#codes)")],
            "Events of clients that were refused."),
        counter("godzilla_chat_room_age_reads_total", "reads", &[],
            "Reads of the members of a room before an answer, because the node had not compared their version with the store within a second."),
        gauge("godzilla_chat_rooms", "rooms", &[],
            "Rooms in memory."),
        histogram("godzilla_chat_store_seconds", "seconds", &[],
            "Time to store a batch of messages of a room, with its repetitions."),
        counter("godzilla_chat_stream_backfilled_total", "events", &[],
            "Times that a node published messages that were stored and missing in the Redis Stream."),
        counter("godzilla_chat_stream_fallback_total", "batches", &[],
            "Batches of messages that could not be published to the Redis Stream and reach other nodes from the store."),
        counter("godzilla_chat_stream_gap_repaired_total", "messages", &[],
            "Messages that were delivered from the store because they were missing in the Redis Stream."),
        counter("godzilla_chat_stream_publish_dropped_total", "changes", &[],
            "Changes of rooms that were not published because the queue was full; other nodes apply them from the store."),
        counter("godzilla_presence_streams_lost_total", "streams", &[],
            "Times that the stream to the presence service was lost or could not be opened."),
        gauge("godzilla_presence_up", "boolean", &[],
            "1 while the node receives the online users from the presence service, 0 while they are unknown."),
    ] },
    Group { folder: "presence", roles: "`serve`, `presence`", metrics: &[
        counter("godzilla_presence_calls_total", "calls", &[],
            "Calls of gRPC that change the presence of a user."),
        counter("godzilla_presence_leases_lost_total", "leases", &[],
            "Leases of chat nodes that expired, after which the users of the node are offline."),
        gauge("godzilla_presence_online", "users", &[],
            "Users online."),
        counter("godzilla_presence_reports_total", "reports", &[],
            "Reports that chat nodes sent."),
        gauge("godzilla_presence_streams", "streams", &[],
            "Streams of chat nodes."),
        counter("godzilla_presence_streams_lagged_total", "streams", &[],
            "Streams that were ended because the chat node did not read its updates."),
    ] },
    Group { folder: "crates/socketio", roles: "`serve`, `chat`", metrics: &[
        counter("socketio_entropy_failures_total", "ids", &[],
            "Sessions and sockets that were refused because the system gave no random bytes for an id."),
        counter("socketio_events_received_total", "events", &[],
            "Events that clients sent."),
        counter("socketio_events_unreadable_total", "events", &[],
            "Events of clients whose arguments cannot be represented."),
        counter("socketio_packets_delivered_total", "packets", &[],
            "Packets of broadcasts, counted once per receiving socket."),
        gauge("socketio_sessions", "sessions", &[],
            "Open Engine.IO sessions."),
        counter("socketio_sessions_closed_total", "sessions", &[CLOSE_REASON],
            "Engine.IO sessions that ended."),
        counter("socketio_upgrade_probes_closed_total", "connections", &[CLOSE_REASON],
            "WebSockets that were closed before their upgrade was complete; the session stays on long-polling."),
        counter("socketio_volatile_packets_dropped_total", "packets", &[],
            "Volatile packets that were not sent because the client lagged."),
    ] },
    Group { folder: "crates/embedded", roles: "`serve`", metrics: &[
        histogram("godzilla_store_batch_jobs", "jobs", &[STORE],
            "Jobs in one transaction."),
        histogram("godzilla_store_commit_seconds", "seconds", &[STORE],
            "Time of a commit, until it is durable."),
        counter("godzilla_store_failed_commits_total", "transactions", &[STORE],
            "Transactions that failed."),
        gauge("godzilla_store_log_pages", "pages", &[STORE],
            "Pages in the write-ahead log."),
        counter("godzilla_store_queue_full_total", "jobs", &[("queue", "`read`, `write`"), STORE],
            "Jobs that were refused because the queue was full."),
        counter("godzilla_store_timeouts_total", "jobs", &[STORE],
            "Jobs that were not complete within the deadline."),
    ] },
    Group { folder: "crates/supervision", roles: "all", metrics: &[
        counter("godzilla_panics_total", "panics", &[("part", "the folder of the crate; `other` for dependencies")],
            "Panics."),
        counter("godzilla_part_failures_total", "parts", &[PART],
            "Parts that ended unexpectedly, after which the process ends."),
        counter("godzilla_part_restarts_total", "restarts", &[PART],
            "Restarts of parts that panicked."),
    ] },
    Group { folder: "src", roles: "all", metrics: &[
        gauge("godzilla_degraded", "boolean", &[],
            "1 while the role works with less than all of its parts, else 0."),
        counter("godzilla_http_connections_refused_total", "connections", &[],
            "Connections that were closed because their address had its share of connections."),
        counter("godzilla_identity_refused_total", "requests", &[],
            "Requests that were refused because they had no valid signature of the gateway."),
        counter("godzilla_log_lines_dropped_total", "lines", &[],
            "Log lines that did not fit into the queue of the log."),
        counter("godzilla_thread_stalls_total", "events", &[],
            "Times that threads stalled, counted when the first of them stalls."),
    ] },
];
