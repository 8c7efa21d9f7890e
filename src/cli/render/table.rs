//! Aligned columns, and the few colours there are.

use std::fmt::Write as _;

/// Whether colours are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Colours are wanted.
    pub colour: bool,
}

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Heading,
    Good,
    Doubtful,
    Bad,
}

impl Style {
    /// `text` in the tone's colour.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Heading => "1",
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31",
        };
        if self.colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    pub text: String,
    pub tone: Tone,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }
}

/// Columns two spaces apart, each as wide as its widest cell; those named in `right` are flush
/// right. The last column is not padded, so no line ends in spaces.
pub fn table(headings: &[&str], right: &[&str], rows: &[Vec<Cell>], style: Style) -> String {
    let headings: Vec<Cell> = headings
        .iter()
        .map(|heading| Cell { text: (*heading).to_owned(), tone: Tone::Heading })
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().chain(std::iter::once(&headings)).filter_map(|row| row.get(column));
        cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut out = String::new();
    for row in std::iter::once(&headings).chain(rows) {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let padding = " ".repeat(widths[column].saturating_sub(cell.text.chars().count()));
            let is_right = right.contains(&headings[column].text.as_str());
            let painted = style.paint(cell.tone, &cell.text);
            let gap = if column == 0 { "" } else { "  " };
            let (before, after) = if is_right { (&*padding, "") } else { ("", &*padding) };
            let _ = write!(line, "{gap}{before}{painted}{after}");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["shop".into(), "7".into(), "fine".into()],
            vec!["täglich".into(), "1234".into(), "".into()],
        ];
        let text = table(&["NAME", "COUNT", "NOTE"], &["COUNT"], &rows, Style::default());
        assert_eq!(text, "NAME     COUNT  NOTE\nshop         7  fine\ntäglich   1234\n");
    }

    #[test]
    fn colours_do_not_move_columns() {
        let bad = Cell { text: "held".to_owned(), tone: Tone::Bad };
        let rows = [vec![bad, "x".into()], vec!["running".into(), "y".into()]];
        let painted = table(&["STATE", "N"], &[], &rows, Style { colour: true });
        assert!(painted.contains("\u{1b}[31mheld\u{1b}[0m     x"), "{painted:?}");
    }
}
