//! HTTP routes and handlers of accounts. The gateway has checked content type, length and origin before.

use std::{net::IpAddr, sync::Arc, time::Duration};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder, Resource,
    error::PayloadError,
    http::{StatusCode, header},
    web,
};
use proto::{Identity, Object, Username};
use runtime::body::{self, ReadError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sessions::SharedSessions;

use crate::{Config, Error, Password, Users, cookie, hasher::Hasher, service::AccountService};

/// The HTTP handlers of accounts. Clones share their state.
#[derive(Clone)]
pub struct Accounts {
    service: Arc<AccountService>,
    /// The maximum size of a body in bytes, and the maximum time of its arrival.
    body: (usize, Duration),
    /// Whether every cookie is Secure. Without it, a cookie is Secure when a trusted proxy reports a TLS client.
    secure: bool,
}

/// The body of register and login. Without `Debug`, so that a password cannot be logged.
#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: String,
    session: Option<TokenDelivery>,
}

/// How the response to a login returns the session token: in an HttpOnly cookie, or in the body, for pages of other sites, for which
/// browsers send no cookie, and for programs. A registration opens a session for `Token` only.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum TokenDelivery {
    Cookie,
    Token,
}

/// `{"status":"success","message":...}`.
#[derive(Serialize)]
struct Success {
    status: &'static str,
    message: &'static str,
}

/// Response to a login or a registration with `"session": "token"`.
#[derive(Serialize)]
struct LoggedIn<'a> {
    #[serde(flatten)]
    success: Success,
    token: &'a str,
}

impl Accounts {
    /// Computes one hash; blocks for its duration.
    ///
    /// # Errors
    /// [`Error::Entropy`] when the system provides no random bytes.
    pub fn new(users: Arc<dyn Users>, sessions: SharedSessions, config: &Config) -> Result<Self, Error> {
        let hasher = || Hasher::new(config.threads(), config.password_queue.into(), config.bcrypt_cost);
        let service = AccountService::new(users, sessions, hasher, config.bcrypt_cost)?;
        let body = (config.login_body_limit, config.login_body_deadline);
        Ok(Self { service: Arc::new(service), body, secure: config.cookie_secure })
    }

    /// Mounts `POST /user/logout` and `GET /user/me`.
    pub fn routes(&self, config: &mut web::ServiceConfig) {
        config.service(self.at("/user/logout").route(web::post().to(logout)));
        config.service(
            web::resource("/user/me")
                .route(web::get().to(me))
                .default_service(web::to(|| async { refuse_method("GET") })),
        );
    }

    /// The resource `POST /user/login`. The gateway wraps it with its rate limit.
    pub fn login(&self) -> Resource {
        self.at("/user/login").route(web::post().to(login))
    }

    /// `POST /user/register`, for the gateway to put behind its limit.
    pub fn registration(&self) -> Resource {
        self.at("/user/register").route(web::post().to(register))
    }

    /// Registers a user without HTTP under the same rules. For sample users.
    pub async fn register(&self, username: &Username, password: &str) -> Result<(), Error> {
        self.service.register(username, Password::new(password)?).await
    }

    fn at(&self, path: &str) -> Resource {
        web::resource(path)
            .app_data(web::Data::new(self.clone()))
            .default_service(web::to(|| async { refuse_method("POST") }))
    }

    fn is_secure(&self, request: &HttpRequest) -> bool {
        self.secure || cookie::is_tls(request.headers())
    }

    /// Reads the credentials. The error contains no detail, because a parser's message can quote the password.
    async fn credentials(&self, payload: web::Payload) -> Result<Credentials, Error> {
        let (limit, deadline) = self.body;
        let body = body::read(payload, limit, deadline).await.map_err(|error| match error {
            // Also the limit of the gateway.
            ReadError::TooLarge | ReadError::Broken(PayloadError::Overflow) => Error::TooLarge(limit),
            ReadError::Timeout => Error::BodyTimeout,
            ReadError::Broken(_) => Error::Incomplete,
        })?;
        let Object(credentials) = serde_json::from_slice(&body).map_err(|_| Error::Malformed)?;
        Ok(credentials)
    }
}

async fn register(
    accounts: web::Data<Accounts>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    let credentials = accounts.credentials(payload).await?;
    let outcome = async {
        let name = credentials.username.parse()?;
        accounts.service.register(&name, Password::new(&credentials.password)?).await?;
        Ok(name)
    };
    let outcome = outcome.await;
    count("register", &outcome);
    let (name, success) = (outcome?, success("User registered successfully"));
    let mut response = response(StatusCode::CREATED);
    if credentials.session != Some(TokenDelivery::Token) {
        return Ok(response.json(success));
    }
    let old = cookie::presented_tokens(request.headers()).bearers;
    match accounts.service.open_session(&name, &old).await {
        Ok(token) => Ok(response.json(LoggedIn { success, token: token.reveal() })),
        // The user exists. Another status would make the client register again.
        Err(error) => {
            error.log();
            Ok(response.json(success))
        }
    }
}

async fn login(
    accounts: web::Data<Accounts>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    let Credentials { username, password, session } = accounts.credentials(payload).await?;
    let (presented, is_token) =
        (cookie::presented_tokens(request.headers()), session == Some(TokenDelivery::Token));
    // Tokens that the response replaces on the client.
    let old = if is_token { presented.bearers } else { presented.cookies };
    let outcome = accounts.service.login(&username, &password, &old, client(&request)).await;
    count("login", &outcome);
    let (token, success) = (outcome?, success("Login successful"));
    let mut response = response(StatusCode::OK);
    Ok(if is_token {
        response.json(LoggedIn { success, token: token.reveal() })
    } else {
        let cookie = cookie::session_cookie(&token, accounts.is_secure(&request));
        response.cookie(cookie).json(success)
    })
}

/// The client's address: reported by the gateway, or else the peer's. The gateway removes the header of every client.
fn client(request: &HttpRequest) -> Option<IpAddr> {
    let stated = request.headers().get(header::X_FORWARDED_FOR);
    let stated = stated.and_then(|stated| stated.to_str().ok()?.parse().ok());
    stated.or_else(|| Some(request.peer_addr()?.ip().to_canonical()))
}

async fn logout(accounts: web::Data<Accounts>, request: HttpRequest) -> Result<HttpResponse, Error> {
    let presented = cookie::presented_tokens(request.headers());
    let outcome = accounts.service.logout(presented.all()).await;
    let outcome =
        outcome.and_then(|()| match presented.has_malformed_bearer && presented.all().next().is_none() {
            true => Err(Error::MalformedToken),
            false => Ok(()),
        });
    count("logout", &outcome);
    outcome?;
    let cleared = cookie::removal_cookie(accounts.is_secure(&request));
    Ok(response(StatusCode::OK).cookie(cleared).json(success("Logout successful")))
}

async fn me(request: HttpRequest) -> Result<HttpResponse, Error> {
    let username = request.extensions().get::<Identity>().map(|identity| identity.username.clone());
    let username = username.ok_or(Error::Unauthorized)?;
    Ok(response(StatusCode::OK).json(json!({ "username": username })))
}

fn refuse_method(allowed: &'static str) -> Result<HttpResponse, Error> {
    Err(Error::Method(allowed))
}

/// A response that no cache may store.
fn response(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    response
}

fn success(message: &'static str) -> Success {
    Success { status: "success", message }
}

fn count<T>(action: &'static str, result: &Result<T, Error>) {
    let outcome = result.as_ref().map_or_else(|error| error.status().as_u16().to_string(), |_| "ok".into());
    metrics::counter!("godzilla_accounts_requests_total", "action" => action, "outcome" => outcome)
        .increment(1);
}

#[cfg(test)]
mod tests;
