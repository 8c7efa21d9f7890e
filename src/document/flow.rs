//! The flow of a connector's events, drawn: what pushes and what is polled, the streams, and where
//! they lead. Plain SVG with integer coordinates, so that it is the same wherever it is made.

use std::fmt::Write as _;

/// What is drawn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// The connector.
    pub connector: String,
    /// One a stream.
    pub lanes: Vec<Lane>,
    /// Where streams lead.
    pub destinations: Vec<Stop>,
    /// The file that the picture lies in, beside a page that lies in one, too.
    pub file: Option<String>,
}

/// A stream with what feeds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// What feeds it.
    pub inputs: Vec<Stop>,
    /// The stream.
    pub stream: Stop,
    /// Indexes of its destinations.
    pub to: Vec<usize>,
}

/// A box.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// What it is: `webhook`, `poll`, `stream`, `http`. Also its class in the picture.
    pub kind: &'static str,
    /// What the kind needs to be understood: `every 5 min`.
    pub detail: String,
    /// Its name.
    pub name: String,
    /// What else is worth seeing.
    pub note: String,
}

const BOX_WIDTH: usize = 250;
const BOX_HEIGHT: usize = 66;
const GAP_X: usize = 80;
const GAP_Y: usize = 14;
const LANE_GAP: usize = 30;
const MARGIN: usize = 8;
/// Characters that fit into a box, of its name and of the smaller lines.
const NAME_CHARS: usize = 29;
const NOTE_CHARS: usize = 38;

/// The picture's colours, for a file of its own.
const STYLE: &str = include_str!("flow.css");

impl Flow {
    /// What the picture shows, in a line.
    pub fn title(&self) -> String {
        format!("The flow of {}", self.connector)
    }

    /// The same in words: a line for each way in.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for lane in &self.lanes {
            let to: Vec<&str> = lane
                .to
                .iter()
                .filter_map(|at| Some(self.destinations.get(*at)?.name.as_str()))
                .collect();
            let to =
                if to.is_empty() { "(an instance says where)".to_owned() } else { to.join(", ") };
            for input in &lane.inputs {
                let detail = if input.detail.is_empty() {
                    String::new()
                } else {
                    format!(", {}", input.detail)
                };
                let _ = writeln!(
                    text,
                    "{} {}{detail} → {} → {to}",
                    input.kind, input.name, lane.stream.name
                );
            }
        }
        text
    }

    /// A file of its own, with its colours.
    pub fn svg_file(&self) -> String {
        let mut out = String::new();
        self.draw(&mut out, "flow", Some(STYLE));
        out
    }

    /// To be put into a page that has the colours; `id` is unique there.
    pub fn svg(&self, id: &str) -> String {
        let mut out = String::new();
        self.draw(&mut out, id, None);
        out
    }

    fn draw(&self, out: &mut String, id: &str, style: Option<&str>) {
        let lanes: Vec<(usize, usize)> = self.lane_spans();
        let lanes_height = lanes.last().map_or(0, |(top, height)| top + height);
        let stops = self.destinations.len();
        let stops_height = stops * BOX_HEIGHT + stops.saturating_sub(1) * LANE_GAP;
        let height = lanes_height.max(stops_height).max(BOX_HEIGHT) + 2 * MARGIN;
        let width = 3 * BOX_WIDTH + 2 * GAP_X + 2 * MARGIN;
        let _ = write!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"flow\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\">\n\
             <title id=\"{id}-t\">{}</title>\n<desc id=\"{id}-d\">{}</desc>\n",
            escape(&self.title()),
            escape(self.text().trim_end()),
        );
        if let Some(style) = style {
            let _ = write!(out, "<style>\n{style}</style>\n");
        }
        let column = |at: usize| MARGIN + at * (BOX_WIDTH + GAP_X);
        let lanes_top = MARGIN + (height - 2 * MARGIN - lanes_height) / 2;
        let stops_top = MARGIN + (height - 2 * MARGIN - stops_height) / 2;
        let stop_y = |at: usize| stops_top + at * (BOX_HEIGHT + LANE_GAP);
        for (lane, (top, lane_height)) in self.lanes.iter().zip(&lanes) {
            let top = lanes_top + top;
            let stream_y = top + (lane_height - BOX_HEIGHT) / 2;
            let inputs = lane.inputs.len();
            let inputs_height = inputs * BOX_HEIGHT + inputs.saturating_sub(1) * GAP_Y;
            let inputs_top = top + (lane_height - inputs_height) / 2;
            for (at, input) in lane.inputs.iter().enumerate() {
                let y = inputs_top + at * (BOX_HEIGHT + GAP_Y);
                edge(out, input.kind, column(0), y, column(1), stream_y);
                stop(out, input, column(0), y);
            }
            for to in &lane.to {
                edge(out, "deliver", column(1), stream_y, column(2), stop_y(*to));
            }
            stop(out, &lane.stream, column(1), stream_y);
        }
        for (at, destination) in self.destinations.iter().enumerate() {
            stop(out, destination, column(2), stop_y(at));
        }
        out.push_str("</svg>\n");
    }

    /// Where each lane begins, and how high it is.
    fn lane_spans(&self) -> Vec<(usize, usize)> {
        let mut top = 0;
        let mut spans = Vec::new();
        for lane in &self.lanes {
            let boxes = lane.inputs.len().max(1);
            let height = boxes * BOX_HEIGHT + (boxes - 1) * GAP_Y;
            spans.push((top, height));
            top += height + LANE_GAP;
        }
        spans
    }
}

fn stop(out: &mut String, stop: &Stop, x: usize, y: usize) {
    let kicker = match stop.detail.as_str() {
        "" => stop.kind.to_owned(),
        detail => format!("{} · {detail}", stop.kind),
    };
    let whole = [kicker.as_str(), &stop.name, &stop.note].join("\n");
    let (kind, left) = (stop.kind, x + 12);
    let _ = writeln!(
        out,
        "<g class=\"stop {kind}\"><title>{}</title>\
         <rect x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"8\"/>\
         <text class=\"kind\" x=\"{left}\" y=\"{}\">{}</text>\
         <text class=\"name\" x=\"{left}\" y=\"{}\">{}</text>\
         <text class=\"note\" x=\"{left}\" y=\"{}\">{}</text></g>",
        escape(whole.trim_end()),
        y + 18,
        escape(&cut(&kicker, NOTE_CHARS)),
        y + 38,
        escape(&cut(&stop.name, NAME_CHARS)),
        y + 56,
        escape(&cut(&stop.note, NOTE_CHARS)),
    );
}

/// From the right side of one box to the left side of another, with an arrow's head.
fn edge(out: &mut String, kind: &str, from_x: usize, from_y: usize, to_x: usize, to_y: usize) {
    let (x1, y1) = (from_x + BOX_WIDTH, from_y + BOX_HEIGHT / 2);
    let (x2, y2) = (to_x - 7, to_y + BOX_HEIGHT / 2);
    let middle = usize::midpoint(x1, x2);
    let _ = writeln!(
        out,
        "<path class=\"edge {kind}\" d=\"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}\"/>\
         <path class=\"head\" d=\"M{} {y2}l-8 -5v10z\"/>",
        x2 + 7,
    );
}

fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars().take(chars - 1).chain(['…']).collect()
}

/// Text for XML and HTML, also within attributes. Characters that XML does not have become blanks.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' => out.push('\n'),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_holds_no_markup_and_not_too_much() {
        let mut out = String::new();
        let name = "<script>alert('a')</script> and much more of it";
        let one = Stop {
            kind: "http",
            detail: String::new(),
            name: name.to_owned(),
            note: "a&b".to_owned(),
        };
        stop(&mut out, &one, 0, 0);
        assert!(!out.contains("<script"), "{out}");
        assert!(out.contains(">&lt;script&gt;alert(&#39;a&#39;)&lt;/script&gt; …</text>"), "{out}");
        assert!(out.contains(">a&amp;b</text>"), "{out}");
    }
}
