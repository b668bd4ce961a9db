//! The other end of a connection, as requests see it.

use crate::sasl::Session;

/// Who asks.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The address that the connection came from.
    pub(crate) host: String,
    /// As the client names itself in its requests.
    pub(crate) client_id: String,
    pub(crate) session: Session,
}

impl Peer {
    pub(crate) fn new(host: String, session: Session) -> Self {
        Self {
            host,
            client_id: String::new(),
            session,
        }
    }
}
