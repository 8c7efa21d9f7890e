//! `event` as templates see it.

use std::sync::Arc;

use minijinja::{
    Value,
    value::{Enumerator, Object},
};

use crate::event::Event;

/// The members of `event`, in the order in which the whole of it is printed.
const MEMBERS: &[&str] = &["id", "key", "revision", "tenant", "received_at", "stream", "delete"];

/// Makes each member only when it is asked for, so that binding `event` costs next to nothing.
#[derive(Debug)]
struct EventView(Arc<Event>);

/// `event` for an environment: `id key revision tenant received_at stream delete`. The tenant is
/// none where there is none; `received_at` is RFC 3339.
pub(super) fn event_view(event: &Arc<Event>) -> Value {
    Value::from_object(EventView(event.clone()))
}

impl Object for EventView {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        let event = &self.0;
        Some(match key.as_str()? {
            "id" => Value::from(event.id.to_string()),
            "key" => Value::from(event.key.as_str()),
            "revision" => Value::from(event.revision.as_str()),
            "tenant" => Value::from(event.tenant.as_deref()),
            "received_at" => Value::from(event.received_at.rfc3339()),
            "stream" => Value::from(&*event.stream),
            "delete" => Value::from(event.delete),
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(MEMBERS)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::event_view;
    use crate::deliver::prepare::tests::event;

    #[test]
    fn all_members_are_there_and_no_other() {
        let view = event_view(&Arc::new(event(br#"{"a":1}"#)));
        insta::assert_snapshot!(serde_json::to_string(&view).unwrap(), @r#"{"id":"evt_xrwv4h3rbqjut7yc5sj27bltcy","key":"1001","revision":"7","tenant":null,"received_at":"2026-11-18T11:06:40.000Z","stream":"orders","delete":false}"#);
        assert!(view.get_attr("record").unwrap().is_undefined());
    }
}
