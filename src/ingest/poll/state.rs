//! What walking a source has left behind, for people: shown, rewound, exported, imported.
//!
//! It covers cursors and partitions (`cursor/`), runs over partitions (`fanout/`), jobs that are waited for
//! (`job/`), remembered parents (`parent/`) and when a poll last ran (`poll/`), each under `area/connector/stream`, perhaps with
//! more. Credentials and claims are not among them. Nothing here writes: a change is a list of keys
//! and values, which whoever holds the polls still makes durable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bus::{Bus, StateWrites};

use super::{
    cursor::{CursorValue, written_time},
    stored::{Stored, cursor_key, cursor_text, partition_key},
    waiting::job_key,
};

/// The version of an export.
const VERSION: u8 = 1;
const AREAS: [&str; 5] = ["cursor", "fanout", "job", "parent", "poll"];

/// What is remembered of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// The connector's name.
    pub connector: String,
    /// The stream's name.
    pub stream: String,
    /// Where its cursor stands; with partitions none.
    pub cursor: Option<String>,
    /// How many partitions have a cursor.
    pub partitions: u64,
    /// The partition that stands furthest back, and where.
    pub furthest_back: Option<(String, String)>,
    /// Why its state cannot be read.
    pub problem: Option<String>,
    /// Records that are remembered for streams that are read per record of this one.
    pub parents: u64,
    /// Bytes of all that.
    pub bytes: u64,
}

/// All that is remembered of a connector or of one of its streams, to be imported elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateExport {
    /// The version of this format.
    pub tenon_state: u8,
    /// The connector's name.
    pub connector: String,
    /// By key: `cursor/orders`, `cursor/orders/eu`, …
    pub entries: BTreeMap<String, Value>,
}

impl StateExport {
    /// The same without entries: the beginning of one of several parts.
    pub fn clone_without_entries(&self) -> Self {
        let connector = self.connector.clone();
        Self { tenon_state: self.tenon_state, connector, entries: BTreeMap::new() }
    }
}

/// Where a cursor is set to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewindTo {
    /// A value: a time (RFC 3339 or a date), a number, a text, as the cursor is.
    Value(String),
    /// Where the connector file says to start.
    Start,
}

/// Which cursors are set, and to what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewind {
    /// The connector's name.
    pub connector: String,
    /// The stream's name.
    pub stream: String,
    /// Only this partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// Where to.
    pub to: RewindTo,
    /// Whether cursors may move on, which leaves records unread.
    #[serde(default)]
    pub forward: bool,
}

/// What a rewind does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewound {
    /// How many cursors moved.
    pub moved: u64,
    /// How many stood there, or further back, already.
    pub left: u64,
    /// Where the first that moved stood before.
    pub before: Option<String>,
    /// Where it stands now; `None`: at its start.
    pub now: Option<String>,
}

/// `area/connector/stream/rest` as area, connector, stream and what follows the stream's slash.
fn parts(key: &str) -> Option<(&str, &str, &str, Option<&str>)> {
    let mut parts = key.splitn(4, '/');
    Some((parts.next()?, parts.next()?, parts.next()?, parts.next()))
}

fn each_key(
    bus: &dyn Bus,
    connector: Option<&str>,
    stream: Option<&str>,
    mut visit: impl FnMut(&str, &[u8]),
) {
    for area in AREAS {
        let prefix = match connector {
            Some(connector) => format!("{area}/{connector}/"),
            None => format!("{area}/"),
        };
        for (key, value) in bus.state_under(&prefix) {
            let is_wanted =
                parts(&key).is_some_and(|(_, _, own, _)| stream.is_none_or(|stream| stream == own));
            if is_wanted {
                visit(&key, &value);
            }
        }
    }
}

/// What is remembered, by connector and stream.
pub fn states(bus: &dyn Bus, connector: Option<&str>, stream: Option<&str>) -> Vec<StreamState> {
    let mut all: BTreeMap<(String, String), (StreamState, Option<CursorValue>)> = BTreeMap::new();
    each_key(bus, connector, stream, |key, value| {
        let Some((area, connector, stream, rest)) = parts(key) else { return };
        let names = (connector.to_owned(), stream.to_owned());
        let (state, furthest) = all.entry(names).or_default();
        connector.clone_into(&mut state.connector);
        stream.clone_into(&mut state.stream);
        state.bytes += value.len() as u64;
        match (area, rest) {
            ("parent", _) => state.parents += 1,
            ("cursor", rest) => cursor_of(state, furthest, rest, value),
            _ => {}
        }
    });
    all.into_values().map(|(state, _)| state).collect()
}

fn cursor_of(
    state: &mut StreamState,
    furthest: &mut Option<CursorValue>,
    partition: Option<&str>,
    value: &[u8],
) {
    let stored = match Stored::decode(value) {
        Ok(stored) => stored,
        Err(problem) => {
            state.problem.get_or_insert_with(|| problem.to_string());
            return;
        }
    };
    let Some(partition) = partition else {
        state.cursor = stored.cursor.map(|cursor| cursor.text());
        return;
    };
    state.partitions += 1;
    if let Some(cursor) = stored.cursor
        && furthest.as_ref().is_none_or(|furthest| cursor < *furthest)
    {
        state.furthest_back = Some((partition.to_owned(), cursor.text()));
        *furthest = Some(cursor);
    }
}

/// All that is remembered. Errors: nothing is.
pub fn export(bus: &dyn Bus, connector: &str, stream: Option<&str>) -> Result<StateExport, String> {
    let mut entries = BTreeMap::new();
    let mut damaged = None;
    each_key(bus, Some(connector), stream, |key, value| {
        let Some((area, _, stream, rest)) = parts(key) else { return };
        let rest = rest.map(|rest| format!("/{rest}")).unwrap_or_default();
        match serde_json::from_slice(value) {
            Ok(value) => drop(entries.insert(format!("{area}/{stream}{rest}"), value)),
            Err(_) => damaged = Some(key.to_owned()),
        }
    });
    if let Some(key) = damaged {
        return Err(format!("the state under `{key}` is damaged; `tenon doctor` looks closer"));
    }
    if entries.is_empty() {
        let name = stream.map_or_else(|| connector.to_owned(), |s| format!("{connector}/{s}"));
        return Err(format!("nothing is remembered of `{name}`"));
    }
    Ok(StateExport { tenon_state: VERSION, connector: connector.to_owned(), entries })
}

/// What an import writes. Errors: it is no export, or it would replace what is there and may not.
pub fn import(bus: &dyn Bus, export: &StateExport, replace: bool) -> Result<StateWrites, String> {
    if export.tenon_state != VERSION {
        return Err(format!(
            "this is an export of version {}, this Tenon knows {VERSION}",
            export.tenon_state
        ));
    }
    if export.connector.is_empty() || export.connector.contains('/') {
        return Err(format!("`{}` is no connector's name", export.connector));
    }
    let (mut writes, mut known) = (Vec::new(), 0);
    for (key, value) in &export.entries {
        let Some((area, rest)) = key.split_once('/').filter(|(area, _)| AREAS.contains(area))
        else {
            return Err(format!("`{key}` is no key of an export"));
        };
        let key = format!("{area}/{}/{rest}", export.connector);
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        if area == "cursor" && cursor_text(&bytes).is_err() {
            return Err(format!("`{area}/{rest}` holds no cursor that this Tenon can read"));
        }
        match bus.state(&key) {
            Some(there) if there == bytes => continue,
            Some(_) => known += 1,
            None => {}
        }
        writes.push((key, Some(bytes)));
    }
    if known > 0 && !replace {
        return Err(format!(
            "{known} of {} entries would replace what is there: --replace does so",
            export.entries.len()
        ));
    }
    Ok(writes)
}

/// What a rewind writes. Errors: there is nothing to rewind, or it would leave records unread.
pub fn rewind(bus: &dyn Bus, wanted: &Rewind) -> Result<(StateWrites, Rewound), String> {
    let Rewind { connector, stream, partition, to, forward } = wanted;
    let mut keys = Vec::new();
    if let Some(partition) = partition {
        let key = partition_key(connector, stream, partition);
        keys.extend(bus.state(&key).map(|value| (key, value)));
    } else {
        let own = cursor_key(connector, stream);
        keys.extend(bus.state(&own).map(|value| (own.clone(), value)));
        keys.extend(bus.state_under(&format!("{own}/")));
    }
    let stream_name = format!("`{connector}/{stream}`");
    let name = partition.as_ref().map_or_else(
        || stream_name.clone(),
        |partition| format!("partition `{partition}` of {stream_name}"),
    );
    if keys.is_empty() {
        return Err(format!("{name} has no cursor yet: it begins at its start"));
    }
    let (mut writes, mut rewound) = (Vec::new(), Rewound::default());
    for (key, value) in keys {
        let stored = Stored::decode(&value).map_err(|problem| format!("`{key}`: {problem}"))?;
        let target = match (to, &stored.cursor) {
            (RewindTo::Start, _) => None,
            (RewindTo::Value(_), None) => {
                rewound.left += 1;
                continue;
            }
            (RewindTo::Value(text), Some(cursor)) => Some(same_kind(text, cursor)?),
        };
        match (&target, &stored.cursor) {
            (Some(target), Some(cursor)) if target == cursor => {
                rewound.left += 1;
                continue;
            }
            (Some(target), Some(cursor)) if target > cursor && !forward => {
                // Of many partitions those that stand further back are left alone.
                if partition.is_none() && key != cursor_key(connector, stream) {
                    rewound.left += 1;
                    continue;
                }
                return Err(format!(
                    "the cursor stands at {}, before {}: what lies between would not be read \
                     (--forward does so)",
                    cursor.text(),
                    target.text()
                ));
            }
            _ => {}
        }
        if rewound.moved == 0 {
            rewound.before = stored.cursor.as_ref().map(CursorValue::text);
            rewound.now = target.as_ref().map(CursorValue::text);
        }
        rewound.moved += 1;
        // A job that is waited for was created for what lay ahead of the cursor before.
        writes.push((job_key(&key), None));
        let value = target.map(|at| Stored { cursor: Some(at), ..Stored::default() }.encode());
        writes.push((key, value));
    }
    // A run over partitions that is under way would go on behind those that it has read.
    writes.push((format!("fanout/{connector}/{stream}"), None));
    Ok((writes, rewound))
}

/// A value as a person writes it, of the kind that a cursor is.
fn same_kind(text: &str, cursor: &CursorValue) -> Result<CursorValue, String> {
    let (value, what) = match cursor {
        CursorValue::Instant(_) => {
            (written_time(text).map(CursorValue::Instant), "a time: RFC 3339 or a date")
        }
        CursorValue::Integer(_) => (text.parse().ok().map(CursorValue::Integer), "a whole number"),
        CursorValue::Text(_) => (Some(CursorValue::Text(text.to_owned())), "a text"),
    };
    value.ok_or_else(|| {
        format!(
            "`{text}` is no value of this cursor, which stands at {}: expected {what}",
            cursor.text()
        )
    })
}
