//! Reads an answer's body: under a limit that counts after decompression, so that a bomb stops
//! where it passes the limit and not where it ends.

use std::io::{self, Write};

use bytes::{Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use http::{
    HeaderMap, Response,
    header::{CONTENT_ENCODING, CONTENT_LENGTH},
};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use super::{client::Answer, error::EgressError};

/// What to do with a body that is larger than it may be, or does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is wanted whole: an error.
    Refuse,
    /// Only its beginning is of interest, to a reader of messages: cut it, or leave it empty.
    Cut,
}

/// Compressed bytes that may exceed the limit on decompressed ones: headers of a small gzip body.
const ENVELOPE_BYTES: usize = 64 << 10;

/// The whole answer. Whether the body was read to its end, so that the connection can go on.
pub(super) async fn read(
    response: Response<Incoming>,
    max_bytes: usize,
    unfit: Unfit,
) -> Result<(Answer, bool), EgressError> {
    let (parts, body) = response.into_parts();
    let (status, mut headers) = (parts.status, parts.headers);
    let read = match coding(&headers) {
        Coding::Identity => plain(body, max_bytes).await,
        Coding::Gzip => {
            headers.remove(CONTENT_ENCODING);
            headers.remove(CONTENT_LENGTH);
            gzip(body, max_bytes).await
        }
        Coding::Unknown(name) => {
            Ok(Read { bytes: Bytes::new(), end: End::Undecodable(not_asked_for(&name)) })
        }
    }?;
    let error = match read.end {
        End::Whole => return Ok((Answer { status, headers, body: read.bytes }, true)),
        End::TooLarge => EgressError::ResponseTooLarge { limit_bytes: max_bytes },
        End::Undecodable(what) => EgressError::Undecodable(what),
    };
    match unfit {
        Unfit::Refuse => Err(error),
        Unfit::Cut => Ok((Answer { status, headers, body: read.bytes }, false)),
    }
}

/// What was read, and why no more.
struct Read {
    bytes: Bytes,
    end: End,
}

pub(super) enum End {
    Whole,
    TooLarge,
    Undecodable(String),
}

pub(super) enum Coding {
    Identity,
    Gzip,
    Unknown(String),
}

pub(super) fn coding(headers: &HeaderMap) -> Coding {
    let Some(value) = headers.get(CONTENT_ENCODING) else { return Coding::Identity };
    let name = value.to_str().unwrap_or("?").trim().to_ascii_lowercase();
    match name.as_str() {
        "" | "identity" => Coding::Identity,
        "gzip" | "x-gzip" => Coding::Gzip,
        _ => Coding::Unknown(name.chars().take(40).collect()),
    }
}

/// A body as it is. One that comes in one piece, as most do, is not copied.
async fn plain(mut body: Incoming, max_bytes: usize) -> Result<Read, EgressError> {
    let announced = body.size_hint().lower();
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(data) = chunk(&mut body).await? {
        let held = if rest.is_empty() { first.len() } else { rest.len() };
        if held + data.len() > max_bytes {
            rest = joined(first, rest);
            rest.extend_from_slice(&data[..max_bytes - held]);
            return Ok(Read { bytes: rest.freeze(), end: End::TooLarge });
        }
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                let likely = usize::try_from(announced).unwrap_or(usize::MAX).min(max_bytes);
                rest.reserve(likely.max(first.len() + data.len()));
                rest.extend_from_slice(&first);
                first = Bytes::new();
            }
            rest.extend_from_slice(&data);
        }
    }
    let bytes = if rest.is_empty() { first } else { rest.freeze() };
    Ok(Read { bytes, end: End::Whole })
}

fn joined(first: Bytes, rest: BytesMut) -> BytesMut {
    if rest.is_empty() { BytesMut::from(&first[..]) } else { rest }
}

async fn gzip(mut body: Incoming, max_bytes: usize) -> Result<Read, EgressError> {
    let mut unpacked = Unpacked::new(true, max_bytes);
    while let Some(data) = chunk(&mut body).await? {
        if unpacked.push(&data).is_err() {
            break;
        }
    }
    let (bytes, end) = unpacked.finish();
    Ok(Read { bytes, end })
}

/// The coding is one that was not asked for.
pub(super) fn not_asked_for(name: &str) -> String {
    format!("Content-Encoding `{name}` was not asked for")
}

/// A body that is put together under a limit, whether it comes compressed or not.
pub(super) struct Unpacked {
    decoder: Option<MultiGzDecoder<Capped>>,
    plain: Capped,
    wire_bytes: usize,
    max_bytes: usize,
    wrong: Option<io::Error>,
}

impl Unpacked {
    pub fn new(gzipped: bool, max_bytes: usize) -> Self {
        let capped = || Capped { bytes: Vec::new(), max_bytes, full: false };
        let decoder = gzipped.then(|| MultiGzDecoder::new(capped()));
        Self { decoder, plain: capped(), wire_bytes: 0, max_bytes, wrong: None }
    }

    /// Takes in the next bytes; an error: there is no use in any more of them.
    pub fn push(&mut self, data: &[u8]) -> Result<(), ()> {
        self.wire_bytes += data.len();
        let Some(decoder) = &mut self.decoder else {
            return self.plain.write_all(data).map_err(drop);
        };
        let written = decoder.write_all(data).and_then(|()| decoder.flush());
        if self.wire_bytes > self.max_bytes.saturating_add(ENVELOPE_BYTES) {
            decoder.get_mut().full = true;
        }
        if decoder.get_ref().full {
            return Err(());
        }
        written.map_err(|error| self.wrong = Some(error))
    }

    /// What there is, and why no more.
    pub fn finish(mut self) -> (Bytes, End) {
        let Some(mut decoder) = self.decoder.take() else {
            let end = if self.plain.full { End::TooLarge } else { End::Whole };
            return (self.plain.bytes.into(), end);
        };
        // The answer to a HEAD, or a 304, keeps the header of the body that it does not have.
        if self.wire_bytes > 0
            && self.wrong.is_none()
            && !decoder.get_ref().full
            && let Err(error) = decoder.try_finish()
        {
            self.wrong = Some(error);
        }
        let capped = std::mem::take(decoder.get_mut());
        match self.wrong {
            _ if capped.full => (capped.bytes.into(), End::TooLarge),
            Some(error) => (Bytes::new(), End::Undecodable(format!("gzip: {error}"))),
            None => (capped.bytes.into(), End::Whole),
        }
    }
}

/// The next piece of data; trailers are of no interest.
pub(super) async fn chunk(body: &mut Incoming) -> Result<Option<Bytes>, EgressError> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| EgressError::broken(&error))?;
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => return Ok(Some(data)),
            Err(_trailers) => {}
        }
    }
    Ok(None)
}

/// Takes bytes up to a limit and refuses the first beyond it.
#[derive(Default)]
struct Capped {
    bytes: Vec<u8>,
    max_bytes: usize,
    full: bool,
}

impl Write for Capped {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = self.max_bytes - self.bytes.len();
        if data.len() > room {
            self.bytes.extend_from_slice(&data[..room]);
            self.full = true;
            return Err(io::Error::other("the body is too large"));
        }
        self.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
