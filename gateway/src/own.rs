//! What the gateway answers itself: health, a page that says what this is, and 404. Mounted by [`crate::Gateway::routes`].

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::{Method, header},
    web,
};

use crate::{cors, error::Error};

/// For people who open the address in a browser. The web client takes its place later.
const PAGE: &str = include_str!("page.html");

/// Nothing but the text of the page: no script, no style, no frame around it.
const PAGE_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The methods of both, as in the `Allow` header. Load balancers check by each of them; HAProxy by OPTIONS unless it is told otherwise.
pub(crate) const METHODS: &str = "GET, HEAD, OPTIONS";

/// Mounts `/healthz` and `/`.
pub(crate) fn routes(service: &mut web::ServiceConfig) {
    let options = || web::method(Method::OPTIONS).to(methods);
    let healthz = web::resource("/healthz")
        .route(web::get().to(healthz))
        .route(web::head().to(healthz))
        .route(options());
    let page = web::resource("/").route(web::get().to(page)).route(web::head().to(page)).route(options());
    service.service(healthz).service(page);
}

async fn methods(request: HttpRequest) -> HttpResponse {
    // A listed page's question is answered as everywhere.
    cors::preflight(&request, METHODS)
        .unwrap_or_else(|| HttpResponse::NoContent().insert_header((header::ALLOW, METHODS)).finish())
}

/// The answer for what no service has; the app's default service.
pub async fn not_found() -> HttpResponse {
    Error::NotFound.error_response()
}

async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "ok"}))
}

async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, PAGE_POLICY))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(PAGE)
}
