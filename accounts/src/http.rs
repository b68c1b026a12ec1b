//! The HTTP of accounts: routes and handlers. Mounted by the gateway; calls `people`.

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
    credentials::{self, Carrier, Credentials},
    people::People,
    pool::{Pool, queue::Lane},
    setbacks::{Refused, Setbacks},
};

/// Register, login, logout and me. Clones are the same.
#[derive(Clone)]
pub struct Accounts {
    people: Arc<People>,
    bounds: Bounds,
    /// What failed logins cost, where several processes count them.
    setbacks: Option<Arc<Setbacks>>,
    /// Whether every cookie is for TLS only; where a proxy says that a client came by TLS, its cookie is anyway.
    secure: bool,
}

/// `{"status":"success","message":...}`.
#[derive(Serialize)]
struct Done {
    status: &'static str,
    message: &'static str,
}

/// The answer to a login that asks for a token instead of a cookie.
#[derive(Serialize)]
struct LoggedIn<'a> {
    #[serde(flatten)]
    done: Done,
    token: &'a str,
}

impl Accounts {
    /// Starts the password pool. Takes as long as hashing one password; call it at start.
    ///
    /// # Errors
    /// [`Error::Internal`] when threads or random bytes are not to be had.
    pub fn new(users: Arc<dyn Users>, sessions: SharedSessions, config: &Config) -> Result<Self, Error> {
        let pool = || {
            Pool::new(config.threads(), config.password_queue.into(), config.bcrypt_cost)
                .map_err(|_| Error::Internal("no threads for the password pool"))
        };
        let people = People::new(users, sessions, pool()?, pool()?, config.bcrypt_cost)?;
        let bounds = Bounds { limit: config.login_body_limit, deadline: config.login_body_deadline };
        Ok(Self { people: Arc::new(people), bounds, setbacks: None, secure: config.cookie_secure })
    }

    /// The same, with failed logins counted.
    pub fn counting(self, setbacks: Setbacks) -> Self {
        Self { setbacks: Some(Arc::new(setbacks)), ..self }
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

    /// `POST /user/login`, for the gateway to put behind its limit.
    pub fn login(&self) -> Resource {
        self.at("/user/login").route(web::post().to(login))
    }

    /// `POST /user/register`, for the gateway to put behind its limit.
    pub fn registration(&self) -> Resource {
        self.at("/user/register").route(web::post().to(register))
    }

    /// Registers without HTTP, under the same rules: for sample users.
    pub async fn register(&self, username: &Username, password: &str) -> Result<(), Error> {
        self.people.register(username, Password::new(password)?, None).await
    }

    fn at(&self, path: &str) -> Resource {
        web::resource(path)
            .app_data(web::Data::new(self.clone()))
            .default_service(web::to(|| async { refuse_method("POST") }))
    }

    fn is_secure(&self, request: &HttpRequest) -> bool {
        self.secure || cookie::came_by_tls(request.headers())
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
    let sent = accounts.credentials(&request, payload).await?;
    let outcome = async {
        let name = sent.username.parse()?;
        let password = Password::new(&sent.password)?;
        accounts.people.register(&name, password, lane(&request)).await?;
        if let Some(setbacks) = &accounts.setbacks {
            setbacks.welcome(&name, client(&request)).await;
        }
        Ok(())
    };
    let outcome = outcome.await;
    count("register", &outcome);
    outcome?;
    Ok(answer(StatusCode::CREATED).json(done("User registered successfully")))
}

async fn login(
    accounts: web::Data<Accounts>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Error> {
    let sent = accounts.credentials(&request, payload).await?;
    let shown = cookie::shown(request.headers());
    // The sessions whose tokens the client loses by the answer.
    let old = match sent.carrier {
        Carrier::Cookie => shown.cookies,
        Carrier::Token => shown.bearers,
    };
    // Only under a name that can be somebody's.
    let counted = accounts.setbacks.as_deref().zip(sent.username.parse::<Username>().ok());
    if let Some((setbacks, name)) = &counted {
        sleep(setbacks.wait(name, client(&request)).await.map_err(refused)?).await;
    }
    let mut outcome = accounts.people.login(&sent.username, &sent.password, &old, lane(&request)).await;
    match (&counted, &outcome) {
        (Some((setbacks, name)), Ok(_)) => setbacks.welcome(name, client(&request)).await,
        (Some((setbacks, name)), Err(Error::InvalidCredentials)) => {
            // A store that does not count failures would let passwords be guessed at any speed.
            if let Err(uncounted) = setbacks.note(name).await {
                outcome = Err(refused(uncounted));
            }
        }
        _ => {}
    }
    count("login", &outcome);
    let token = outcome?;
    let done = done("Login successful");
    let mut answer = answer(StatusCode::OK);
    answer.insert_header((OPENED, token.id().as_str()));
    Ok(match sent.carrier {
        Carrier::Cookie => {
            let carrying = cookie::carrying(&token, accounts.is_secure(&request));
            answer.cookie(carrying).json(done)
        }
        Carrier::Token => answer.json(LoggedIn { done, token: token.reveal() }),
    })
}

fn refused(refused: Refused) -> Error {
    match refused {
        Refused::Full(after) => Error::TooMany(after.as_secs() + 1),
        Refused::Unknown(error) => Error::Unavailable(Box::new(error)),
    }
}

/// The client's address: the one that the gateway states, or the peer's. The gateway removes the header of every client.
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
    let shown = cookie::shown(request.headers());
    let outcome = accounts.people.logout(shown.all()).await;
    let outcome = outcome.and_then(|()| match shown.has_malformed_bearer && shown.all().next().is_none() {
        true => Err(Error::MalformedToken),
        false => Ok(()),
    });
    count("logout", &outcome);
    outcome?;
    let cleared = cookie::cleared(accounts.is_secure(&request));
    Ok(answer(StatusCode::OK).cookie(cleared).json(done("Logout successful")))
}

async fn me(request: HttpRequest) -> Result<HttpResponse, Error> {
    let username = request.extensions().get::<Identity>().map(|identity| identity.username.clone());
    let username = username.ok_or(Error::Unauthorized)?;
    Ok(answer(StatusCode::OK).json(json!({ "username": username })))
}

fn refuse_method(allowed: &'static str) -> Result<HttpResponse, Error> {
    Err(Error::Method(allowed))
}

/// No answer of ours is anybody else's.
fn answer(status: StatusCode) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    response
}

fn done(message: &'static str) -> Done {
    Done { status: "success", message }
}

fn count<T>(action: &'static str, result: &Result<T, Error>) {
    let outcome = result.as_ref().map_or_else(|error| error.status().as_u16().to_string(), |_| "ok".into());
    metrics::counter!("godzilla_accounts_requests_total", "action" => action, "outcome" => outcome)
        .increment(1);
}

#[cfg(test)]
mod tests;
