//! The pages of the gateway itself: health, the start page and 404. Mounted by [`crate::Gateway::routes`].

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::{Method, header},
    web,
};

use crate::{cors, error::Error};

/// The start page for browsers. The web client will replace it.
const PAGE: &str = include_str!("page.html");

/// Allows only the text of the page: no scripts, styles or frames.
const PAGE_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The methods of both pages, as in the `Allow` header. Load balancers use each of them for health checks; HAProxy uses
/// OPTIONS by default.
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
    // Preflights get the same response as on every other route.
    cors::preflight(&request, METHODS)
        .unwrap_or_else(|| HttpResponse::NoContent().insert_header((header::ALLOW, METHODS)).finish())
}

/// The 404 response. The default service of the app.
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
