//! The table of what can change: each kind of change, its class, whom it concerns, and why.
//!
//! `docs/reviewing.md` prints this table; a test holds the two together, another one shows an edit for
//! every row.

use std::fmt;

use crate::model::Class;

/// Whom a change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Those who get the events.
    Consumers,
    /// Those who send webhooks.
    Producers,
    /// Those who run the connector.
    Operators,
}

impl Whom {
    /// The word for them.
    pub fn word(self) -> &'static str {
        match self {
            Self::Consumers => "consumers",
            Self::Producers => "producers",
            Self::Operators => "operators",
        }
    }
}

/// A kind of change.
#[derive(Debug)]
pub struct RuleInfo {
    /// Stable: `key`, `field.type`.
    pub id: &'static str,
    /// Its class, whatever else changes.
    pub class: Class,
    /// Whom it concerns.
    pub whom: Whom,
    /// What changed.
    pub what: &'static str,
    /// Why it has this class.
    pub why: &'static str,
}

/// A row of the table.
#[derive(Clone, Copy)]
pub struct Rule(pub(super) &'static RuleInfo);

impl Rule {
    /// The row.
    pub fn info(self) -> &'static RuleInfo {
        self.0
    }

    /// Its class.
    pub fn class(self) -> Class {
        self.0.class
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Rule {}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.id)
    }
}

macro_rules! rules {
    ($($name:ident $id:literal $class:ident $whom:ident $what:literal, $why:literal;)*) => {
        $(#[doc = $what] pub(super) const $name: Rule = Rule(&RuleInfo {
            id: $id,
            class: Class::$class,
            whom: Whom::$whom,
            what: $what,
            why: $why,
        });)*

        /// Every kind of change, by what it is about.
        pub const RULES: &[Rule] = &[$($name,)*];
    };
}

rules! {
    // The connector as a whole.
    CONNECTOR_ADDED "connector.added" Additive Consumers "a connector is new",
        "nothing relied on it";
    CONNECTOR_REMOVED "connector.removed" Breaking Consumers "a connector is gone",
        "its events stop; what it had not delivered waits under its name";
    CONNECTOR_RENAMED "connector.renamed" Breaking Consumers "a connector has another name",
        "state is kept under the name: cursors begin at their start, claims and rotated tokens are left behind, events get new ids";
    MOVED "moved" Cosmetic Operators "the file lies elsewhere",
        "the name is the identity, not the path";
    TEXT "text" Cosmetic Operators "comments, blanks, order or form of the text",
        "it compiles to the same plan; not even a reload takes notice";
    WORDING "wording" Cosmetic Operators "something is written otherwise and does the same",
        "a reload replaces the connector, and nothing else is to be seen";
    VERSION "version" Cosmetic Operators "`version`",
        "it follows from the other changes; the gate compares it with them";
    ABOUT "about" Cosmetic Operators "`summary`, `owner` or `docs`",
        "for people; no event takes another way";
    CHANGELOG "changelog" Cosmetic Consumers "`[[change]]`",
        "it tells of changes and makes none";
    TESTS "tests" Cosmetic Operators "`[[test]]`",
        "tests are not run in production";
    INSTANCE_TENANT "tenant.instance" Operational Operators "the instance's `tenant`",
        "events spend another budget and count for another tenant from now on";
    LINTS "lints" Cosmetic Operators "`[lints]`",
        "it decides what `tenon check` says";
    // Variables and secrets.
    VAR_REQUIRED "var.required" Breaking Operators "a variable without default is new, or its default is gone",
        "every instance has to give it and does not load until it does";
    VAR_ADDED "var.added" Additive Operators "a variable with a default is new",
        "instances may give it";
    VAR_REMOVED "var.removed" Breaking Operators "a variable is gone",
        "an instance that gives it does not load";
    VAR_RENAMED "var.renamed" Breaking Operators "a variable has another name",
        "an instance that gives it by the old name does not load";
    VAR_NARROWED "var.narrowed" Breaking Operators "`one_of` allows less",
        "an instance that gives what is no longer allowed does not load";
    VAR_WIDENED "var.widened" Additive Operators "`one_of` allows more, or a default is new",
        "whatever was given is still allowed";
    VAR_VALUE "var.value" Operational Operators "a variable's value that nothing compared here shows",
        "what uses it is told where it is used";
    VAR_TEXT "var.text" Cosmetic Operators "a variable's `doc` or `example`",
        "for people";
    SECRET_ADDED "secret.added" Breaking Operators "a secret is newly needed",
        "the connector does not start until it is set";
    SECRET_REMOVED "secret.removed" Operational Operators "a secret is no longer needed",
        "it can be deleted once this runs";
    SECRET_RENAMED "secret.renamed" Breaking Operators "a secret is looked up under another name",
        "the connector does not start until it is set under that name";
    HOST_ADDED "host.added" Operational Operators "a host is newly reached",
        "firewalls and `--allow-egress` may have to let it through, and it sees what is sent there";
    SLO "slo" Operational Consumers "`[slo]`",
        "alerts and error budgets follow it; no event takes another way";
    ROLLOUT_OFF "rollout.off" Breaking Consumers "a connector no longer runs by itself",
        "its events stop; what it had not delivered waits under its name";
    ROLLOUT_ON "rollout.on" Additive Consumers "a connector runs by itself",
        "events come that did not";
    ROLLOUT_VARIANT "rollout.variant" Operational Operators "how a shadow or a canary is tried",
        "its original goes on; a canary's keys have the same ids and idempotency keys on either side";
    // Auth.
    AUTH_ADDED "auth.added" Operational Operators "credentials are newly defined",
        "they are used where something names them; secrets that they need are told apart";
    AUTH_REMOVED "auth.removed" Operational Operators "credentials are gone",
        "nothing names them any more";
    AUTH_RENAMED "auth.renamed" Cosmetic Operators "credentials have another name",
        "requests carry the same";
    AUTH_LOGIN "auth.login" Breaking Operators "credentials with a refresh token have another name or grant",
        "the rotated token is kept under connector and name: the configured one is used again, which the provider may have retired";
    AUTH_TYPE "auth.type" Operational Operators "how requests carry credentials",
        "the peer has to take it; a 401 parks the destination or poll and loses nothing";
    AUTH_SETTING "auth.setting" Operational Operators "a setting of credentials",
        "the peer has to take it; a 401 parks the destination or poll and loses nothing";
    SCOPES_ADDED "auth.scopes_added" Breaking Operators "a token asks for more scopes",
        "the client has to be granted them first, or no token is given";
    SCOPES_REMOVED "auth.scopes_removed" Operational Operators "a token asks for fewer scopes",
        "what needs them is refused (403) and parked";
    // Streams.
    STREAM_ADDED "stream.added" Additive Consumers "a stream is new",
        "nothing relied on it";
    STREAM_REMOVED "stream.removed" Breaking Consumers "a stream is gone",
        "its events stop; what it had not delivered waits under its name";
    STREAM_RENAMED "stream.renamed" Breaking Consumers "a stream has another name",
        "cursor and claims are kept under the name: it begins at its start and delivers again";
    KEY "key" Breaking Consumers "`key`",
        "ids and idempotency keys follow from it: what is seen again is delivered again, under another name";
    REVISION "revision" Breaking Consumers "`revision`",
        "ids and idempotency keys follow from it, and so does which event supersedes which";
    STREAM_VAR "stream.var" Breaking Consumers "a variable of a stream",
        "it may stand in requests, keys and the map: other records, or other names";
    STREAM_TENANT "tenant" Operational Operators "`tenant`",
        "events spend another budget and count for another tenant from now on";
    WHEN_ADDED "when.added" Breaking Consumers "`when` is new",
        "records that were events are dropped";
    WHEN_REMOVED "when.removed" Additive Consumers "`when` is gone",
        "every record is an event, also those that were dropped";
    WHEN "when" Breaking Consumers "`when`",
        "other records are events: some stop, some begin";
    DELETE "delete" Breaking Consumers "`delete`, where `event.delete` is read",
        "other events say that the thing is gone";
    DELETE_UNREAD "delete.unread" Operational Operators "`delete`, where nothing reads `event.delete`",
        "only views show it";
    WITH "with" Operational Operators "an entry of `with`",
        "it is evaluated when an event comes in: the backlog and replays have the old one";
    DEDUPE "dedupe" Operational Consumers "`dedupe`",
        "it decides how late a resend may come and still be known";
    TO_ADDED "to.added" Additive Consumers "events go to one more destination",
        "those that are taken in from now on; a replay brings earlier ones";
    TO_REMOVED "to.removed" Breaking Consumers "events no longer go to a destination",
        "it gets nothing more; what was not delivered waits under the destination's name";
    REDACT_ADDED "redact.added" Operational Operators "a field is newly masked",
        "views and logs no longer show it";
    REDACT_REMOVED "redact.removed" Operational Operators "a field is no longer masked",
        "views and logs show it, also that of earlier events";
    // Schema.
    SCHEMA_ADDED "schema.added" Additive Consumers "a schema is promised",
        "consumers may rely on it; a record that does not satisfy it ends as a dead letter";
    SCHEMA_REMOVED "schema.removed" Breaking Consumers "a schema is no longer promised",
        "consumers may get what it ruled out";
    SCHEMA_VERSION "schema.version" Breaking Consumers "another schema is promised",
        "consumers that read by the old one have to follow";
    SCHEMA_STRICTER "schema.stricter" Breaking Consumers "the schema of that name refuses more",
        "records that were delivered may end as dead letters";
    SCHEMA_PROMISE "schema.promise" Breaking Consumers "the schema of that name promises less",
        "records may hold what it ruled out";
    SCHEMA_LOOSER "schema.looser" Additive Consumers "the schema of that name allows more",
        "what was delivered still is";
    SCHEMA_TEXT "schema.text" Cosmetic Consumers "descriptions and marks of the schema",
        "the same records satisfy it";
    // Map.
    MAP_ADDED "map.added" Breaking Consumers "a `map` is new",
        "the record no longer arrives as it came, byte for byte";
    MAP_REMOVED "map.removed" Breaking Consumers "the `map` is gone",
        "the record arrives as it came, byte for byte";
    FIELD_ADDED "field.added" Additive Consumers "a field is new",
        "whoever ignores it sees no difference";
    FIELD_REMOVED "field.removed" Breaking Consumers "a field is gone",
        "whoever reads it finds nothing";
    FIELD_RENAMED "field.renamed" Breaking Consumers "a field has another name",
        "whoever reads it by the old name finds nothing";
    FIELD_TYPE "field.type" Breaking Consumers "a field has another type or format",
        "whoever parses it finds something else";
    FIELD_VALUE "field.value" Breaking Consumers "a field's value is made otherwise",
        "the same record gives another value under the same name";
    FIELD_SOURCE "field.source" Operational Consumers "a field is read from another place",
        "name, type and format stay; whether the value means the same, only a person can say";
    FIELD_OPTIONAL "field.optional" Breaking Consumers "a field may be left out",
        "it was always there";
    FIELD_REQUIRED "field.required" Breaking Consumers "a field is no longer optional",
        "records without it were delivered and end as dead letters";
    FIELD_DEFAULT_ADDED "field.default_added" Additive Consumers "a field has a default",
        "records without it were dead letters and are delivered";
    FIELD_DEFAULT_REMOVED "field.default_removed" Breaking Consumers "a field's default is gone",
        "records without it were delivered and end as dead letters";
    FIELD_DEFAULT "field.default" Breaking Consumers "a field's default",
        "records without it give another value under the same name";
    REST_ADDED "rest.added" Additive Consumers "`\"*\"` is new",
        "the record's other fields are delivered, too";
    REST_REMOVED "rest.removed" Breaking Consumers "`\"*\"` is gone",
        "fields that passed through it are no longer delivered";
    REST "rest" Breaking Consumers "`\"*\"`",
        "other fields pass through it";
    LOOKUP_ADDED "lookup.added" Additive Consumers "a lookup lists one more value",
        "it was a dead letter, or came out as `else`";
    LOOKUP_REMOVED "lookup.removed" Breaking Consumers "a lookup lists a value no more",
        "it ends as a dead letter, or comes out as `else`";
    LOOKUP_VALUE "lookup.value" Breaking Consumers "a listed value comes out as another",
        "the same record gives another value under the same name";
    LIBRARY_RENAMED "library.renamed" Cosmetic Operators "a named map or lookup has another name",
        "it is known in this file only";
    LIBRARY_UNUSED "library.unused" Cosmetic Operators "a named map or lookup that nothing uses",
        "no record passes it";
    // Webhook.
    WEBHOOK_ADDED "webhook.added" Additive Producers "a webhook is new",
        "producers may post there";
    WEBHOOK_REMOVED "webhook.removed" Breaking Producers "a webhook is gone",
        "producers that post there get 404, and what they post is lost";
    WEBHOOK_PATH "webhook.path" Breaking Producers "the webhook's `path`",
        "producers that post to the old one get 404, and what they post is lost";
    METHODS_ADDED "webhook.methods_added" Additive Producers "one more method is taken",
        "the others still are";
    METHODS_REMOVED "webhook.methods_removed" Breaking Producers "a method is no longer taken",
        "producers that use it get 405, and what they post is lost";
    VERIFY "webhook.verify" Breaking Producers "how requests are verified",
        "requests that are signed the old way are refused";
    VERIFY_OPEN "webhook.open" Breaking Operators "requests are no longer verified, or the body no longer signed",
        "whoever knows the path may post events";
    VERIFY_TOLERANCE "webhook.tolerance" Operational Producers "how old or early a signature may be, or how a bad one is answered",
        "well-timed requests are taken as before";
    CHALLENGE "webhook.challenge" Operational Producers "the answer to a challenge",
        "it matters while a producer is set up";
    WEBHOOK_SECRET "webhook.secret" Breaking Producers "a secret no longer verifies",
        "requests that are signed with it are refused";
    WEBHOOK_SECRET_ADDED "webhook.secret_added" Operational Producers "one more secret verifies",
        "the others still do; that it has to be set is told apart";
    WEBHOOK_SECRET_UNTIL "webhook.secret_until" Operational Producers "until when a secret verifies",
        "producers have to have changed by then";
    EVENTS "webhook.events" Breaking Consumers "`events`: what of a request is an event",
        "other records are events, under other names";
    REPLY "webhook.reply" Operational Producers "`reply`",
        "producers see another answer, still of the 200s";
    WEBHOOK_LIMIT "webhook.limit" Operational Producers "`max_body`",
        "longer bodies are answered by 413";
    // Poll.
    POLL_ADDED "poll.added" Additive Consumers "a poll is new",
        "it finds what webhooks missed, or what nobody sent";
    POLL_REMOVED "poll.removed" Breaking Consumers "a poll is gone",
        "what only it found is no longer found";
    POLL_URL "poll.url" Operational Operators "where a poll asks",
        "the cursor stays, so what lies before it at the new place is not read";
    POLL_REQUEST "poll.request" Operational Operators "method, query, headers or body of a poll",
        "the API may answer with other records";
    POLL_AUTH "poll.auth" Operational Operators "the poll's credentials",
        "the API may answer with other records, or park the poll by 401 or 403";
    RECORDS "poll.records" Operational Operators "where the records stand in an answer",
        "a path that leads nowhere is an error, not an empty page";
    EACH "poll.each" Breaking Consumers "what a poll is read for, one after the other",
        "state is kept under the values of the partition: another name begins at its start, and what is older than the dedupe window is delivered again";
    EACH_CHOICE "poll.each.choice" Operational Operators "which of them are read, and how many a request takes",
        "each has its own state; one that comes back goes on where it was";
    DETAIL "poll.detail" Breaking Consumers "which document the record is, or what is joined to it",
        "what reads the record or `with` finds something else there";
    DETAIL_ADDED "poll.detail.added" Additive Consumers "one more document is joined to the record",
        "the record stays what it is";
    DETAIL_REQUEST "poll.detail.request" Operational Operators "how a record's document is asked for",
        "the API may answer with another one";
    JOB "poll.job" Breaking Consumers "whether records are read from a job's result",
        "records come from another answer, and may have other fields";
    JOB_RESULT "poll.job.result" Operational Operators "where a job's result is",
        "a path that leads nowhere is an error, not an empty result";
    JOB_REQUEST "poll.job.request" Operational Operators "how a job and its result are asked for",
        "the API may answer with other records";
    JOB_SETTING "poll.job.setting" Operational Operators "how a job is waited for",
        "a job that is given up leaves the cursor where it is";
    PAGE_BY "page.by" Operational Operators "by what a page is asked for",
        "the API has to page that way";
    PAGE_NONE "page.none" Breaking Consumers "pages after the first are no longer asked for",
        "the records on them are not read";
    PAGE_SIZE "page.size" Operational Operators "records a page",
        "more or fewer requests for the same records";
    PAGE_SETTING "page.setting" Operational Operators "how the next page is found, or where paging ends",
        "a repeated page and a token that is nowhere are errors";
    CURSOR_ADDED "cursor.added" Operational Operators "a cursor is new",
        "the first run begins at its start; then only what is new is read";
    CURSOR_REMOVED "cursor.removed" Breaking Consumers "the cursor is gone",
        "every run reads everything; what is older than the dedupe window is delivered again";
    CURSOR_FIELD "cursor.field" Breaking Consumers "the cursor follows another field",
        "it goes on from the old field's value: records before that on the new one are not read";
    CURSOR_KIND "cursor.kind" Breaking Consumers "the cursor's values are of another kind",
        "the stored one no longer fits: the poll begins at its start, and what is older than the dedupe window is delivered again";
    CURSOR_FORMAT "cursor.format" Operational Operators "how the cursor's time is written",
        "the stored one is a time and is printed anew";
    CURSOR_START "cursor.start" Operational Operators "where the first run begins",
        "a stream that has a cursor goes on from there; new installations read more or less";
    CURSOR_UNTIL "cursor.until" Breaking Consumers "where the cursor ends",
        "records beyond it are not read";
    CURSOR_SETTING "cursor.setting" Operational Operators "how the cursor is sent, how far it looks back, when it moves",
        "overlaps are dropped as duplicates";
    POLL_RULE "poll.on" Operational Operators "`on`: what answers mean",
        "a run ends or waits otherwise; nothing that was read is lost";
    POLL_GIVES_UP "poll.gives_up" Breaking Consumers "a rule of `on` that skips or stops is new",
        "records behind such answers are not read";
    POLL_LIMIT "poll.limit" Operational Operators "`rate`, `concurrency`, `timeout` or `max_response` of polls",
        "slower or faster; an answer beyond a limit fails the run and the cursor stays";
    SCHEDULE "schedule" Operational Operators "`[schedule]`",
        "records come sooner or later";
    RECONCILE "schedule.reconcile" Operational Operators "`[schedule.reconcile]`: what is read again, when missing webhooks are an alert",
        "what is known is dropped: requests and alerts change, events do not";
    // Destinations.
    DESTINATION_ADDED "destination.added" Additive Consumers "a destination is new",
        "streams that name it say so themselves";
    DESTINATION_REMOVED "destination.removed" Breaking Consumers "a destination is gone",
        "it gets nothing more; what was not delivered waits under its name";
    DESTINATION_RENAMED "destination.renamed" Breaking Consumers "a destination has another name",
        "what was not delivered waits under the old one, and idempotency keys follow from the name: a replay writes twice";
    DESTINATION_TYPE "destination.type" Breaking Consumers "a destination is of another type",
        "events go elsewhere";
    DESTINATION_URL "destination.url" Breaking Consumers "a destination's `url`",
        "events go elsewhere, those not yet delivered too; the old address gets nothing more";
    DESTINATION_METHOD "destination.method" Breaking Consumers "a destination's `method`",
        "the receiver has to take it; a 4xx makes dead letters";
    HEADER_ADDED "destination.header_added" Additive Consumers "one more header is sent",
        "whoever ignores it sees no difference";
    HEADER "destination.header" Breaking Consumers "a header is sent otherwise, or no more",
        "whoever reads it finds something else";
    BODY "destination.body" Breaking Consumers "the body is written by the file, or no longer is",
        "what is sent has another shape";
    ANSWER_RULE "destination.on" Operational Operators "`on` of a destination: what its answers mean",
        "events are attempted again, parked or buried otherwise; a dead letter can be replayed";
    ANSWER_GIVES_UP "destination.gives_up" Breaking Consumers "a rule of `on` is new that settles what was not taken",
        "such events count as delivered or superseded, and are not sent again";
    BATCH_ADDED "batch.added" Breaking Consumers "events are sent in batches",
        "one request holds a list of them; idempotency keys follow from the batch";
    BATCH_REMOVED "batch.removed" Breaking Consumers "events are no longer sent in batches",
        "each has a request of its own; idempotency keys follow from the event";
    BATCH_SIZE "batch.size" Operational Operators "how large a batch is, and how long it waits",
        "the same events in other requests";
    BATCH_RESULTS "batch.results" Breaking Consumers "how the results of a batch are found or judged",
        "other events count as delivered, and those are not sent again";
    DESTINATION_AUTH "destination.auth" Operational Operators "a destination's credentials",
        "a 401 or 403 parks the destination and loses nothing";
    DESTINATION_PATH "destination.path" Breaking Consumers "the file that is written",
        "whoever reads the old one sees no new lines";
    ROTATION "destination.rotation" Operational Operators "how files are rotated and kept",
        "the same lines, cut otherwise";
    ORDER_ADDED "destination.order_added" Operational Operators "events of one key wait for each other",
        "order where there was none, at the price of waiting";
    ORDER_REMOVED "destination.order_removed" Breaking Consumers "events of one key no longer wait for each other",
        "two states of a thing may overtake each other";
    DESTINATION_LIMIT "destination.limit" Operational Operators "`rate`, `concurrency`, `timeout` or `max_response` of a destination",
        "slower or faster; an attempt beyond the timeout is repeated";
    BREAKER "destination.breaker" Operational Operators "`breaker` of a destination",
        "when a destination is left in peace because most attempts fail";
    RETRY "retry" Operational Operators "`[retry]`",
        "how long an outage may last before events become dead letters, which can be replayed";
}
