//! An answer whose body is read piece by piece, as fast as its reader takes it: what is not read
//! stays with the peer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use hyper::body::Incoming;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    body::{self, Coding, End},
    client::{Answer, Inner},
    connection::Http1,
    error::EgressError,
    pool::Key,
};

/// Pieces of a scripted answer.
const SCRIPTED_PIECE: usize = 16 << 10;

/// Status and headers, and a body that is still to come.
pub struct Flowing {
    /// Of whatever class.
    pub status: StatusCode,
    /// As sent, but without `Content-Encoding` and `Content-Length` where the body is compressed.
    pub headers: HeaderMap,
    /// Whether the pieces are those of a gzip file.
    pub gzipped: bool,
    source: Source,
    /// The longest wait for the next piece.
    patience: Duration,
}

enum Source {
    Network(Box<Network>),
    Script(Bytes),
}

/// What keeps an exchange alive.
struct Network {
    body: Incoming,
    /// HTTP/1 is driven by whoever reads; HTTP/2 drives itself.
    connection: Option<Box<Http1>>,
    home: (Arc<Inner>, Key),
    _permit: Option<OwnedSemaphorePermit>,
}

impl Flowing {
    pub(super) fn of_script(answer: Answer, patience: Duration) -> Self {
        let Answer { status, headers, body } = answer;
        Self { status, headers, gzipped: false, source: Source::Script(body), patience }
    }

    pub(super) fn of_network(
        response: Response<Incoming>,
        connection: Option<Box<Http1>>,
        home: (Arc<Inner>, Key),
        permit: Option<OwnedSemaphorePermit>,
        patience: Duration,
    ) -> Result<Self, EgressError> {
        let (parts, body) = response.into_parts();
        let (status, mut headers) = (parts.status, parts.headers);
        let gzipped = match body::coding(&headers) {
            Coding::Identity => false,
            Coding::Gzip => {
                headers.remove(CONTENT_ENCODING);
                headers.remove(CONTENT_LENGTH);
                true
            }
            Coding::Unknown(name) => {
                return Err(EgressError::Undecodable(body::not_asked_for(&name)));
            }
        };
        let network = Network { body, connection, home, _permit: permit };
        Ok(Self { status, headers, gzipped, source: Source::Network(Box::new(network)), patience })
    }

    /// The next piece, as it came; `None` where the body ended. A peer that sends nothing for the
    /// exchange's timeout has timed out, however long the whole of it takes.
    pub async fn piece(&mut self) -> Result<Option<Bytes>, EgressError> {
        match &mut self.source {
            Source::Script(rest) if rest.is_empty() => Ok(None),
            Source::Script(rest) => Ok(Some(rest.split_to(rest.len().min(SCRIPTED_PIECE)))),
            Source::Network(network) => {
                timeout(self.patience, network.piece()).await.unwrap_or(Err(EgressError::Timeout))
            }
        }
    }

    /// The rest as a whole: for answers that are read for their message. Cut at so many bytes.
    pub async fn beginning(mut self, max_bytes: usize) -> Result<Answer, EgressError> {
        let mut whole = body::Unpacked::new(self.gzipped, max_bytes);
        while let Some(piece) = self.piece().await? {
            if whole.push(&piece).is_err() {
                break;
            }
        }
        let body = match whole.finish() {
            (_, End::Undecodable(_)) => Bytes::new(),
            (bytes, _) => bytes,
        };
        Ok(Answer { status: self.status, headers: self.headers, body })
    }
}

impl Network {
    async fn piece(&mut self) -> Result<Option<Bytes>, EgressError> {
        let Some(connection) = &mut self.connection else {
            return body::chunk(&mut self.body).await;
        };
        let read = connection.drive(body::chunk(&mut self.body)).await;
        let piece = read.unwrap_or_else(|| Err(super::connection::closed()))?;
        if piece.is_none()
            && let Some(mut connection) = self.connection.take()
            && connection.is_usable().await
        {
            connection.rest();
            let (inner, key) = &self.home;
            inner.keep(key, connection);
        }
        Ok(piece)
    }
}
