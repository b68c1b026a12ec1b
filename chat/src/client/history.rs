//! `history`: a page of what was said, newest first, for members.

use std::time::Instant;

use proto::event::History;

use super::queue::CommandQueue;
use crate::{
    Error,
    history_page::{Recalled, page},
};

impl CommandQueue {
    /// Reads a page.
    pub async fn recall(&self, asked: History, deadline: Instant) -> Result<Recalled, Error> {
        page(self.chat(), self.user(), asked, deadline).await
    }
}
