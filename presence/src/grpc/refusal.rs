//! Makes two of tonic's statuses exact: a message that is too large is RESOURCE_EXHAUSTED (tonic says OUT_OF_RANGE), one
//! that does not parse is INVALID_ARGUMENT (tonic says INTERNAL). Wrapped around the presence service; used by its stream.

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

/// A gRPC service whose refusals say what was wrong.
#[derive(Debug, Clone)]
pub(super) struct Exact<S>(pub S);

impl<S> Service<http::Request<Body>> for Exact<S>
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
        let answer = self.0.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let refused = Status::from_header_map(response.headers());
            let wrong = refused.filter(|status| meant(status) != status.code());
            Ok(wrong.map_or(response, |status| exact(status).into_http()))
        })
    }
}

impl<S: NamedService> NamedService for Exact<S> {
    const NAME: &'static str = S::NAME;
}

/// `status` with the code that is meant.
pub(super) fn exact(status: Status) -> Status {
    let code = meant(&status);
    if code == status.code() { status } else { Status::new(code, status.message()) }
}

fn meant(status: &Status) -> Code {
    match status.code() {
        Code::OutOfRange => Code::ResourceExhausted,
        Code::Internal if status.message().starts_with("failed to decode Protobuf message") => {
            Code::InvalidArgument
        }
        other => other,
    }
}
