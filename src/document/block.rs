//! What a document is made of. Pages, changelogs and runbooks are written as blocks once; Markdown and
//! HTML each escape texts in one place, so no text of a connector can become markup.

use super::flow::Flow;

/// A piece of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// For people.
    Text(String),
    /// As it is written somewhere.
    Code(String),
    /// For people, stressed.
    Strong(String),
    /// A word that marks the whole row: `personal`, `deprecated`.
    Mark(&'static str),
    /// A text that leads somewhere: to the web, or to a page beside this one.
    Link {
        /// What is read.
        text: String,
        /// Where it leads.
        url: String,
    },
}

/// Pieces that stand in one line, a blank between them only where they have one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(pub Vec<Piece>);

impl Line {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds text.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.0.push(Piece::Text(text.into()));
        self
    }

    /// Adds text in which words in backticks are code, as people write notes.
    #[must_use]
    pub fn prose(mut self, text: &str) -> Self {
        let parts: Vec<&str> = text.split('`').collect();
        // A backtick without a partner is one.
        let pairs = if parts.len() % 2 == 1 { parts.len() } else { parts.len() - 2 };
        for (at, part) in parts.iter().take(pairs).enumerate() {
            match (at % 2, part.is_empty()) {
                (0, true) => {}
                (0, false) => self = self.text(*part),
                (_, _) => self = self.code(*part),
            }
        }
        let left = parts.iter().skip(pairs).copied().collect::<Vec<_>>().join("`");
        if left.is_empty() { self } else { self.text(left) }
    }

    /// Adds code.
    #[must_use]
    pub fn code(mut self, text: impl Into<String>) -> Self {
        self.0.push(Piece::Code(text.into()));
        self
    }

    /// Adds stressed text.
    #[must_use]
    pub fn strong(mut self, text: impl Into<String>) -> Self {
        self.0.push(Piece::Strong(text.into()));
        self
    }

    /// Adds a mark.
    #[must_use]
    pub fn mark(mut self, word: &'static str) -> Self {
        self.0.push(Piece::Mark(word));
        self
    }

    /// Adds an address: a link where it is one that a browser may follow.
    #[must_use]
    pub fn address(mut self, text: &str) -> Self {
        let is_web = text.starts_with("https://") || text.starts_with("http://");
        self.0.push(if is_web && !text.contains(char::is_whitespace) {
            Piece::Link { text: text.to_owned(), url: text.to_owned() }
        } else {
            Piece::Text(text.to_owned())
        });
        self
    }

    /// Adds a link to a page beside this one.
    #[must_use]
    pub fn local(mut self, text: impl Into<String>, file: impl Into<String>) -> Self {
        self.0.push(Piece::Link { text: text.into(), url: file.into() });
        self
    }

    /// Adds another line.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Adds codes with commas.
    #[must_use]
    pub fn codes<T: Into<String>>(mut self, codes: impl IntoIterator<Item = T>) -> Self {
        for (at, code) in codes.into_iter().enumerate() {
            if at > 0 {
                self = self.text(", ");
            }
            self = self.code(code);
        }
        self
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|piece| matches!(piece, Piece::Text(text) if text.is_empty()))
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        Self::new().text(text)
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        Self::new().text(text)
    }
}

/// A part of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// A heading; 1 is the document's own.
    Heading(u8, Line),
    /// A paragraph.
    Paragraph(Line),
    /// Items without order.
    List(Vec<Line>),
    /// Items in order.
    Steps(Vec<Line>),
    /// Names and what they are.
    Facts {
        /// What they are about.
        title: String,
        /// Name and value.
        rows: Vec<(String, Line)>,
    },
    /// Rows and columns.
    Table(Table),
    /// Commands for a shell, one a line.
    Commands(Vec<String>),
    /// Text to be copied as it stands.
    Literal(String),
    /// The flow of events, drawn.
    Picture(Flow),
}

/// Rows and columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// What it shows, for those who do not see it.
    pub caption: String,
    /// The columns' names.
    pub head: Vec<&'static str>,
    /// A cell for each column.
    pub rows: Vec<Vec<Line>>,
    /// Whether the search box hides rows that do not match.
    pub is_searched: bool,
}

impl Table {
    /// The same without columns in which nothing stands.
    #[must_use]
    pub fn without_empty_columns(mut self) -> Self {
        for column in (0..self.head.len()).rev() {
            if self.rows.iter().all(|row| row.get(column).is_none_or(Line::is_empty)) {
                self.head.remove(column);
                for row in &mut self.rows {
                    row.remove(column);
                }
            }
        }
        self
    }
}

impl Block {
    /// A heading.
    pub fn heading(level: u8, text: impl Into<Line>) -> Self {
        Self::Heading(level, text.into())
    }

    /// A paragraph.
    pub fn paragraph(text: impl Into<Line>) -> Self {
        Self::Paragraph(text.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_backticks_are_code() {
        let line = Line::new().prose("The field `total` has `two` decimals");
        let expected =
            Line::from("The field ").code("total").text(" has ").code("two").text(" decimals");
        assert_eq!(line, expected);
        assert_eq!(Line::new().prose("it`s"), Line::from("it`s"));
        assert_eq!(Line::new().prose("`a` it`s"), Line::new().code("a").text(" it`s"));
        assert_eq!(Line::new().prose(""), Line::new());
    }
}
