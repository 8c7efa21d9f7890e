//! `on`: response rules, which say what an answer means where the defaults do not.

use toml::de::DeValue;

use super::{
    collections::OneOrMany,
    kinds::{Expression, Int},
    table::{Finding, Kind, Node, Reader, Shape, choice, table},
};
use crate::diagnostic::codes;

table! {
    /// What an answer means. The first rule that fits decides.
    pub struct RuleDef "a rule of `on`" {
        /// The statuses that it is for: a number, a class such as `4xx`, or a list of such.
        status "status": OneOrMany<StatusDef>;
        /// Which answers it is for. A missing value is null.
        when "when": Expression;
        /// What happens then.
        then "then": ThenDef, required;
        /// `retry`: how often the request is sent again.
        times "times": Int<1, 20> = "3";
        /// `retry`: what happens when that did not help. Without it the run ends, and comes back later.
        otherwise "else": ElseDef;
        /// `wait`: how long: `30s`, or an expression that gives seconds.
        wait_for "for": Expression;
        /// `wait`: until when: an expression that gives seconds since 1970, or a time.
        wait_until "until": Expression;
        /// What is logged, for a person.
        message "message": Expression;
    }
}

choice! {
    /// What a rule does.
    pub enum ThenDef {
        /// The request is sent again, a few times, later and later.
        Retry "retry",
        /// The request is sent again after the time that the API asks for; that is not counted as a failure.
        Wait "wait",
        /// The request counts as an empty last page: its records are given up, counted and logged, and the cursor moves on.
        Skip "skip",
        /// The run ends well here; what was read before stays.
        Stop "stop",
        /// The run ends as a failure; the cursor stays.
        Fail "fail",
        /// The credentials are renewed once and the request is sent again; then as `hold`.
        Reauth "reauth",
        /// The window is read again from its first page.
        Restart "restart",
        /// The poll is parked until a person has looked.
        Hold "hold",
    }
}

choice! {
    /// What a rule does when trying again did not help.
    pub enum ElseDef {
        /// As `then = "skip"`.
        Skip "skip",
        /// As `then = "stop"`.
        Stop "stop",
        /// As `then = "fail"`.
        Fail "fail",
        /// As `then = "hold"`.
        Hold "hold",
    }
}

/// Statuses from `from` to `to`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusDef {
    /// The lowest.
    pub from: u16,
    /// The highest.
    pub to: u16,
}

const LOWEST: i64 = 100;
const HIGHEST: i64 = 599;

impl Kind for StatusDef {
    const SHAPE: Shape =
        Shape::Either(&Shape::Integer { min: LOWEST, max: HIGHEST }, &Shape::Plain);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let text = match node.get_ref() {
            DeValue::Integer(_) => {
                let status = Int::<LOWEST, HIGHEST>::read(node, reader)?;
                let status = u16::try_from(status.0).ok()?;
                return Some(Self { from: status, to: status });
            }
            DeValue::String(text) => text,
            _ => {
                reader.wrong_type(node, &Self::SHAPE);
                return None;
            }
        };
        if let [class @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] = text.as_bytes() {
            let from = u16::from(class - b'0') * 100;
            return Some(Self { from, to: from + 99 });
        }
        let help = match text.parse::<u16>() {
            Ok(status) => format!("numbers stand without quotes: {status}"),
            Err(_) => "write a number such as 404, a class such as \"4xx\", or a list of such: \
                       [404, \"5xx\"]"
                .to_owned(),
        };
        let message = format!("`{}` is not a status", text.escape_debug());
        let at = reader.loc(node.span());
        let finding = Finding::new(codes::BAD_RULE, at, message, "expected a number, or \"4xx\"");
        reader.report(finding.help(help));
        None
    }
}
