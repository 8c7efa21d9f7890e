//! `decode`: what an answer is written in, and how its rows are.

use super::{
    kinds::{Int, Plain},
    table::{At, choice, table},
};

choice! {
    /// What an answer is written in, or packed in.
    pub enum DecodeKind {
        /// One JSON document.
        Json "json",
        /// A JSON document a line, each a record.
        Jsonl "jsonl",
        /// Rows of text, each a record.
        Csv "csv",
        /// One XML document: attributes are `@name`, text beside them is `#text`.
        Xml "xml",
        /// A file of UTF-8 text: one record, with the text as its `content`.
        Text "text",
        /// Any file: one record, with it in base64 as its `content`.
        Base64 "base64",
        /// Packed by gzip.
        Gzip "gzip",
        /// Packed as a zip archive; its files follow each other.
        Zip "zip",
    }
}

table! {
    /// How the rows of `decode = "csv"` are written.
    pub struct CsvDef "`csv`" {
        /// The character between two cells; `\t` is a tab.
        delimiter "delimiter": Plain = "\",\"";
        /// The columns' names, where the first row does not have them.
        columns "columns": Vec<At<Plain>>;
        /// Rows before the header that are passed over.
        skip "skip": Int<0, 1_000> = "0";
    }
}
