//! Objects: fields that come, go, or are required, and what stands besides them.

use super::{Breaks, Class, Comparison, Place, node::Node};

/// What an object takes besides its listed fields.
enum Rest<'v> {
    /// Anything.
    Open,
    /// Nothing.
    Closed,
    /// What satisfies this.
    Schema(Node<'v>),
}

impl<'v> Rest<'v> {
    fn of(node: &Node<'v>) -> Self {
        match node.child("additionalProperties") {
            None => Self::Open,
            Some(rest) if rest.is_never() => Self::Closed,
            Some(rest) if rest.takes_anything() => Self::Open,
            Some(rest) => Self::Schema(rest),
        }
    }
}

impl<'v> Comparison<'v> {
    pub(super) fn objects(&mut self, old: &Node<'v>, new: &Node<'v>, field: &str) {
        if old.is_tangled() || new.is_tangled() {
            return self.tangled(old, new, field);
        }
        let rest = (Rest::of(old), Rest::of(new));
        let (was_required, is_required) = (old.required(), new.required());
        for name in old.properties() {
            let inside = join(field, name);
            let Some(before) = old.property(name) else { continue };
            match new.property(name) {
                Some(after) => self.nodes(&before, &after, &inside),
                None => self.removed(&before, &rest.1, &inside, was_required.contains(name)),
            }
        }
        for name in new.properties() {
            if let (None, Some(after)) = (old.property(name), new.property(name)) {
                self.added(&after, &rest.0, &join(field, name), is_required.contains(name));
            }
        }
        let place = |node: &Node<'_>| node.place_of(&["required"]);
        for name in is_required.difference(&was_required) {
            // A new field that is required has been told.
            if old.property(name).is_some() || new.property(name).is_none() {
                let why = "a record without it is refused";
                let place = Place::new(place(new).unwrap_or_default());
                self.breaking(place, &join(field, name), "required now", Breaks::producers(why));
            }
        }
        for name in was_required.difference(&is_required) {
            // So has one that is gone.
            if new.property(name).is_some() || old.property(name).is_none() {
                let place = place(new)
                    .map_or_else(|| Place::old(place(old).unwrap_or_default()), Place::new);
                let breaks = Breaks::consumers("it may be missing");
                self.breaking(place, &join(field, name), "no longer required", breaks);
            }
        }
        self.rest(&rest.0, &rest.1, old, new, field);
    }

    /// Parts that refuse each other's fields are the same, or cannot be compared.
    fn tangled(&mut self, old: &Node<'v>, new: &Node<'v>, field: &str) {
        if old.expanded_whole(self.old) != new.expanded_whole(self.new) {
            let what = "parts that refuse each other's fields have changed";
            let breaks = Breaks::both("whether they take more or less cannot be told");
            self.breaking(Place::new(new.pointer()), field, what, breaks);
        }
    }

    fn removed(&mut self, before: &Node<'v>, rest: &Rest<'v>, field: &str, was_required: bool) {
        let place = Place::old(before.pointer());
        let gone = if was_required { "it was always there, and is gone" } else { "it is gone" };
        let breaks = match rest {
            Rest::Closed => Breaks {
                producers: Some("a record that has it is refused".to_owned()),
                consumers: Some(gone.to_owned()),
            },
            Rest::Open => Breaks::consumers("nothing says any more what stands there"),
            Rest::Schema(_) => Breaks::both("what may stand there is something else"),
        };
        self.breaking(place, field, "removed", breaks);
    }

    fn added(&mut self, after: &Node<'v>, rest: &Rest<'v>, field: &str, is_required: bool) {
        let place = Place::new(after.pointer());
        if let Rest::Schema(before) = rest {
            self.nodes(before, after, field);
        }
        if is_required {
            let why = "they have to provide it";
            return self.breaking(place, field, "added, required", Breaks::producers(why));
        }
        let what = match rest {
            // Who wrote it before did so without a promise.
            Rest::Open => "added, optional; until now anything could stand there",
            Rest::Closed => "added, optional",
            Rest::Schema(_) => return,
        };
        self.harmless(Class::Additive, place, field, what);
    }

    fn rest(
        &mut self,
        before: &Rest<'v>,
        after: &Rest<'v>,
        old: &Node<'v>,
        new: &Node<'v>,
        field: &str,
    ) {
        const KEYWORD: &[&str] = &["additionalProperties"];
        let place = match new.place_of(KEYWORD) {
            Some(pointer) => Place::new(pointer),
            None => Place::old(old.place_of(KEYWORD).unwrap_or_default()),
        };
        match (before, after) {
            (Rest::Open, Rest::Open) | (Rest::Closed, Rest::Closed) => {}
            (Rest::Schema(before), Rest::Schema(after)) => {
                self.nodes(before, after, &join(field, "*"));
            }
            (_, Rest::Closed) => {
                let breaks =
                    Breaks::producers("a record with a field that is not listed is refused");
                self.breaking(place, field, "only listed fields are allowed now", breaks);
            }
            (Rest::Open, Rest::Schema(_)) => {
                let breaks =
                    Breaks::producers("a record with an unlisted field of another kind is refused");
                self.breaking(place, field, "says what unlisted fields are", breaks);
            }
            (Rest::Schema(_), Rest::Open) => {
                let breaks = Breaks::consumers("unlisted fields may be anything");
                self.breaking(place, field, "no longer says what unlisted fields are", breaks);
            }
            (Rest::Closed, _) => {
                let what = "fields that are not listed are allowed now";
                self.harmless(Class::Additive, place, field, what);
            }
        }
    }
}

fn join(field: &str, name: &str) -> String {
    if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") }
}
