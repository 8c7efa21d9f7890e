//! From what a server sends to JSON: archives are unpacked, lines and rows become records as they
//! come in, XML becomes a document.
//!
//! Pure, and pushed: bytes go in as they arrive, records come out as soon as they are whole, and
//! nothing is kept but the record that is still open. It promises bounded memory for an input of any
//! length, and an end to archives made to have none: a record has a longest size, and what unpacks to
//! more than [`MAX_RATIO`] times its size is refused.

mod archive;
mod csv;
mod xml;

use std::fmt;

use bytes::Bytes;
use serde_json::Value;

use crate::{
    event::Record,
    map::sha256_hex,
    plan::{CsvPlan, DecodePlan, Format, Wrapper},
};

use archive::{Gunzip, Unzip};
use csv::Rows;

pub(super) use xml::to_json as xml_to_json;

/// More than this many times its size no honest file unpacks to (deflate's own bound is 1032).
const MAX_RATIO: u64 = 250;
/// So much may be unpacked before the ratio counts.
const FREE_BYTES: u64 = 16 << 20;
/// Packed bytes unpacked at once: at most a thousand times as much comes out.
const PACKED_STEP: usize = 4 << 10;

/// Why bytes are not what the file says they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DecodeError {
    /// Not of the format: what is wrong, and where.
    Bad(String),
    /// Longer than `max_response` allows: what.
    TooLarge(&'static str, usize),
    /// Unpacks to more than any honest file would.
    Bomb,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(problem) => f.write_str(problem),
            Self::TooLarge(what, limit) => {
                write!(f, "{what} is longer than `max_response` allows ({limit} bytes)")
            }
            Self::Bomb => write!(
                f,
                "the archive unpacks to more than {MAX_RATIO} times its size: it is not read on"
            ),
        }
    }
}

fn bad(problem: impl Into<String>) -> DecodeError {
    DecodeError::Bad(problem.into())
}

/// What comes out of an archive.
enum Piece<'a> {
    Data(&'a [u8]),
    /// A file within it ends here.
    End,
}

type Emit<'e> = &'e mut dyn FnMut(Piece<'_>) -> Result<(), DecodeError>;

enum Unpack {
    Gzip(Gunzip),
    Zip(Unzip),
}

impl Unpack {
    fn push(&mut self, data: &[u8], emit: Emit<'_>) -> Result<(), DecodeError> {
        data.chunks(PACKED_STEP).try_for_each(|step| match self {
            Self::Gzip(gunzip) => gunzip.push(step, emit),
            Self::Zip(unzip) => unzip.push(step, emit),
        })
    }

    fn finish(&mut self, emit: Emit<'_>) -> Result<(), DecodeError> {
        match self {
            Self::Gzip(gunzip) => gunzip.finish(emit),
            Self::Zip(unzip) => unzip.finish(),
        }
    }
}

/// What reads the files that come out of the archives, or the body itself.
enum Reading {
    Lines(Lines),
    Rows(Box<Rows>),
    /// Documents: the one still open, those that are whole, and the bytes of all of them.
    Whole {
        open: Vec<u8>,
        done: Vec<Bytes>,
        held: usize,
    },
}

/// One answer, pushed through.
pub(super) struct Decoder {
    unpack: Vec<Unpack>,
    end: Reader,
}

struct Reader {
    reading: Reading,
    records: Vec<Record>,
    max_bytes: usize,
    wire_bytes: u64,
    plain_bytes: u64,
}

impl Decoder {
    /// For one answer; `gzipped` says that it came compressed on its way. No record (or document) may
    /// be longer than `max_bytes`.
    pub fn new(plan: &DecodePlan, gzipped: bool, max_bytes: usize) -> Self {
        let transport = gzipped.then_some(Wrapper::Gzip);
        let unpack = transport.iter().chain(&plan.unpack).map(|wrapper| match wrapper {
            Wrapper::Gzip => Unpack::Gzip(Gunzip::default()),
            Wrapper::Zip => Unpack::Zip(Unzip::default()),
        });
        let reading = match &plan.format {
            Format::JsonLines => Reading::Lines(Lines::default()),
            Format::Csv(csv) => Reading::Rows(Box::new(Rows::new(csv))),
            _ => Reading::Whole { open: Vec::new(), done: Vec::new(), held: 0 },
        };
        let end = Reader { reading, records: Vec::new(), max_bytes, wire_bytes: 0, plain_bytes: 0 };
        Self { unpack: unpack.collect(), end }
    }

    /// Takes in the next bytes.
    pub fn push(&mut self, data: &[u8]) -> Result<(), DecodeError> {
        self.end.wire_bytes += data.len() as u64;
        feed(&mut self.unpack, &mut self.end, Piece::Data(data))
    }

    /// There is no more.
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        if self.end.wire_bytes == 0 {
            // An answer without a body has no records.
            return Ok(());
        }
        feed(&mut self.unpack, &mut self.end, Piece::End)
    }

    /// The records that are whole by now.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.end.records)
    }

    /// The documents, of formats that have no records of their own.
    fn into_documents(self) -> Vec<Bytes> {
        match self.end.reading {
            Reading::Whole { done, .. } => done,
            _ => Vec::new(),
        }
    }
}

/// Sends a piece through what is left to unpack.
fn feed(unpack: &mut [Unpack], end: &mut Reader, piece: Piece<'_>) -> Result<(), DecodeError> {
    let Some((first, inner)) = unpack.split_first_mut() else { return end.take(piece) };
    match piece {
        Piece::Data(data) => first.push(data, &mut |piece| match piece {
            // A gzip file is one file, whatever it is made of.
            Piece::End => feed(inner, end, Piece::End),
            data @ Piece::Data(_) => feed(inner, end, data),
        }),
        Piece::End => {
            first.finish(&mut |piece| feed(inner, end, piece))?;
            let is_zip = matches!(first, Unpack::Zip(_));
            *first = match first {
                Unpack::Gzip(_) => Unpack::Gzip(Gunzip::default()),
                Unpack::Zip(_) => Unpack::Zip(Unzip::default()),
            };
            // Each file of a zip archive ended where it ended.
            if is_zip { Ok(()) } else { feed(inner, end, Piece::End) }
        }
    }
}

impl Reader {
    fn take(&mut self, piece: Piece<'_>) -> Result<(), DecodeError> {
        let max_bytes = self.max_bytes;
        let Piece::Data(data) = piece else {
            return match &mut self.reading {
                Reading::Lines(lines) => lines.end(&mut self.records),
                Reading::Rows(rows) => rows.end(&mut self.records),
                Reading::Whole { open, done, .. } => {
                    done.push(std::mem::take(open).into());
                    Ok(())
                }
            };
        };
        self.plain_bytes += data.len() as u64;
        if self.plain_bytes > FREE_BYTES
            && self.plain_bytes > self.wire_bytes.saturating_mul(MAX_RATIO)
        {
            return Err(DecodeError::Bomb);
        }
        match &mut self.reading {
            Reading::Lines(lines) => lines.push(data, max_bytes, &mut self.records),
            Reading::Rows(rows) => rows.push(data, max_bytes, &mut self.records),
            Reading::Whole { open, held, .. } => {
                *held += data.len();
                if *held > max_bytes {
                    return Err(DecodeError::TooLarge("the response, unpacked,", max_bytes));
                }
                open.extend_from_slice(data);
                Ok(())
            }
        }
    }
}

/// JSON lines: a record a line; blank lines are none.
#[derive(Default)]
struct Lines {
    /// The beginning of a line whose end has not come.
    open: Vec<u8>,
    number: u64,
}

impl Lines {
    fn push(
        &mut self,
        mut data: &[u8],
        max_bytes: usize,
        records: &mut Vec<Record>,
    ) -> Result<(), DecodeError> {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = (&data[..end], &data[end + 1..]);
            data = rest;
            self.number += 1;
            if self.open.len() + line.len() > max_bytes {
                return Err(DecodeError::TooLarge("a line", max_bytes));
            }
            if self.open.is_empty() {
                records.extend(record(line, self.number)?);
            } else {
                self.open.extend_from_slice(line);
                records.extend(record(&self.open, self.number)?);
                self.open.clear();
            }
        }
        if self.open.len() + data.len() > max_bytes {
            return Err(DecodeError::TooLarge("a line", max_bytes));
        }
        self.open.extend_from_slice(data);
        Ok(())
    }

    fn end(&mut self, records: &mut Vec<Record>) -> Result<(), DecodeError> {
        let last = std::mem::take(self);
        records.extend(record(&last.open, last.number + 1)?);
        Ok(())
    }
}

fn record(line: &[u8], number: u64) -> Result<Option<Record>, DecodeError> {
    let line = if number == 1 { without_mark(line) } else { line };
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    let record = Record::parse(Bytes::copy_from_slice(line), usize::MAX);
    record.map(Some).map_err(|_| bad(format!("line {number} is not JSON")))
}

/// Without the byte order mark that some programs begin a file with.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

/// Says what a body is that is delivered as it came.
pub(super) struct Described<'a> {
    /// `Content-Type`, or nothing.
    pub content_type: Option<&'a str>,
    /// The last part of the URL's path, or what `Content-Disposition` says.
    pub name: Option<&'a str>,
}

/// The JSON documents that an answer's whole body is.
pub(super) fn documents(
    plan: &DecodePlan,
    body: &Bytes,
    described: &Described<'_>,
    max_bytes: usize,
) -> Result<Vec<Bytes>, DecodeError> {
    if plan.unpack.is_empty() {
        return Ok(vec![document(&plan.format, body.clone(), described)?]);
    }
    let mut decoder = Decoder::new(plan, false, max_bytes);
    decoder.push(body)?;
    decoder.finish()?;
    let files = decoder.into_documents().into_iter();
    files.map(|file| document(&plan.format, file, described)).collect()
}

fn document(
    format: &Format,
    bytes: Bytes,
    described: &Described<'_>,
) -> Result<Bytes, DecodeError> {
    let content = match format {
        Format::Xml => return xml::to_json(&bytes).map(|value| value.to_string().into()),
        Format::Text => match std::str::from_utf8(without_mark(&bytes)) {
            Ok(text) => text.to_owned(),
            Err(error) => {
                let at = error.valid_up_to();
                return Err(bad(format!(
                    "the response is not UTF-8 text from byte {at} on (take decode = \"base64\")"
                )));
            }
        },
        Format::Base64 => data_encoding::BASE64.encode(&bytes),
        Format::Json | Format::JsonLines | Format::Csv(_) => return Ok(bytes),
    };
    let file = serde_json::json!({
        "name": described.name,
        "content_type": described.content_type,
        "size": bytes.len(),
        "sha256": sha256_hex(&bytes),
        "content": content,
    });
    Ok(file.to_string().into())
}

/// Rows of text as records, for bodies that are here as a whole.
pub(super) fn rows_of(bytes: &[u8], plan: &CsvPlan, max: usize) -> Result<Value, DecodeError> {
    let mut rows = Rows::new(plan);
    let mut records = Vec::new();
    rows.push(bytes, max, &mut records)?;
    rows.end(&mut records)?;
    Ok(records.iter().map(|record| record.value().as_ref().clone()).collect())
}

#[cfg(test)]
mod tests;
