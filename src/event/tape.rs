//! A JSON text, checked once and laid out flat: where each value begins and ends, and no copies.
//!
//! Building it takes one allocation for a document of any size, a fraction of what a tree of owned
//! strings costs, and what nobody asks for is never made. It accepts exactly what `serde_json` parses
//! into a `Value` (RFC 8259, lone surrogates and numbers beyond a float refused), which a property
//! test holds.

/// Deeper nesting is refused: `serde_json` refuses it as well.
pub(super) const MAX_DEPTH: usize = 127;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    False,
    True,
    Number,
    /// A string without escapes: its bytes are its text.
    Plain,
    /// A string with escapes.
    Escaped,
    Array,
    Object,
}

/// One value, or the name of a member, which stands before the member's value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub kind: Kind,
    /// Of its text, quotes and brackets included.
    pub start: u32,
    pub end: u32,
    /// The entry behind it and all that it contains.
    pub next: u32,
}

/// The text is not JSON, or nests too deeply, or is longer than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson;

/// Lays out one document; white space around it is fine, anything else is not.
pub(super) fn lay_out(text: &[u8], max_depth: usize) -> Result<Box<[Entry]>, NotJson> {
    if u32::try_from(text.len()).is_err() || std::str::from_utf8(text).is_err() {
        return Err(NotJson);
    }
    // A member takes two entries and rarely less than 24 bytes.
    let entries = Vec::with_capacity(text.len() / 12 + 4);
    let max_depth = max_depth.min(MAX_DEPTH);
    let mut layout = Layout { text, at: 0, entries, open: Vec::new(), max_depth };
    layout.document()?;
    Ok(layout.entries.into_boxed_slice())
}

struct Layout<'a> {
    text: &'a [u8],
    at: usize,
    entries: Vec<Entry>,
    /// The containers that are not closed yet.
    open: Vec<u32>,
    max_depth: usize,
}

impl Layout<'_> {
    fn document(&mut self) -> Result<(), NotJson> {
        loop {
            if self.value()? {
                continue;
            }
            if self.after_value()? {
                return Ok(());
            }
        }
    }

    /// One value. Whether it is a container with something in it, whose first value comes next.
    fn value(&mut self) -> Result<bool, NotJson> {
        let start = self.at_token();
        match self.text.get(start).ok_or(NotJson)? {
            b'"' => self.string()?,
            b'{' => return self.begin(Kind::Object, b'}'),
            b'[' => return self.begin(Kind::Array, b']'),
            b'-' | b'0'..=b'9' => {
                self.number()?;
                self.push(Kind::Number, start);
            }
            b't' => self.word(b"true", Kind::True)?,
            b'f' => self.word(b"false", Kind::False)?,
            b'n' => self.word(b"null", Kind::Null)?,
            _ => return Err(NotJson),
        }
        Ok(false)
    }

    /// What follows a value: the next one, or the end of what contains it. Whether all is read.
    fn after_value(&mut self) -> Result<bool, NotJson> {
        loop {
            let at = self.at_token();
            let Some(&container) = self.open.last() else {
                return if at == self.text.len() { Ok(true) } else { Err(NotJson) };
            };
            let is_object = self.entries[container as usize].kind == Kind::Object;
            match (self.text.get(at), is_object) {
                (Some(b','), _) => {
                    self.at += 1;
                    if is_object {
                        self.name()?;
                    }
                    return Ok(false);
                }
                (Some(b'}'), true) | (Some(b']'), false) => self.close(),
                _ => return Err(NotJson),
            }
        }
    }

    fn begin(&mut self, kind: Kind, end: u8) -> Result<bool, NotJson> {
        if self.open.len() == self.max_depth {
            return Err(NotJson);
        }
        self.open.push(self.entries.len() as u32);
        let start = self.at;
        self.at += 1;
        self.push(kind, start);
        let at = self.at_token();
        if self.text.get(at) == Some(&end) {
            self.close();
            return Ok(false);
        }
        if kind == Kind::Object {
            self.name()?;
        }
        Ok(true)
    }

    fn close(&mut self) {
        self.at += 1;
        let next = self.entries.len() as u32;
        if let Some(container) = self.open.pop() {
            let entry = &mut self.entries[container as usize];
            (entry.end, entry.next) = (self.at as u32, next);
        }
    }

    /// A member's name and the colon.
    fn name(&mut self) -> Result<(), NotJson> {
        let at = self.at_token();
        if self.text.get(at) != Some(&b'"') {
            return Err(NotJson);
        }
        self.string()?;
        let at = self.at_token();
        if self.text.get(at) != Some(&b':') {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// The place of the next byte that is no white space.
    fn at_token(&mut self) -> usize {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.text.get(self.at) {
            self.at += 1;
        }
        self.at
    }

    fn push(&mut self, kind: Kind, start: usize) {
        let next = self.entries.len() as u32 + 1;
        self.entries.push(Entry { kind, start: start as u32, end: self.at as u32, next });
    }

    fn word(&mut self, word: &[u8], kind: Kind) -> Result<(), NotJson> {
        let start = self.at;
        if !self.text[start..].starts_with(word) {
            return Err(NotJson);
        }
        self.at += word.len();
        self.push(kind, start);
        Ok(())
    }

    fn string(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        let mut kind = Kind::Plain;
        self.at += 1;
        loop {
            self.at += plain_bytes(&self.text[self.at..]);
            match self.text.get(self.at).ok_or(NotJson)? {
                b'"' => break,
                b'\\' => {
                    kind = Kind::Escaped;
                    self.escape()?;
                }
                _ => return Err(NotJson),
            }
        }
        self.at += 1;
        self.push(kind, start);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        let letter = self.text.get(self.at + 1).ok_or(NotJson)?;
        self.at += 2;
        match letter {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => match self.code_unit()? {
                // Half of a pair: the other half has to follow.
                0xd800..=0xdbff => {
                    if !self.text[self.at..].starts_with(b"\\u") {
                        return Err(NotJson);
                    }
                    self.at += 2;
                    let low = self.code_unit()?;
                    if matches!(low, 0xdc00..=0xdfff) { Ok(()) } else { Err(NotJson) }
                }
                0xdc00..=0xdfff => Err(NotJson),
                _ => Ok(()),
            },
            _ => Err(NotJson),
        }
    }

    fn code_unit(&mut self) -> Result<u32, NotJson> {
        let digits = self.text.get(self.at..self.at + 4).ok_or(NotJson)?;
        self.at += 4;
        digits.iter().try_fold(0, |unit, digit| {
            let digit = char::from(*digit).to_digit(16).ok_or(NotJson)?;
            Ok(unit << 4 | digit)
        })
    }

    fn number(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        self.at += usize::from(self.text[self.at] == b'-');
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        let mut may_be_too_large = self.at - start > 300;
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            may_be_too_large = true;
            self.at += 1;
            self.at += usize::from(matches!(self.text.get(self.at), Some(b'+' | b'-')));
            self.digits()?;
        }
        let number = &self.text[start..self.at];
        if may_be_too_large && serde_json::from_slice::<serde_json::Number>(number).is_err() {
            return Err(NotJson);
        }
        Ok(())
    }

    /// At least one.
    fn digits(&mut self) -> Result<(), NotJson> {
        let rest = &self.text[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(NotJson) } else { Ok(()) }
    }
}

/// How many bytes come before the first that ends a run within a string: a quote, a backslash or a
/// control character. Eight at a time; the lowest mark of a word is exact, those above it need not
/// be (Hacker's Delight, 6-1).
fn plain_bytes(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let zeroes = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut words = text.chunks_exact(8);
    let mut count = 0;
    for word in &mut words {
        let word = word.try_into().map_or(0, u64::from_le_bytes);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let ends = zeroes(word ^ (ONES * 0x22)) | zeroes(word ^ (ONES * 0x5c)) | control;
        if ends != 0 {
            return count + (ends.trailing_zeros() / 8) as usize;
        }
        count += 8;
    }
    let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    let rest = words.remainder();
    count + rest.iter().position(ends).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::plain_bytes;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn a_run_ends_where_it_should(text in prop::collection::vec(prop_oneof![3 => Just(b'a'), 1 => any::<u8>()], 0..40)) {
            let ends = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
            prop_assert_eq!(plain_bytes(&text), text.iter().position(ends).unwrap_or(text.len()));
        }
    }
}
