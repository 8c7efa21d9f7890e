//! Archives, unpacked as they come in: gzip, and zip without its directory.
//!
//! A zip archive is read from its front, file after file, by the header before each (APPNOTE 4.3.7),
//! because its directory stands at the very end: nothing is kept, and nothing is written to disk. What
//! that cannot read says so: files that are stored without their size, encrypted ones, and methods
//! other than stored and deflate. Sizes and checksums are compared where a file ends.

use std::io::Write;

use flate2::{Decompress, FlushDecompress, Status, write::MultiGzDecoder};

use super::{DecodeError, Emit, Piece, bad};

/// Unpacked bytes handed on at once.
const OUT_BYTES: usize = 64 << 10;
/// A file's name and extra fields together.
const MAX_HEADER_BYTES: usize = 128 << 10;

/// Gzip, of one member or several. What is not compressed passes as it is: a server may have undone
/// it on the way.
#[derive(Default)]
pub(super) struct Gunzip {
    state: Gzip,
}

#[derive(Default)]
enum Gzip {
    /// The first bytes, too few to tell.
    #[default]
    Begin,
    First(u8),
    Packed(Box<MultiGzDecoder<Vec<u8>>>),
    Plain,
}

impl Gunzip {
    pub fn push(&mut self, data: &[u8], emit: Emit<'_>) -> Result<(), DecodeError> {
        let Some(byte) = data.first() else { return Ok(()) };
        match &mut self.state {
            Gzip::Begin if data.len() == 1 => {
                self.state = Gzip::First(*byte);
                Ok(())
            }
            Gzip::Begin => {
                self.state = begin(data);
                self.push(data, emit)
            }
            Gzip::First(first) => {
                let joined = [&[*first][..], data].concat();
                self.state = begin(&joined);
                self.push(&joined, emit)
            }
            Gzip::Plain => emit(Piece::Data(data)),
            Gzip::Packed(decoder) => {
                decoder
                    .write_all(data)
                    .and_then(|()| decoder.flush())
                    .map_err(|error| not_gzip(&error))?;
                hand_on(decoder.get_mut(), emit)
            }
        }
    }

    pub fn finish(&mut self, emit: Emit<'_>) -> Result<(), DecodeError> {
        match &mut self.state {
            Gzip::First(byte) => emit(Piece::Data(&[*byte])),
            Gzip::Packed(decoder) => {
                decoder.try_finish().map_err(|error| not_gzip(&error))?;
                hand_on(decoder.get_mut(), emit)
            }
            Gzip::Begin | Gzip::Plain => Ok(()),
        }
    }
}

fn begin(data: &[u8]) -> Gzip {
    if data.starts_with(&[0x1f, 0x8b]) {
        Gzip::Packed(Box::new(MultiGzDecoder::new(Vec::new())))
    } else {
        Gzip::Plain
    }
}

fn hand_on(unpacked: &mut Vec<u8>, emit: Emit<'_>) -> Result<(), DecodeError> {
    let result = emit(Piece::Data(unpacked));
    unpacked.clear();
    result
}

fn not_gzip(error: &std::io::Error) -> DecodeError {
    bad(format!("gzip: {error}"))
}

/// Zip, file after file.
pub(super) struct Unzip {
    /// What came and could not be used yet: at most a header.
    held: Vec<u8>,
    at: At,
}

enum At {
    /// Before a signature.
    Header,
    Stored(File),
    Deflated(File, Box<Decompress>),
    /// Behind a file whose sizes follow it.
    Descriptor(File),
    /// In the directory at the end: nothing of it is of interest.
    Directory,
}

/// A file that is being read.
struct File {
    /// Whether it is handed on: folders and their like are not.
    wanted: bool,
    /// As the header says, where it does.
    size: Option<u64>,
    crc: Option<u32>,
    /// Whether sizes are of 64 bits.
    long: bool,
    checksum: crc32fast::Hasher,
    unpacked: u64,
}

const FILE: u32 = 0x0403_4b50;
const DIRECTORY: [u32; 5] = [0x0201_4b50, 0x0605_4b50, 0x0606_4b50, 0x0706_4b50, 0x0806_4b50];
const DESCRIPTOR: u32 = 0x0807_4b50;

impl Default for Unzip {
    fn default() -> Self {
        Self { held: Vec::new(), at: At::Header }
    }
}

impl Unzip {
    pub fn push(&mut self, data: &[u8], emit: Emit<'_>) -> Result<(), DecodeError> {
        if matches!(self.at, At::Directory) {
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(data);
        let mut rest = &bytes[..];
        loop {
            let before = rest.len();
            rest = self.step(rest, emit)?;
            if rest.is_empty() || rest.len() == before {
                break;
            }
        }
        if rest.len() > MAX_HEADER_BYTES {
            return Err(bad("zip: a file's header is too long"));
        }
        self.held = rest.to_vec();
        Ok(())
    }

    pub fn finish(&mut self) -> Result<(), DecodeError> {
        match self.at {
            At::Directory => Ok(()),
            At::Header if self.held.is_empty() => {
                Err(bad("zip: there is no archive, or it ends without its directory"))
            }
            _ => Err(bad("zip: the archive ends too early")),
        }
    }

    /// Goes on as far as it can without more. What is left.
    fn step<'d>(&mut self, data: &'d [u8], emit: Emit<'_>) -> Result<&'d [u8], DecodeError> {
        match std::mem::replace(&mut self.at, At::Header) {
            At::Header => self.header(data, emit),
            At::Directory => {
                self.at = At::Directory;
                Ok(&[])
            }
            At::Stored(file) => self.stored(file, data, emit),
            At::Deflated(file, inflate) => self.deflated(file, inflate, data, emit),
            At::Descriptor(file) => self.descriptor(file, data, emit),
        }
    }

    fn header<'d>(&mut self, data: &'d [u8], emit: Emit<'_>) -> Result<&'d [u8], DecodeError> {
        let Some(signature) = u32_at(data, 0) else { return Ok(data) };
        if DIRECTORY.contains(&signature) {
            self.at = At::Directory;
            return Ok(&[]);
        }
        if signature != FILE {
            return Err(bad("zip: this is no zip archive, or it is damaged"));
        }
        let (Some(name_bytes), Some(extra_bytes)) = (u16_at(data, 26), u16_at(data, 28)) else {
            return Ok(data);
        };
        let name_end = 30 + usize::from(name_bytes);
        let end = name_end + usize::from(extra_bytes);
        let (Some(name), Some(extra)) = (data.get(30..name_end), data.get(name_end..end)) else {
            return Ok(data);
        };
        let flags = u16_at(data, 6).unwrap_or(0);
        if flags & 1 != 0 {
            return Err(bad("zip: the archive is encrypted"));
        }
        let sizes_follow = flags & 8 != 0;
        let name = String::from_utf8_lossy(name);
        let long = long_size(extra);
        let size = u32_at(data, 22).filter(|size| *size != u32::MAX).map(u64::from).or(long);
        let file = File {
            wanted: !name.ends_with('/') && !name.starts_with("__MACOSX/"),
            size: size.filter(|_| !sizes_follow),
            crc: u32_at(data, 14).filter(|_| !sizes_follow),
            long: long.is_some(),
            checksum: crc32fast::Hasher::new(),
            unpacked: 0,
        };
        self.at = match (u16_at(data, 8), file.size) {
            (Some(0), Some(0)) => {
                file.end(emit)?;
                At::Header
            }
            (Some(0), Some(_)) => At::Stored(file),
            (Some(0), None) => {
                return Err(bad(
                    "zip: a file is stored without its size, so its end cannot be told",
                ));
            }
            (Some(8), _) => At::Deflated(file, Box::new(Decompress::new(false))),
            (method, _) => {
                let method = method.unwrap_or_default();
                return Err(bad(format!("zip: compression method {method} is not supported")));
            }
        };
        Ok(&data[end..])
    }

    fn stored<'d>(
        &mut self,
        mut file: File,
        data: &'d [u8],
        emit: Emit<'_>,
    ) -> Result<&'d [u8], DecodeError> {
        let left = file.size.unwrap_or(0) - file.unpacked;
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        let (own, rest) = data.split_at(count);
        file.hand_on(own, emit)?;
        if count as u64 == left {
            file.end(emit)?;
        } else {
            self.at = At::Stored(file);
        }
        Ok(rest)
    }

    fn deflated<'d>(
        &mut self,
        mut file: File,
        mut inflate: Box<Decompress>,
        mut data: &'d [u8],
        emit: Emit<'_>,
    ) -> Result<&'d [u8], DecodeError> {
        let mut out = vec![0; OUT_BYTES];
        loop {
            let (read, written) = (inflate.total_in(), inflate.total_out());
            let status = inflate
                .decompress(data, &mut out, FlushDecompress::None)
                .map_err(|error| bad(format!("zip: {error}")))?;
            let read = usize::try_from(inflate.total_in() - read).unwrap_or(0);
            let written = usize::try_from(inflate.total_out() - written).unwrap_or(0);
            data = &data[read..];
            file.hand_on(&out[..written], emit)?;
            if status == Status::StreamEnd {
                if file.crc.is_some() {
                    file.end(emit)?;
                } else {
                    self.at = At::Descriptor(file);
                }
                return Ok(data);
            }
            if (data.is_empty() && written < OUT_BYTES) || (read == 0 && written == 0) {
                self.at = At::Deflated(file, inflate);
                return Ok(data);
            }
        }
    }

    /// Checksum and sizes behind a file, with or without a signature (APPNOTE 4.3.9).
    fn descriptor<'d>(
        &mut self,
        mut file: File,
        data: &'d [u8],
        emit: Emit<'_>,
    ) -> Result<&'d [u8], DecodeError> {
        let signed = u32_at(data, 0) == Some(DESCRIPTOR);
        let start = if signed { 4 } else { 0 };
        // Enough for the longest, unless the archive ends before: a directory is longer.
        if data.len() < start + 24 {
            self.at = At::Descriptor(file);
            return Ok(data);
        }
        file.crc = u32_at(data, start);
        // Which of the two widths it is, the signature behind it tells.
        let known = |at: usize| {
            u32_at(data, at).is_some_and(|next| next == FILE || DIRECTORY.contains(&next))
        };
        let wide = file.long || !known(start + 12) && known(start + 20);
        file.end(emit)?;
        Ok(&data[start + if wide { 20 } else { 12 }..])
    }
}

impl File {
    fn hand_on(&mut self, data: &[u8], emit: Emit<'_>) -> Result<(), DecodeError> {
        self.unpacked += data.len() as u64;
        self.checksum.update(data);
        if self.wanted && !data.is_empty() { emit(Piece::Data(data)) } else { Ok(()) }
    }

    fn end(self, emit: Emit<'_>) -> Result<(), DecodeError> {
        let sized = self.size.is_none_or(|size| size == self.unpacked);
        if !sized || self.crc.is_some_and(|crc| crc != self.checksum.finalize()) {
            return Err(bad("zip: a file is damaged: its checksum or size is another"));
        }
        if self.wanted { emit(Piece::End) } else { Ok(()) }
    }
}

/// The unpacked size in the extra field of large files (APPNOTE 4.5.3).
fn long_size(mut extra: &[u8]) -> Option<u64> {
    while let (Some(id), Some(bytes)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let end = 4 + usize::from(bytes);
        if id == 1 {
            return extra
                .get(4..12)
                .and_then(|size| Some(u64::from_le_bytes(size.try_into().ok()?)));
        }
        extra = extra.get(end..)?;
    }
    None
}

fn u16_at(data: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(data.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(data.get(at..at + 4)?.try_into().ok()?))
}
