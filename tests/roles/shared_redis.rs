//! Two deployments with keys of their own on one Redis: the gateway of the second one finds the nodes of the first.

use testkit::Stores;

use super::{Role, key_file};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_names_another_deployment_on_its_redis_and_not_the_key() {
    let stores = Stores::start().await;
    let (first, second) = (key_file(), key_file());
    let other = format!("another key for tests that is long enough {}", std::process::id());
    std::fs::write(second.path(), other).expect("a writable file");
    let keys = [first, second];
    let [first, second] = keys.each_ref().map(|key| key.path().to_string_lossy().into_owned());
    let (redis, uri) = (stores.redis.url(), stores.mongo.uri());
    let staging = uri.replace("/godzilla?", "/staging?");
    let mut node = Role::start_on("chat", &uri, &redis, &first).await;
    // It holds the claim of both stores.
    node.wait_until_ready();
    let accounts = async |uri: &str| {
        let flags =
            ["--redis-url", &redis, "--secret-file", &second, "--bcrypt-cost", "4", "--mongo-uri", uri];
        let mut accounts = Role::start_unready("accounts", &flags);
        accounts.wait_for_admin().await;
        accounts
    };
    let gateway = async |accounts: &Role| {
        let accounts = format!("http://{}", accounts.address);
        let flags = ["--redis-url", &redis, "--secret-file", &second, "--accounts-url", &accounts];
        let mut gateway = Role::start_unready("gateway", &flags);
        gateway.wait_for_admin().await;
        gateway
    };
    let signatures = "refuses the signatures of this gateway";
    let of_other = [
        signatures,
        "another deployment uses this Redis for its database of MongoDB, godzilla (id ",
        "--deployment (GODZILLA_DEPLOYMENT) of its own",
    ];
    let accounts_of_staging = accounts(&staging).await;
    let gateway_of_staging = gateway(&accounts_of_staging).await;
    gateway_of_staging.wait_for_readiness("two deployments", 503, &of_other).await;
    assert!(!gateway_of_staging.admin("/readyz").await.1.contains("--secret-file"));
    drop((accounts_of_staging, gateway_of_staging));
    // One deployment, with a wrong key of one role.
    let accounts = accounts(&uri).await;
    let gateway = gateway(&accounts).await;
    gateway.wait_for_readiness("one deployment", 503, &[signatures, "the same --secret-file"]).await;
    assert!(!gateway.admin("/readyz").await.1.contains("another deployment"));
}
