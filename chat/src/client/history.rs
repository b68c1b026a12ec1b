//! The `history` event: a page of a room's messages, newest first, for members.

use std::time::Instant;

use proto::event::History;

use super::queue::CommandQueue;
use crate::{
    Error,
    history_page::{HistoryPage, page},
};

impl CommandQueue {
    /// Reads a page.
    pub async fn history(&self, query: History, deadline: Instant) -> Result<HistoryPage, Error> {
        page(self.chat(), self.user(), query, deadline).await
    }
}
