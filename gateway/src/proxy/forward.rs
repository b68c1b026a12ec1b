//! Forwards a request: reads its body, rewrites it, sends it to the candidates and relays the response. Called by [`super`].

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::{Worker, backend::Backend, failover::Attempt, incoming, outgoing::Outgoing, upstream::is_final};
use crate::{body, error::Error, in_flight::RequestGuard};

impl Worker {
    /// Rewrites the request, after its body was read.
    pub(super) async fn outgoing(
        &self,
        request: &HttpRequest,
        payload: web::Payload,
        limit: usize,
    ) -> Result<Outgoing, Error> {
        let config = &self.shared.config;
        let within = Duration::from_secs(config.body_timeout.into());
        let body = match body::declared_length(request.headers()) {
            Some(_) => body::read(payload, limit, within).await?,
            None => Bytes::new(),
        };
        self.rewrite(request, body)
    }

    pub(super) fn rewrite(&self, request: &HttpRequest, body: Bytes) -> Result<Outgoing, Error> {
        Outgoing::new(request, body, &self.shared.upstreams.key)
    }

    /// The response of the first candidate that can be reached.
    pub(super) async fn send(
        &self,
        outgoing: &Outgoing,
        candidates: impl IntoIterator<Item = Backend>,
        within: Duration,
        guard: RequestGuard,
    ) -> Result<HttpResponse, Error> {
        let attempt = async |backend: &Backend, within, is_last| {
            let response = tokio::select! {
                response = self.upstream.send(outgoing, backend, within) => response,
                () = self.shared.health.unresponsive(backend) => Err(Error::UpstreamTimeout),
            };
            self.note_refusal(outgoing, backend, &response);
            match response {
                response if !is_final(&response, is_last) => {
                    Attempt::Failed(response.err().unwrap_or(Error::Unavailable))
                }
                Ok(response) => match incoming::relay(response, backend, guard.clone(), within).await {
                    Err(Error::InvalidResponse) if !is_last => Attempt::Failed(Error::Unavailable),
                    relayed => Attempt::Final(relayed),
                },
                Err(error) => Attempt::Final(Err(error)),
            }
        };
        self.first_final(outgoing, candidates, within, attempt).await
    }
}
