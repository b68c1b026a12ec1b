//! The recovery of one CONNECT: finds the session that the client resumes before the application decides, and
//! registers the socket's session when the application has accepted the client.

use std::time::Duration;

use tokio::time::timeout;

use crate::{
    app::Resume,
    close::CloseReason,
    engine::handshake::{NoEntropy, new_id},
    io::NumberedIo,
    operation::Operation,
    recovery::{Log, Resuming},
    socket::{Position, Recovered, Socket, SocketSession},
};

/// The longest wait for the session's earlier connection to close.
const SUPERSEDE_TIMEOUT: Duration = Duration::from_secs(2);

/// The session of a CONNECT that the application has not answered.
pub(crate) enum Start {
    /// A new session with this private id.
    New { log: Log, pid: String, since: Position },
    /// A session that is resumed.
    Resumed { resuming: Resuming, recovered: Recovered },
}

impl Start {
    /// Resumes the session that the client names, or starts a new one. A connection that still uses the session
    /// is closed first: the server has not noticed its end. `since` is the position at which the socket was
    /// created.
    ///
    /// # Errors
    /// [`NoEntropy`].
    pub(crate) async fn begin(
        NumberedIo { log, io }: &NumberedIo,
        socket: &Socket,
        resume: Option<&Resume>,
        since: Position,
    ) -> Result<Self, NoEntropy> {
        if let Some(resume) = resume {
            if let Some(sid) = log.connected_socket(&resume.pid, socket.namespace()) {
                let close = Operation::Close { of: sid.room(), reason: CloseReason::Superseded };
                io.send(vec![close]).await;
                // A session that is still in use is not resumed.
                let _ = timeout(SUPERSEDE_TIMEOUT, log.until_disconnected(&resume.pid)).await;
            }
            match log.resume(resume, socket.namespace()) {
                Ok((resuming, recovered, sent)) => {
                    // No await since the log was read: later events of these rooms are held back for the socket.
                    socket.adopt(&resuming.sid);
                    resuming.rooms().iter().for_each(|room| socket.join(room));
                    let session = SocketSession::new(&resuming.pid, recovered.reached, sent);
                    socket.set_session(session, true);
                    return Ok(Self::Resumed { resuming, recovered });
                }
                Err(why) => tracing::debug!(why, "client not recovered, starting a new session"),
            }
        }
        let pid = new_id()?;
        socket.set_session(SocketSession::new(&pid, since.broadcast, since), false);
        Ok(Self::New { log: log.clone(), pid, since })
    }

    /// The application has accepted the client. Returns the private id and the missed events.
    pub(crate) fn accept(self, socket: &Socket) -> (String, Option<Recovered>) {
        match self {
            Self::New { log, pid, since } => {
                log.add(&pid, socket.id(), socket.namespace(), since);
                (pid, None)
            }
            Self::Resumed { resuming, recovered } => {
                let pid = resuming.pid.clone();
                resuming.finish();
                (pid, Some(recovered))
            }
        }
    }
}
