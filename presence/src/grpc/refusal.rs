//! Corrects two status codes of tonic. A message that is too large gives RESOURCE_EXHAUSTED instead of OUT_OF_RANGE. A message that
//! cannot be decoded gives INVALID_ARGUMENT instead of INTERNAL.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use tonic::{
    Code, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};

/// A wrapper that corrects the status codes of a gRPC service.
#[derive(Debug, Clone)]
pub(super) struct CorrectStatus<S>(pub S);

impl<S> Service<http::Request<Body>> for CorrectStatus<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let response = self.0.call(request);
        Box::pin(async move {
            let response = response.await?;
            let refused = Status::from_header_map(response.headers());
            let wrong = refused.filter(|status| correct_code(status) != status.code());
            Ok(wrong.map_or(response, |status| correct(status).into_http()))
        })
    }
}

impl<S: NamedService> NamedService for CorrectStatus<S> {
    const NAME: &'static str = S::NAME;
}

/// `status` with the correct code.
pub(super) fn correct(status: Status) -> Status {
    let code = correct_code(&status);
    if code == status.code() { status } else { Status::new(code, status.message()) }
}

fn correct_code(status: &Status) -> Code {
    match status.code() {
        Code::OutOfRange => Code::ResourceExhausted,
        Code::Internal if status.message().starts_with("failed to decode Protobuf message") => {
            Code::InvalidArgument
        }
        other => other,
    }
}
