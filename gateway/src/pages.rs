//! The pages of the gateway itself: health, the start page, the descriptions of both interfaces, and 404. Mounted by
//! [`crate::Gateway::routes`].

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

/// The OpenAPI description of the HTTP interface.
pub(crate) const OPENAPI: &str = include_str!("../../docs/openapi.yaml");

/// The AsyncAPI description of the Socket.IO events.
pub(crate) const ASYNCAPI: &str = include_str!("../../docs/asyncapi.yaml");

/// The media type of YAML (RFC 9512).
const YAML: &str = "application/yaml";

/// The methods of all pages, as in the `Allow` header. Load balancers use each of them for health checks; HAProxy uses
/// OPTIONS by default.
pub(crate) const METHODS: &str = "GET, HEAD, OPTIONS";

/// Mounts all pages.
pub(crate) fn routes(service: &mut web::ServiceConfig) {
    let options = || web::method(Method::OPTIONS).to(methods);
    let healthz = web::resource("/healthz")
        .route(web::get().to(healthz))
        .route(web::head().to(healthz))
        .route(options());
    let page = web::resource("/").route(web::get().to(page)).route(web::head().to(page)).route(options());
    let document = |path: &'static str, text: &'static str| {
        let get = move || async move { yaml(text) };
        web::resource(path).route(web::get().to(get)).route(web::head().to(get)).route(options())
    };
    service
        .service(healthz)
        .service(page)
        .service(document("/openapi.yaml", OPENAPI))
        .service(document("/asyncapi.yaml", ASYNCAPI));
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

fn yaml(text: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type(YAML).insert_header((header::CACHE_CONTROL, "no-cache")).body(text)
}
