//! The stores of durable data, by backend. The scheme of a URL names the backend ([`StoreUrl`]), and [`BACKENDS`] is the table of all.
//! `serve` opens [`EmbeddedStores`], which one process uses, and the roles accounts and chat open [`SharedStores`], which many processes
//! use. What Redis holds is in [`redis`].

#[cfg_attr(not(feature = "mongodb"), path = "without_mongodb.rs")]
mod mongo;
pub mod redis;
pub mod sqlite;
mod url;

use std::{sync::Arc, time::Duration};

use accounts::Users;
use async_trait::async_trait;
use chat::{
    changes::Changes,
    directory::Directory,
    history::{History, Journal},
    lineage::Lineage,
    recovery_sessions::RecoverySessions,
    unpublished::Unpublished,
};
use futures_util::future::LocalBoxFuture;
use remote::{Deployment, StoreGate};
use sessions::SharedSessions;

pub use self::url::StoreUrl;
use crate::{
    admin::{Opening, Probe},
    doctor::Finding,
    error::Error,
};

/// The backends.
const BACKENDS: [Backend; 2] = [sqlite::BACKEND, mongo::BACKEND];

/// A backend, as a row of the table.
pub struct Backend {
    /// The schemes of its URLs.
    pub schemes: &'static [&'static str],
    /// The form of its URLs, for refusals.
    pub form: &'static str,
    /// Opens the stores of one process. Blocks. `None` for a backend that cannot hold all of them.
    pub open_embedded: Option<OpenEmbedded>,
    /// Opens the stores of many processes. They may be unavailable. `None` for a backend that one process uses.
    pub open_shared: Option<OpenShared>,
    /// The findings of the doctor.
    pub examine: for<'a> fn(&'a StoreUrl, &'a Deployment) -> LocalBoxFuture<'a, Vec<Finding>>,
}

/// Opens the stores of one process.
type OpenEmbedded = fn(&StoreUrl) -> Result<EmbeddedStores, Error>;

/// Opens the stores of a deployment.
type OpenShared =
    for<'a> fn(&'a StoreUrl, Shared<'a>, &'a Opening) -> LocalBoxFuture<'a, Result<SharedStores, Error>>;

/// What the stores of a role belong to.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    /// The deployment.
    pub deployment: &'a Deployment,
    /// The gate of the role.
    pub gate: &'a StoreGate,
}

/// All stores of a process that shares no data with others.
pub struct EmbeddedStores {
    /// Users.
    pub users: Arc<dyn Users>,
    /// Login sessions.
    pub sessions: SharedSessions,
    /// Messages.
    pub history: Arc<dyn History>,
    /// The messages and changes in the order of the log.
    pub journal: Arc<dyn Journal>,
    /// Rooms and members.
    pub directory: Arc<dyn Directory>,
    /// Sessions that clients can recover.
    pub recovery_sessions: Arc<dyn RecoverySessions>,
    /// The checks of `/readyz`, by the name of the part.
    pub probes: Vec<(&'static str, Probe)>,
    /// Closes the stores, even while parts still have handles. Blocks for a bounded time.
    pub close: Box<dyn Fn() + Send>,
}

/// The stores of durable data that the processes of a deployment share. Cheap to clone.
#[derive(Clone)]
pub struct SharedStores {
    /// Users.
    pub users: Arc<dyn Users>,
    /// Messages.
    pub history: Arc<dyn History>,
    /// Rooms and members.
    pub directory: Arc<dyn Directory>,
    /// The latest changes of rooms.
    pub changes: Arc<dyn Changes>,
    /// The rooms with messages that are not in the stream.
    pub unpublished: Arc<dyn Unpublished>,
    /// The id of the history.
    pub lineage: Arc<dyn Lineage>,
    /// The id of the database.
    pub identity: Arc<dyn DatabaseIdentity>,
    /// The state of the backend.
    pub health: Arc<dyn Health>,
}

/// The identity of a database, which the roles of one deployment use with one Redis. Independent of the gate of the role.
#[async_trait]
pub trait DatabaseIdentity: Send + Sync {
    /// The name of the database.
    fn name(&self) -> &str;

    /// The id of the database, 24 hex digits, which is created once.
    ///
    /// # Errors
    /// Why the backend does not return it, as a text that follows [`Health::name`].
    async fn id(&self) -> Result<String, String>;

    /// Renews the lease on the database for the Redis with this id, or acquires it, even when it is held for `last`, the id that the same
    /// Redis had before. Returns the id of another Redis that holds it. `None` also
    /// when the backend does not answer.
    async fn hold(&self, redis: &str, last: Option<&str>, ttl: Duration) -> Option<String>;
}

/// The state of a backend that may be unavailable. Each reason is a text that follows [`Health::name`]; `None` when all is well.
#[async_trait]
pub trait Health: Send + Sync {
    /// The name of the backend in `/readyz`.
    fn name(&self) -> &'static str;

    /// Prepares the stores of a chat node, for example their indexes.
    ///
    /// # Errors
    /// When the backend does not answer, or cannot be used.
    async fn prepare(&self) -> Result<(), chat::Error>;

    /// Why users cannot be found.
    async fn users_not_ready_reason(&self) -> Option<String>;

    /// Why messages cannot be stored.
    async fn chat_not_ready_reason(&self) -> Option<String>;

    /// The refused writes without which the chat works, and lost data.
    async fn degradation(&self) -> Option<String>;

    /// Why unpublished messages cannot be noted.
    fn unpublished_not_ready_reason(&self) -> Option<String>;
}

/// Opens the stores of one process. Blocks; call it during the start.
///
/// # Errors
/// When the backend of the URL cannot hold all stores, or when they cannot be opened.
pub fn open_embedded(url: &StoreUrl) -> Result<EmbeddedStores, Error> {
    let open = url.backend().and_then(|backend| backend.open_embedded);
    let open = open.ok_or_else(|| refused(url, |backend| backend.open_embedded.is_some()))?;
    open(url)
}

/// Opens the stores that processes of a deployment share. They may be unavailable: `opening` reports what the role waits for.
///
/// # Errors
/// When the backend of the URL cannot be shared, or when the URL is invalid.
pub async fn open_shared(
    url: &StoreUrl,
    shared: Shared<'_>,
    opening: &Opening,
) -> Result<SharedStores, Error> {
    let open = url.backend().and_then(|backend| backend.open_shared);
    let open = open.ok_or_else(|| refused(url, |backend| backend.open_shared.is_some()))?;
    open(url, shared, opening).await
}

/// The findings of the doctor about the store of `deployment` at `url`.
pub async fn examine(url: &StoreUrl, deployment: &Deployment) -> Vec<Finding> {
    match url.backend() {
        Some(backend) => (backend.examine)(url, deployment).await,
        None => {
            vec![Finding::error(url.flag, refused(url, |backend| backend.open_shared.is_some()).to_string())]
        }
    }
}

/// The refusal names the forms of the backends that are `usable`.
fn refused(url: &StoreUrl, usable: impl Fn(&Backend) -> bool) -> Error {
    let forms: Vec<_> =
        BACKENDS.iter().filter(|backend| usable(backend)).map(|backend| backend.form).collect();
    Error::Config(url.refused(&format!("expected {}", forms.join(" or "))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{admin::Readiness, config};

    #[test]
    fn every_scheme_has_one_backend() {
        let schemes: Vec<_> = BACKENDS.iter().flat_map(|backend| backend.schemes).collect();
        assert_eq!(schemes.iter().collect::<BTreeSet<_>>().len(), schemes.len());
        for backend in BACKENDS {
            assert!(backend.open_embedded.is_some() || backend.open_shared.is_some(), "{}", backend.form);
        }
    }

    #[actix_web::test]
    async fn a_url_of_no_usable_backend_is_refused_with_the_flag_and_the_form() {
        let opening = Opening::new(Readiness::new(), None);
        for value in ["sqlite:./s3cret", "postgres://s3cret", "s3cret", ""] {
            let flags = crate::config::shared::Mongo { mongo_uri: value.parse().ok(), mongo_uri_file: None };
            let url = StoreUrl::of_services(&flags).unwrap();
            let shared = Shared { deployment: &Deployment::default(), gate: &StoreGate::default() };
            let refused = open_shared(&url, shared, &opening).await.err().unwrap();
            let Error::Config(text) = refused else { panic!("{refused:?}") };
            for part in ["--mongo-uri (GODZILLA_MONGO_URI)", "mongodb://host/database?replicaSet=name"] {
                assert!(text.contains(part) && !text.contains("s3cret"), "{text}");
            }
        }
        let url = StoreUrl::of_data_dir(&config::Store { data_dir: "mongodb://s3cret/x".into() });
        let Err(Error::Config(text)) = open_embedded(&url) else { panic!("not refused") };
        assert!(
            text.contains("--data-dir") && text.contains("sqlite:") && !text.contains("s3cret"),
            "{text}"
        );
    }
}
