//! HTTP routes and handlers of accounts.

use std::{net::IpAddr, sync::Arc};

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse, HttpResponseBuilder, Resource,
    http::{StatusCode, header},
    web,
};
use proto::{Identity, Username, address::counted, identity::OPENED};
use serde::Serialize;
use serde_json::json;
use sessions::SharedSessions;
use tokio::time::sleep;

use crate::{
    Config, Error, Password, Users,
    body::{self, Bounds},
    cookie,
    credentials::{self, Credentials, TokenDelivery},
    login_throttle::{LoginThrottle, Refused},
    pool::{Pool, queue::Lane},
    service::AccountService,
};

/// The HTTP handlers of accounts. Clones share their state.
#[derive(Clone)]
pub struct Accounts {
    service: Arc<AccountService>,
    bounds: Bounds,
    /// Throttle of failed logins; present when several processes share it.
    throttle: Option<Arc<LoginThrottle>>,
    /// Whether every cookie is Secure. Without it, a cookie is Secure when a trusted proxy reports a TLS client.
    secure: bool,
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

/// The text of [`Error::Internal`] when the system provides no threads for the password pools.
pub const NO_THREADS: &str = "threads of the password pool could not be started";

impl Accounts {
    /// Starts the password pools and computes one hash.
    ///
    /// # Errors
    /// [`Error::Internal`] when the system provides no threads or no random bytes.
    pub fn new(users: Arc<dyn Users>, sessions: SharedSessions, config: &Config) -> Result<Self, Error> {
        let pool = || {
            Pool::new(config.threads(), config.password_queue.into(), config.bcrypt_cost)
                .map_err(|_| Error::Internal(NO_THREADS))
        };
        let service = AccountService::new(users, sessions, pool()?, pool()?, config.bcrypt_cost)?;
        let bounds = Bounds { limit: config.login_body_limit, deadline: config.login_body_deadline };
        Ok(Self { service: Arc::new(service), bounds, throttle: None, secure: config.cookie_secure })
    }

    /// Adds a throttle of failed logins.
    pub fn with_throttle(self, throttle: LoginThrottle) -> Self {
        Self { throttle: Some(Arc::new(throttle)), ..self }
    }

    /// Whether password checks or registrations wait and no thread of their pool has taken one for 10 s, for `/readyz`.
    pub fn is_stalled(&self) -> bool {
        self.service.pool.is_stalled() || self.service.registrations.is_stalled()
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
        self.service.register(username, Password::new(password)?, None).await
    }

    fn at(&self, path: &str) -> Resource {
        web::resource(path)
            .app_data(web::Data::new(self.clone()))
            .default_service(web::to(|| async { refuse_method("POST") }))
    }

    fn is_secure(&self, request: &HttpRequest) -> bool {
        self.secure || cookie::is_tls(request.headers())
    }

    async fn credentials(&self, request: &HttpRequest, payload: web::Payload) -> Result<Credentials, Error> {
        body::check_head(request, self.bounds)?;
        credentials::parse(&body::read(payload, self.bounds).await?)
    }
}

async fn register(
    accounts: web::Data<Accounts>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    let credentials = accounts.credentials(&request, payload).await?;
    let outcome = async {
        let name = credentials.username.parse()?;
        let password = Password::new(&credentials.password)?;
        accounts.service.register(&name, password, lane(&request)).await?;
        if let Some(throttle) = &accounts.throttle {
            throttle.record_success(&name, client(&request)).await;
        }
        Ok(name)
    };
    let outcome = outcome.await;
    count("register", &outcome);
    let (name, success) = (outcome?, success("User registered successfully"));
    let mut response = response(StatusCode::CREATED);
    if credentials.delivery == TokenDelivery::Cookie {
        return Ok(response.json(success));
    }
    let old = cookie::presented_tokens(request.headers()).bearers;
    match accounts.service.open_session(&name, &old).await {
        Ok(token) => {
            response.insert_header((OPENED, token.id().as_str()));
            Ok(response.json(LoggedIn { success, token: token.reveal() }))
        }
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
    let credentials = accounts.credentials(&request, payload).await?;
    let presented = cookie::presented_tokens(request.headers());
    // Tokens that the response replaces on the client.
    let old = match credentials.delivery {
        TokenDelivery::Cookie => presented.cookies,
        TokenDelivery::Token => presented.bearers,
    };
    // Only names that can be registered are counted.
    let throttled = accounts.throttle.as_deref().zip(credentials.username.parse::<Username>().ok());
    if let Some((throttle, name)) = &throttled {
        sleep(throttle.delay(name, client(&request)).await.map_err(refused)?).await;
    }
    let mut outcome =
        accounts.service.login(&credentials.username, &credentials.password, &old, lane(&request)).await;
    match (&throttled, &outcome) {
        (Some((throttle, name)), Ok(_)) => throttle.record_success(name, client(&request)).await,
        (Some((throttle, name)), Err(Error::InvalidCredentials)) => {
            // Without counted failures, passwords could be guessed at any rate.
            if let Err(error) = throttle.record_failure(name).await {
                outcome = Err(refused(error));
            }
        }
        _ => {}
    }
    count("login", &outcome);
    let token = outcome?;
    let success = success("Login successful");
    let mut response = response(StatusCode::OK);
    response.insert_header((OPENED, token.id().as_str()));
    Ok(match credentials.delivery {
        TokenDelivery::Cookie => {
            let cookie = cookie::session_cookie(&token, accounts.is_secure(&request));
            response.cookie(cookie).json(success)
        }
        TokenDelivery::Token => response.json(LoggedIn { success, token: token.reveal() }),
    })
}

fn refused(refused: Refused) -> Error {
    match refused {
        Refused::Busy(after) => Error::TooMany(after.as_secs() + 1),
        Refused::Store(error) => Error::Unavailable(Box::new(error)),
    }
}

/// The client's address: reported by the gateway, or else the peer's. The gateway removes the header of every client.
fn client(request: &HttpRequest) -> Option<IpAddr> {
    let stated = request.headers().get(header::X_FORWARDED_FOR);
    let stated = stated.and_then(|stated| stated.to_str().ok()?.parse().ok());
    stated.or_else(|| Some(request.peer_addr()?.ip().to_canonical()))
}

/// What the client's passwords are counted under.
fn lane(request: &HttpRequest) -> Lane {
    client(request).map(counted)
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
