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
            let what = format!("Content-Encoding `{name}` was not asked for");
            Ok(Read { bytes: Bytes::new(), end: End::Undecodable(what) })
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

enum End {
    Whole,
    TooLarge,
    Undecodable(String),
}

enum Coding {
    Identity,
    Gzip,
    Unknown(String),
}

fn coding(headers: &HeaderMap) -> Coding {
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
    let mut decoder = MultiGzDecoder::new(Capped { bytes: Vec::new(), max_bytes, full: false });
    let mut wire_bytes = 0usize;
    while let Some(data) = chunk(&mut body).await? {
        wire_bytes += data.len();
        let written = decoder.write_all(&data).and_then(|()| decoder.flush());
        if decoder.get_ref().full || wire_bytes > max_bytes.saturating_add(ENVELOPE_BYTES) {
            let bytes = std::mem::take(&mut decoder.get_mut().bytes).into();
            return Ok(Read { bytes, end: End::TooLarge });
        }
        if let Err(error) = written {
            return Ok(undecodable(&error));
        }
    }
    if wire_bytes == 0 {
        // The answer to a HEAD, or a 304, keeps the header of the body that it does not have.
        return Ok(Read { bytes: Bytes::new(), end: End::Whole });
    }
    if let Err(error) = decoder.try_finish()
        && !decoder.get_ref().full
    {
        return Ok(undecodable(&error));
    }
    let capped = std::mem::replace(
        decoder.get_mut(),
        Capped { bytes: Vec::new(), max_bytes: 0, full: false },
    );
    let end = if capped.full { End::TooLarge } else { End::Whole };
    Ok(Read { bytes: capped.bytes.into(), end })
}

fn undecodable(error: &io::Error) -> Read {
    Read { bytes: Bytes::new(), end: End::Undecodable(format!("gzip: {error}")) }
}

/// The next piece of data; trailers are of no interest.
async fn chunk(body: &mut Incoming) -> Result<Option<Bytes>, EgressError> {
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
