//! docs/errors.md is generated from the enums of errors: their texts, statuses and headers are those of the program, and the meaning of
//! a row is the comment of its variant.

use std::{collections::BTreeSet, time::Duration};

use accounts::Weakness;
use actix_web::{HttpResponse, ResponseError, http::header};
use chat::history::RoomHead;
use proto::{NameError, event::Code};
use socketio::CloseReason;

use super::{
    check, code, table,
    variants::{Variant, assert_complete, variants},
};
use crate::{
    close_reasons::{ClientView, REASONS, client_view},
    tidy::read,
};

const INTRODUCTION: &str = "\
# Errors

- [Codes](#codes): refused events, and refusals of rooms, messages and presence over HTTP
- [Refusals of the gateway](#refusals-of-the-gateway)
- [Refusals of accounts](#refusals-of-accounts)
- [Close reasons](#close-reasons) of sockets
- [Engine.IO errors](#engineio-errors)

This page is generated from the enums in the sources. Write it with `GODZILLA_WRITE_DOCS=1`, as `tests/tidy/documents.rs` describes.

## Codes

A refused event is acked with `{ok: false, code, message, retryAfter?}`. The event `error` and the `data` of a `connect_error` have the
same `code`, `message` and `retryAfter`. Over HTTP the same refusal is the status with the body `{\"status\": \"error\", \"code\": STATUS,
\"message\": ...}`, and `retryAfter` is the header `Retry-After` in whole seconds. `message` is for display and can change.

";

const GATEWAY: &str = "
## Refusals of the gateway

The gateway checks a request before a service receives it. `reason` is the label of `godzilla_http_refused_total`.

";

const ACCOUNTS: &str = "
## Refusals of accounts

Responses to `/user/register`, `/user/login`, `/user/logout` and `/user/me`.

";

const CLOSE_REASONS: &str = "
## Close reasons

The reason is the label `reason` of `socketio_sessions_closed_total` and `godzilla_chat_clients_closed_total`, and the text of the
WebSocket close frame (`too large` has an empty text). The client does not receive it as a Socket.IO packet: the official client emits
`disconnect` with the reason in the columns *WebSocket* and *polling*, and a client over WebSocket can read code and text in
`details.context`. *Reconnects*: whether the official client reconnects without a call of the application. *Recovers*: whether its
session can be [recovered](recovery.md) then. A client that polls, and has no request under way when the server ends the session, gets
`transport error` for some reasons: its next poll is answered with the Engine.IO error 1.

";

const ENGINE: &str = "
## Engine.IO errors

Responses of `/socket.io/` to a request that opens or uses a session. Over long-polling the body is `{\"code\": ..., \"message\": ...}`. A
request for a WebSocket gets status 400 and the message as plain text. The codes are those of the reference implementation. When the system
gives no random bytes, the response is 503 with code 3.

";

/// Every variant, in the order of the enum.
fn codes() -> [Code; 8] {
    [
        Code::BadRequest,
        Code::Unauthorized,
        Code::Forbidden,
        Code::NotFound,
        Code::Conflict,
        Code::TooLarge,
        Code::RateLimited,
        Code::Unavailable,
    ]
}

/// One error of the chat for every variant, in the order of the enum.
fn chat_errors() -> Vec<chat::Error> {
    use chat::Error;
    vec![
        Error::BadRequest(String::new()),
        Error::Unauthorized,
        Error::Forbidden(""),
        Error::NotFound,
        Error::Conflict(""),
        Error::TooLarge { what: "", limit: 0 },
        Error::RateLimited { what: "", retry_after: WAIT },
        Error::Unavailable(""),
        Error::Store(String::new()),
        Error::StoreRefused(String::new()),
        Error::Damaged(String::new()),
        Error::Fenced { head: RoomHead::default() },
    ]
}

/// A time to wait that is no constant of the program.
const WAIT: Duration = Duration::from_secs(77);

/// One refusal of the gateway for every variant, in the order of the enum. The placeholders are in capitals.
fn gateway_errors() -> Vec<gateway::Error> {
    use gateway::Error;
    vec![
        Error::Path(CAUSE),
        Error::Upgrade(gateway::HandshakeIssue::NoUpgrade),
        Error::UnexpectedBody,
        Error::BrokenBody,
        Error::Unauthorized,
        Error::Ambiguous,
        Error::Origin,
        Error::NotFound,
        Error::Method("GET"),
        Error::BodyTimeout,
        Error::NoLength,
        Error::TooLarge,
        Error::TargetTooLong,
        Error::MediaType,
        Error::ContentEncoding,
        Error::TooManyLogins(WAIT.as_secs()),
        Error::TooManyAnonymous(WAIT.as_secs()),
        Error::HeadTooLarge,
        Error::SessionStore,
        Error::ResponseBudget,
        Error::InvalidResponse,
        Error::Unavailable,
        Error::UnknownOutcome,
        Error::UpstreamTimeout,
        Error::NoAddress,
    ]
}

/// The placeholder of a message that names the cause.
const CAUSE: &str = "CAUSE";

/// One refusal of accounts for every variant, in the order of the enum.
fn account_errors() -> Vec<accounts::Error> {
    use accounts::Error;
    vec![
        Error::Malformed,
        Error::MalformedToken,
        Error::Incomplete,
        Error::Name(NameError::Username),
        Error::Weak(Weakness::Short),
        Error::InvalidCredentials,
        Error::Unauthorized,
        Error::Method("GET"),
        Error::BodyTimeout,
        Error::Exists,
        Error::TooLarge(77),
        Error::MediaType,
        Error::TooMany(WAIT.as_secs()),
        Error::Overloaded,
        Error::Unavailable(CAUSE.into()),
        Error::Refused(CAUSE.into()),
        Error::Entropy,
        Error::Damaged(CAUSE),
        Error::Internal(CAUSE),
    ]
}

/// `retryAfter` of the refusals with a code.
fn retry_after(of: Code) -> String {
    let errors = chat_errors().into_iter().filter(|error| error.code() == of);
    let values: BTreeSet<Option<Duration>> = errors.map(|error| error.retry_after()).collect();
    let name = |value: &Option<Duration>| match value {
        None => "absent".to_owned(),
        Some(wait) if *wait == WAIT => "time until the limit admits the next".to_owned(),
        Some(wait) => format!("{} s", wait.as_secs_f64()),
    };
    // The absent value is the first of the set.
    values.iter().rev().map(name).collect::<Vec<_>>().join(" or ")
}

fn codes_table() -> String {
    let documented = variants("proto/src/event/refused.rs", "Code");
    assert_complete(&documented, codes().map(|code| format!("{code:?}")));
    assert_complete(
        &variants("chat/src/error.rs", "Error"),
        chat_errors().iter().map(|error| format!("{error:?}")),
    );
    let rows = codes().into_iter().zip(documented).map(|(of, variant)| {
        let name = serde_json::to_value(of).expect("a code is a string");
        let name = code(name.as_str().expect("a code is a string"));
        [name, of.status().to_string(), retry_after(of), variant.doc]
    });
    table(["`code`", "HTTP status", "`retryAfter`", "Meaning"], rows)
}

/// The cells that all HTTP refusals have: status, message, `Retry-After`, whether the connection is closed.
fn refusal_cells(error: &impl ResponseError) -> (String, String, String, String) {
    let response: HttpResponse = error.error_response();
    let retry = response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().expect("a number"));
    let retry = match retry {
        None => "-",
        Some(wait) if wait == WAIT.as_secs().to_string() => "seconds until the limit admits the next",
        Some(wait) => wait,
    };
    let closes = if response.head().keep_alive() { "no" } else { "yes" };
    let message = error.to_string().replace("77", "LIMIT").replace(CAUSE, "the cause");
    (response.status().as_u16().to_string(), message, retry.to_owned(), closes.to_owned())
}

/// A comment without the status that it starts or ends with, which is the status of the response, and without the sentence about the
/// value of the variant (`Contains ...`).
fn without_status(variant: Variant, status: &str) -> String {
    let Variant { name, doc, .. } = variant;
    let rest = doc.strip_prefix(&format!("{status}: ")).or_else(|| doc.strip_suffix(&format!(" {status}.")));
    let rest = rest.unwrap_or_else(|| panic!("the comment of {name} names its status {status}: {doc}"));
    let rest = rest.split_once(" Contains ").map_or(rest, |(meaning, _)| meaning);
    let mut letters = rest.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn gateway_table() -> String {
    let documented = variants("gateway/src/error.rs", "Error");
    assert_complete(&documented, gateway_errors().iter().map(|error| format!("{error:?}")));
    let rows = gateway_errors().into_iter().zip(documented).map(|(error, variant)| {
        let (status, message, retry, closes) = refusal_cells(&error);
        let meaning = without_status(variant, &status);
        [status, code(error.label()), message, retry, closes, meaning]
    });
    table(["Status", "`reason`", "Message", "`Retry-After`", "Closes the connection", "Meaning"], rows)
}

/// The messages of several causes.
fn alternatives<const N: usize>(causes: [impl ToString; N]) -> String {
    causes.map(|cause| cause.to_string()).join(", or: ")
}

fn accounts_table() -> String {
    let documented = variants("accounts/src/error.rs", "Error");
    assert_complete(&documented, account_errors().iter().map(|error| format!("{error:?}")));
    let rows = account_errors().into_iter().zip(documented).map(|(error, variant)| {
        let (status, message, retry, closes) = refusal_cells(&error);
        let meaning = without_status(variant, &status);
        let message = match error {
            accounts::Error::Name(_) => {
                alternatives([NameError::Username, NameError::Dots, NameError::Reserved])
            }
            accounts::Error::Weak(_) => alternatives([Weakness::Short, Weakness::Long, Weakness::Control]),
            _ => message,
        };
        [status, message, retry, closes, meaning]
    });
    table(["Status", "Message", "`Retry-After`", "Closes the connection", "Meaning"], rows)
}

fn close_reasons_table() -> String {
    let documented = variants("crates/socketio/src/close.rs", "CloseReason");
    assert_complete(&documented, REASONS.map(|reason| format!("{reason:?}")));
    let yes_or_no = |is: bool| String::from(if is { "yes" } else { "no" });
    let rows = REASONS.into_iter().zip(documented).map(|(reason, variant)| {
        let ClientView { websocket, polling, reconnects } = client_view(reason);
        // The client sends the last frame, or does not receive one.
        let close_code = match reason {
            CloseReason::ClientDisconnect | CloseReason::Slow => "-".to_owned(),
            reason => reason.code().to_string(),
        };
        [
            code(reason.as_str()),
            close_code,
            code(websocket),
            polling.iter().map(|reason| code(reason)).collect::<Vec<_>>().join(" or "),
            yes_or_no(reconnects),
            yes_or_no(reason.is_recoverable()),
            variant.doc,
        ]
    });
    table(["Reason", "Close code", "WebSocket", "Polling", "Reconnects", "Recovers", "Meaning"], rows)
}

/// The handshake errors are private to their crate: codes and messages are read from the source.
fn engine_table() -> String {
    const SOURCE: &str = "crates/socketio/src/engine/handshake.rs";
    let source = read(SOURCE);
    let (_, arms) = source.split_once("fn code(self) -> u8 {").expect("the function of the codes");
    let rows = variants(SOURCE, "HandshakeError").into_iter().map(|variant| {
        let names = |line: &&str| {
            let patterns = line.split_once("=>").map_or("", |(patterns, _)| patterns);
            patterns.split('|').any(|pattern| {
                let name = pattern.trim().trim_start_matches("Self::");
                name.split('(').next() == Some(variant.name.as_str())
            })
        };
        let arm = arms.lines().find(names).and_then(|line| line.split_once("=> "));
        let number = arm.expect("every variant has a code").1.trim_end_matches(',');
        let status = match variant.name.as_str() {
            "Forbidden" => "403",
            "WebSocketVersion" => "426",
            _ => "400",
        };
        let message = variant.message.expect("a message").replace("{0}", CAUSE);
        [number.to_owned(), status.to_owned(), message, variant.doc]
    });
    let mut rows: Vec<[String; 4]> = rows.collect();
    rows.sort_by(|one, other| one[0].cmp(&other[0]));
    let mut codes: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
    codes.dedup();
    assert_eq!(codes, ["0", "1", "2", "3", "4", "5"]);
    table(["Code", "Status", "Message", "Meaning"], rows)
}

#[test]
fn the_page_of_errors_is_current() {
    let parts = [
        INTRODUCTION.to_owned(),
        codes_table(),
        GATEWAY.to_owned(),
        gateway_table(),
        ACCOUNTS.to_owned(),
        accounts_table(),
        CLOSE_REASONS.to_owned(),
        close_reasons_table(),
        ENGINE.to_owned(),
        engine_table(),
    ];
    check("docs/errors.md", &parts.concat());
}
