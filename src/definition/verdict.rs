//! `on` of a destination: rules which say what an answer means where the defaults do not.

use super::{
    collections::OneOrMany,
    kinds::{Expression, Int, Name},
    on::StatusDef,
    table::{choice, table},
};

table! {
    /// What a destination's answer means. The first rule that fits decides.
    pub struct VerdictDef "a rule of a destination's `on`" {
        /// The statuses that it is for: a number, a class such as `4xx`, or a list of such.
        status "status": OneOrMany<StatusDef>;
        /// Which answers it is for. A missing value is null.
        when "when": Expression;
        /// What becomes of the event then.
        then "then": ThenDef, required;
        /// `retry`: how often it is attempted again; as often as `[retry]` says, unless that is fewer.
        times "times": Int<0, 1000>;
        /// `retry`: what becomes of it when that did not help; `dead` unless said.
        otherwise "else": ElseDef;
        /// `wait`: how long: `30s`, or an expression that gives seconds.
        wait_for "for": Expression;
        /// `wait`: until when: an expression that gives seconds since 1970, or a time.
        wait_until "until": Expression;
        /// What is logged, and stands in the dead letter, for a person.
        message "message": Expression;
        /// `dead`, and what ends as such: the dead letter's reason, a word to tell them apart by.
        reason "reason": Name;
    }
}

choice! {
    /// What a rule makes of an event.
    pub enum ThenDef {
        /// The destination has it.
        Delivered "delivered",
        /// It is attempted again, later and later; the attempt counts.
        Retry "retry",
        /// It is attempted again after the time that the destination asks for; that counts as no attempt.
        Wait "wait",
        /// The destination is parked until a person has looked; nothing is dropped.
        Hold "hold",
        /// A dead letter.
        Dead "dead",
        /// The destination has a newer state of the thing.
        Superseded "superseded",
        /// The credentials are renewed once and the request is sent again; then as `hold`.
        Reauth "reauth",
    }
}

choice! {
    /// What a rule makes of an event that trying again did not help.
    pub enum ElseDef {
        /// As `then = "delivered"`.
        Delivered "delivered",
        /// As `then = "hold"`.
        Hold "hold",
        /// As `then = "dead"`.
        Dead "dead",
        /// As `then = "superseded"`.
        Superseded "superseded",
    }
}
