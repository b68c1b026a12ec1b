//! `history`: a page of what was said, newest first, for members.

use std::time::Instant;

use proto::event::History;

use super::visit::Visit;
use crate::{
    Error,
    recall::{Recalled, page},
};

impl Visit {
    /// Reads a page.
    pub async fn recall(&self, asked: History, deadline: Instant) -> Result<Recalled, Error> {
        page(self.chat(), self.user(), asked, deadline).await
    }
}
