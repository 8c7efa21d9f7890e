//! Reading bodies: under a size limit, a deadline, and a budget over all connections.

use std::{pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{answer::Refusal, verify::RawBody};

/// The bytes that one request holds of the budget; given back when it is dropped.
///
/// Bytes are taken as they arrive and not as they are announced: else a few clients that announce
/// much and send nothing would keep everybody out.
pub(super) struct Held<'a> {
    budget: &'a Semaphore,
    permit: Option<SemaphorePermit<'a>>,
}

impl<'a> Held<'a> {
    pub(super) fn of(budget: &'a Semaphore) -> Self {
        Self { budget, permit: None }
    }

    /// Takes `bytes` more, or refuses without waiting: whoever waits holds what it has.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Refusal> {
        let count = u32::try_from(bytes).map_err(|_| Refusal::TooLarge)?;
        let more = self.budget.try_acquire_many(count).map_err(|_| Refusal::Busy)?;
        match &mut self.permit {
            Some(permit) => permit.merge(more),
            None => self.permit = Some(more),
        }
        Ok(())
    }
}

/// The body, whole, or why not. An announced length beyond the limit is refused before reading.
pub(super) async fn read<B>(
    headers: &HeaderMap,
    body: B,
    max_body_bytes: usize,
    deadline: Duration,
    held: &mut Held<'_>,
) -> Result<RawBody, Refusal>
where
    B: Body<Data = Bytes>,
{
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > max_body_bytes as u64) {
        return Err(Refusal::TooLarge);
    }
    let collected = collect(body, max_body_bytes, held);
    let bytes =
        tokio::time::timeout(deadline, collected).await.map_err(|_| Refusal::SlowBody)??;
    Ok(RawBody::new(bytes))
}

/// The frames as one piece of its own: a slice of the connection's buffer would keep the whole
/// buffer alive for as long as the event is in memory.
async fn collect<B>(body: B, max_body_bytes: usize, held: &mut Held<'_>) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Refusal::IncompleteBody)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if data.len() > max_body_bytes - bytes.len() {
            return Err(Refusal::TooLarge);
        }
        held.grow(data.len())?;
        if bytes.is_empty() && body.is_end_stream() {
            return Ok(Bytes::copy_from_slice(data));
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes.freeze())
}
