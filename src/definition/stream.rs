//! `[stream.NAME]`: one kind of event, one supervised pipeline.

use super::{
    collections::{Fields, Named, OneOrMany, Pairs, Scalar},
    kinds::{Expression, Lifetime, Plain},
    poll::PollDef,
    schedule::ScheduleDef,
    table::{At, table},
    webhook::WebhookDef,
};

table! {
    /// One kind of event: one supervised pipeline.
    pub struct StreamDef "[stream.NAME]" {
        /// A sibling stream that this one is a copy of, key by key; the keys that are written here say what differs.
        like "like": Plain;
        /// Variables of this stream alone, besides the file's.
        vars "vars": Named<Scalar>;
        /// Which thing an event is about. Without it the record's hash stands in.
        key "key": OneOrMany<Expression>;
        /// Which state of it: key and revision together are the event, once.
        revision "revision": Expression;
        /// Whose budget the event spends.
        tenant "tenant": Expression;
        /// Which records become events.
        when "when": Expression;
        /// Which records say that the thing is gone.
        delete "delete": Expression;
        /// What `map` and replays see besides the record, evaluated when the event comes in.
        with "with": Pairs<Expression>;
        /// How long a claim is remembered.
        dedupe "dedupe": Lifetime = "\"7d\"";
        /// A canonical schema that the mapped record must satisfy: `schemas/NAME.json`, or a built-in one.
        schema "schema": Plain;
        /// Fields that are masked in logs and views, besides those that the schema marks.
        redact "redact": Vec<At<Plain>>;
        /// Destinations. May be left out where there is one.
        to "to": OneOrMany<Plain>;
        /// An endpoint that the producer posts to.
        webhook "webhook": WebhookDef;
        /// A request that is repeated.
        poll "poll": PollDef;
        /// When this stream's poll runs.
        schedule "schedule": ScheduleDef;
        /// The record as the destination gets it: one line a field. Without it: as it came.
        map "map": Fields;
    }
}
