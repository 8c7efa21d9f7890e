//! Rows of text as records: `{"column": "cell", ...}`, every cell a text.

use csv_core::{ReadFieldResult, Reader, ReaderBuilder};

use crate::{event::Record, plan::CsvPlan};

use super::{DecodeError, bad};

/// Rows in the order of the file.
pub(super) struct Rows {
    plan: CsvPlan,
    reader: Reader,
    /// The columns' names, as JSON texts with a colon behind them.
    names: Option<Vec<Vec<u8>>>,
    /// The cells of the row that is still open, one behind the other, and where each ends.
    cells: Vec<u8>,
    ends: Vec<usize>,
    /// Of the cell that is still open, within `cells`.
    filled: usize,
    row: u64,
}

impl Rows {
    pub fn new(plan: &CsvPlan) -> Self {
        Self {
            plan: plan.clone(),
            reader: ReaderBuilder::new().delimiter(plan.delimiter).build(),
            names: plan.columns.as_deref().map(names_of),
            cells: vec![0; 4096],
            ends: Vec::new(),
            filled: 0,
            row: 0,
        }
    }

    pub fn push(
        &mut self,
        mut data: &[u8],
        max_bytes: usize,
        records: &mut Vec<Record>,
    ) -> Result<(), DecodeError> {
        while !data.is_empty() {
            let (result, read, written) =
                self.reader.read_field(data, &mut self.cells[self.filled..]);
            data = &data[read..];
            self.filled += written;
            self.went_on(result, max_bytes, records)?;
        }
        Ok(())
    }

    /// Of the row that is still open.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.cells.len()
    }

    /// A file ends here; the next one has a header of its own.
    pub fn end(&mut self, records: &mut Vec<Record>) -> Result<(), DecodeError> {
        loop {
            let (result, _, written) = self.reader.read_field(&[], &mut self.cells[self.filled..]);
            self.filled += written;
            if matches!(result, ReadFieldResult::End) {
                *self = Self::new(&self.plan);
                return Ok(());
            }
            self.went_on(result, usize::MAX, records)?;
        }
    }

    fn went_on(
        &mut self,
        result: ReadFieldResult,
        max_bytes: usize,
        records: &mut Vec<Record>,
    ) -> Result<(), DecodeError> {
        match result {
            ReadFieldResult::InputEmpty | ReadFieldResult::End => {}
            ReadFieldResult::OutputFull => {
                if self.cells.len() >= max_bytes {
                    return Err(DecodeError::TooLarge("a row", max_bytes));
                }
                self.cells.resize(self.cells.len() * 2, 0);
            }
            ReadFieldResult::Field { record_end } => {
                self.ends.push(self.filled);
                // Empty cells fill nothing, and there may be any number of them.
                if self.ends.len() > max_bytes {
                    return Err(DecodeError::TooLarge("a row", max_bytes));
                }
                if record_end {
                    self.row += 1;
                    let done = self.row_done(records);
                    self.ends.clear();
                    self.filled = 0;
                    done?;
                }
            }
        }
        Ok(())
    }

    fn row_done(&mut self, records: &mut Vec<Record>) -> Result<(), DecodeError> {
        let row = self.row;
        if row <= self.plan.skip {
            return Ok(());
        }
        let mut starts = std::iter::once(0).chain(self.ends.iter().copied());
        let cells = self.ends.iter().filter_map(|end| Some(&self.cells[starts.next()?..*end]));
        let texts = cells.enumerate().map(|(at, cell)| {
            std::str::from_utf8(cell)
                .map_err(|_| bad(format!("row {row}, cell {}: it is not UTF-8", at + 1)))
        });
        let texts: Vec<&str> = texts.collect::<Result<_, _>>()?;
        let Some(names) = &self.names else {
            self.names = Some(header(&texts)?);
            return Ok(());
        };
        if texts.len() > names.len() {
            let (found, known) = (texts.len(), names.len());
            return Err(bad(format!("row {row} has {found} cells, but there are {known} columns")));
        }
        let mut json =
            Vec::with_capacity(self.filled + names.iter().map(|n| n.len() + 4).sum::<usize>());
        json.push(b'{');
        for (name, text) in names.iter().zip(texts) {
            if json.len() > 1 {
                json.push(b',');
            }
            json.extend_from_slice(name);
            // A vector takes everything.
            let _ = serde_json::to_writer(&mut json, text);
        }
        json.push(b'}');
        records.push(Record::from_bytes(json.into()));
        Ok(())
    }
}

/// The columns of a first row: each has a name, and none twice.
fn header(texts: &[&str]) -> Result<Vec<Vec<u8>>, DecodeError> {
    let names: Vec<String> = texts.iter().map(|text| text.trim().to_owned()).collect();
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(bad(format!("column {} has no name in the header", at + 1)));
        }
        if names[..at].contains(name) {
            return Err(bad(format!("two columns are called `{}`", name.escape_debug())));
        }
    }
    Ok(names_of(&names))
}

fn names_of(names: &[String]) -> Vec<Vec<u8>> {
    let json = |name: &String| {
        let mut json = serde_json::to_vec(name).unwrap_or_default();
        json.push(b':');
        json
    };
    names.iter().map(json).collect()
}
