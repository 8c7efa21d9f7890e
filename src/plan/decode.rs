//! `decode`: what an answer is written in.

use std::fmt;

/// How an answer becomes JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecodePlan {
    /// What it is packed in, the outermost first.
    pub unpack: Vec<Wrapper>,
    /// What is inside.
    pub format: Format,
}

impl DecodePlan {
    /// Whether records come out while the answer is still coming in.
    pub fn streams(&self) -> bool {
        matches!(self.format, Format::JsonLines | Format::Csv(_))
    }

    /// Whether the answer is JSON as it comes.
    pub fn is_plain(&self) -> bool {
        self.unpack.is_empty() && self.format == Format::Json
    }
}

/// An archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapper {
    /// RFC 1952.
    Gzip,
    /// A zip archive: its files one after the other.
    Zip,
}

/// What a file is written in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One document.
    #[default]
    Json,
    /// A document a line, each a record.
    JsonLines,
    /// Rows of text, each a record.
    Csv(CsvPlan),
    /// One document.
    Xml,
    /// Anything that is UTF-8: one record with its text as `content`.
    Text,
    /// Anything at all: one record with it in base64 as `content`.
    Base64,
}

/// How rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvPlan {
    /// Between two cells.
    pub delimiter: u8,
    /// The columns' names; `None`: the first row has them.
    pub columns: Option<Vec<String>>,
    /// Rows before the header that are passed over.
    pub skip: u64,
}

impl Default for CsvPlan {
    fn default() -> Self {
        Self { delimiter: b',', columns: None, skip: 0 }
    }
}

impl fmt::Display for DecodePlan {
    /// `gzip, csv`, and how the rows are written where that is not the usual way.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for wrapper in &self.unpack {
            f.write_str(match wrapper {
                Wrapper::Gzip => "gzip, ",
                Wrapper::Zip => "zip, ",
            })?;
        }
        match &self.format {
            Format::Json => f.write_str("json"),
            Format::JsonLines => f.write_str("jsonl"),
            Format::Xml => f.write_str("xml"),
            Format::Text => f.write_str("text"),
            Format::Base64 => f.write_str("base64"),
            Format::Csv(csv) => csv.fmt(f),
        }
    }
}

impl fmt::Display for CsvPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("csv")?;
        if self.delimiter != b',' {
            write!(f, ", cells divided by `{}`", char::from(self.delimiter).escape_default())?;
        }
        if self.skip > 0 {
            write!(f, ", {} rows passed over", self.skip)?;
        }
        match &self.columns {
            Some(columns) => write!(f, ", columns {}", columns.join(" ")),
            None => Ok(()),
        }
    }
}
