//! The table of codes: what each means in a line. A page in `docs/errors/` says more.
//!
//! Codes are grouped by subject and never change their meaning; one that is no longer used is not
//! used again.

use super::{Code, Severity};

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    /// `E0101`.
    pub code: Code,
    /// How bad it is unless a tool is told otherwise.
    pub severity: Severity,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What it means and why it matters, in a sentence or two.
    pub explanation: &'static str,
    /// Its page of `docs/errors/`, Markdown: an example that triggers it, and the way out.
    pub page: &'static str,
}

macro_rules! codes {
    ($($name:ident $code:literal $severity:ident $title:literal, $explanation:literal;)*) => {
        $(#[doc = $title] pub(crate) const $name: Code = Code($code);)*

        /// Every code, in ascending order.
        pub const CODES: &[CodeInfo] = &[$(CodeInfo {
            code: $name,
            severity: Severity::$severity,
            title: $title,
            explanation: $explanation,
            page: include_str!(concat!("../../docs/errors/", $code, ".md")),
        },)*];
    };
}

codes! {
    // TOML: syntax, keys, types.
    SYNTAX "E0101" Error "not valid TOML",
        "The text breaks TOML's own grammar at this place.";
    DUPLICATE_KEY "E0102" Error "defined twice",
        "One thing is defined at two places: the same key twice, or a dotted key and a sub-table for one table.";
    UNKNOWN_KEY "E0103" Error "unknown key",
        "No such key exists in this table. Misspelled settings are never ignored silently.";
    WRONG_TYPE "E0104" Error "wrong type of value",
        "The key exists but takes another type of value.";
    MISSING_KEY "E0105" Error "missing key",
        "The table needs a key that is not there.";
    UNKNOWN_WORD "E0106" Error "unknown word",
        "The key takes one of a few words, and this is none of them.";
    OUT_OF_RANGE "E0107" Error "value out of range",
        "The value has the right type but lies outside of what makes sense here.";
    CONFLICT "E0108" Error "keys that exclude each other",
        "Two keys were given of which only one may be.";
    MISPLACED_KEY "E0109" Error "key without effect here",
        "The key exists, but what the table's other keys chose does not use it.";
    UNREADABLE "E0110" Error "file cannot be read",
        "The file does not exist, cannot be opened, or is not UTF-8.";
    // Names and references.
    BAD_NAME "E0201" Error "not a name",
        "Names are used in state keys, metrics and URLs, so they are short and plain.";
    UNKNOWN_DESTINATION "E0202" Error "unknown destination",
        "`to` names a destination that the file does not define.";
    UNKNOWN_AUTH "E0203" Error "unknown auth",
        "`auth` names a table that the file does not define.";
    UNKNOWN_VERIFY "E0204" Error "unknown verify",
        "`verify` names neither a preset nor a table of the file.";
    UNKNOWN_SCHEMA "E0205" Error "unknown schema",
        "`schema` names neither a file in `schemas/` nor a built-in schema.";
    UNKNOWN_TABLE "E0206" Error "unknown map or lookup",
        "`apply` or `lookup` names a table that the file does not define.";
    UNKNOWN_USE "E0207" Error "unknown connector in `use`",
        "`use` names a file that is neither beside this one nor in the project.";
    NOT_FOR_INSTANCES "E0208" Error "not for an instance",
        "A file with `use` fills in another connector; it does not change what that connector does.";
    UNKNOWN_VAR "E0209" Error "unknown variable",
        "`vars.NAME` is used or given, but `[vars]` does not declare it.";
    MISSING_VAR "E0210" Error "variable without value",
        "The connector that is used declares a variable without default, and the instance gives none.";
    VAR_NOT_ALLOWED "E0211" Error "variable's value is not allowed",
        "The variable declares `one_of`, and the value is none of them.";
    WHICH_DESTINATION "E0212" Error "which destination?",
        "A stream without `to` goes to the only destination; here there are several.";
    NESTED_USE "E0213" Error "`use` of a file that itself uses another",
        "Instances are one level deep, so that a reader needs two files at most.";
    UNKNOWN_STREAM "E0214" Error "unknown stream",
        "A test or an `each` names a stream that the file does not define.";
    BAD_SCHEMA "E0215" Error "schema cannot be used",
        "The schema's file is not JSON, or not a valid JSON Schema (draft 2020-12).";
    UNKNOWN_SECRET "E0216" Error "unknown secret",
        "`[secrets]` renames a secret that the connector does not use.";
    MAP_CIRCLE "E0217" Error "maps apply each other in a circle",
        "A named map may apply others, but never itself, directly or through others.";
    BAD_VERSION "E0218" Error "not a version",
        "Versions are three numbers with dots, so that tools can compare them.";
    // Expressions.
    BAD_PATH "E0301" Error "not a path",
        "The string begins with `$` but is not a JSONPath (RFC 9535), or one that is refused.";
    BAD_TEMPLATE "E0302" Error "not a template",
        "The string holds `{{ }}` or `{% %}` but is not a valid template.";
    BAD_FILTER "E0303" Error "unknown or misused filter",
        "A filter, test or function does not exist or got arguments it does not take.";
    NAME_NOT_HERE "E0304" Error "name does not exist here",
        "Each name exists only where there is something to name.";
    NO_EXPRESSION "E0305" Error "no expression here",
        "The setting is taken as it is written; paths and templates are not evaluated here.";
    // Source, poll, page, cursor.
    NO_SOURCE "E0401" Error "stream without source",
        "A stream takes webhooks, polls, or both; this one does neither.";
    BAD_URL "E0402" Error "not a URL",
        "The literal parts of a URL must form one: scheme, host, path; the query has its own key.";
    BAD_RECORDS "E0403" Error "`records` cannot find records",
        "`records` is a path that leads from the answer's body to the records.";
    PAGE_KEYS "E0404" Error "page needs another key",
        "The way of paging that `by` chose needs a key that is not there.";
    UNUSED_CURSOR "E0405" Error "cursor that no request uses",
        "The cursor would be kept but never sent, so every run would read everything again.";
    BAD_CURSOR "E0406" Error "cursor cannot move",
        "The cursor's keys contradict each other or its format.";
    UNUSED_TOKEN "E0407" Error "page token that no request uses",
        "The token would be read but never sent, so every page would be the first.";
    NO_SCHEDULE "E0408" Error "poll without schedule",
        "Nothing says when to poll.";
    BAD_RULE "E0409" Error "response rule that cannot work",
        "A rule of `on` says which answers it is for, by `status` or `when`, and the first that fits decides.";
    BAD_LIKE "E0410" Error "stream that copies nothing",
        "`like` names another stream of the file, one that is written out.";
    BAD_JOB "E0411" Error "job that cannot be waited for",
        "A poll's `job` says how to tell that a report is ready, and where it is; this one would never be, or be another's.";
    BAD_EACH "E0415" Error "fan-out that cannot be",
        "`each` says what requests are made for; this entry stands for nothing, for itself, or for the same twice.";
    BAD_DETAIL "E0416" Error "detail that cannot be",
        "`detail` asks once more for each listed record; this one asks for the same each time, or its name is taken.";
    // Webhook, verify.
    BAD_ROUTE "E0501" Error "not a webhook path",
        "A webhook path begins with `/`, has no trailing slash, and matches exactly.";
    NO_VERIFY "E0502" Error "webhook without verification",
        "Anyone could post events. If that is meant, it must be spelled out.";
    NO_SECRET "E0503" Error "verification without secret",
        "The verification needs a secret that is not given.";
    EMPTY_SECRET "E0504" Error "empty secret",
        "An empty secret verifies whatever is signed with an empty key, which anyone can do.";
    BAD_SIGNED "E0505" Error "unknown part in `signed`",
        "`signed` is put together from a fixed set of parts of the request, nothing else.";
    BODY_NOT_SIGNED "E0506" Error "`signed` omits the body",
        "A signature that does not bind the body lets anyone change it.";
    VERIFY_KEYS "E0507" Error "verification is incomplete",
        "The algorithm needs a table or key that is not there.";
    ROUTE_DIFFERS "E0508" Error "one path, two verifications",
        "Streams with one webhook path share one endpoint, so they share its verification.";
    VERIFY_OPEN "E0509" Error "verification that fails open",
        "The scheme can be read and checked, and would let somebody in who knows no secret.";
    // Auth, secrets.
    AUTH_KEYS "E0601" Error "auth is incomplete",
        "The type of auth needs a key that is not there.";
    DYNAMIC_SECRET "E0602" Error "secret without a name",
        "Secrets are named in the file, so that `check` can list them and `run` can look each up.";
    UNBOUND_AUTH "E0603" Error "choice of credentials without bounds",
        "A choice by variable is checked for every value, so the variable lists its values in `one_of`.";
    UNUSABLE_AUTH "E0604" Error "auth that cannot work",
        "The keys of the table contradict each other, or the table it names is of another type.";
    // Batches of a destination.
    ONE_OF_BATCH "E0605" Error "one event, in a setting of a whole batch",
        "A batch is one request for many events: what names one of them has no meaning there.";
    BAD_RESULTS "E0606" Error "results that say nothing",
        "`results` says what became of each event of a batch, so something has to tell those that were taken from those that were not.";
    EMPTY_BATCH "E0607" Error "batch that is not sent",
        "No part of the request holds the events of the batch, so they would count as delivered and be lost.";
    // Destination, retry.
    DESTINATION_KEYS "E0701" Error "destination is incomplete",
        "The type of destination needs a key that is not there.";
    BAD_HEADER "E0702" Error "not a header name",
        "HTTP header names consist of letters, digits and a few marks.";
    BAD_RETRY "E0703" Error "retry that cannot be kept",
        "The retry's numbers contradict each other.";
    NOT_RENDERED "E0704" Error "setting cannot be rendered",
        "What depends on nothing but variables is rendered when the file is loaded; this fails.";
    // Schedule, durations, rates.
    BAD_DURATION "E0801" Error "not a duration",
        "Durations are numbers with units: `30s`, `5m`, `2h`, `90d`, `1h30m`.";
    BAD_SIZE "E0802" Error "not a size",
        "Sizes are a number with a unit: `64KiB`, `4MiB`, `1GiB`.";
    BAD_RATE "E0803" Error "not a rate",
        "Rates are a count, a slash and a time: `10/s`, `1000/h`.";
    BAD_RATIO "E0804" Error "not a ratio",
        "Ratios are percentages from 0 to 100: `99.9%`.";
    BAD_CRON "E0805" Error "not a cron pattern",
        "Cron patterns have five fields, or six with seconds first.";
    NEVER_FIRES "E0806" Error "cron pattern that never fires",
        "No date matches the pattern.";
    UNKNOWN_ZONE "E0807" Error "unknown time zone",
        "Time zones are IANA names such as `Europe/Berlin`.";
    BAD_SCHEDULE "E0808" Error "schedule says nothing",
        "A schedule says `every` or `cron`.";
    BAD_LATENCY "E0809" Error "not a latency objective",
        "A latency objective is a percentile and a bound: `p99 < 5s`.";
    BAD_DATE "E0810" Error "not a date",
        "Dates are written year, month, day: `2026-11-20`.";
    BAD_RECONCILE "E0815" Error "reconciliation that cannot be",
        "A reconciliation reads again what was taken in before: it says when and how far back, and claims outlast that.";
    // Across files.
    SAME_NAME "E0901" Error "two connectors of one name",
        "The name is a connector's identity: state and cursors are kept under it.";
    SAME_ROUTE "E0902" Error "two connectors claim one webhook path",
        "A path leads to one connector.";
    // The runtime's own settings.
    BAD_ADDRESS "E1001" Error "not an address to listen on",
        "An address to listen on is an IP address and a port: `127.0.0.1:8080`.";
    BAD_NETWORK "E1002" Error "not a network",
        "A network is an address and the length of its prefix: `10.0.0.0/8`.";
    // The version gate of `tenon diff`.
    VERSION_TOO_LOW "E1101" Error "version says less than what changed",
        "Users go by the version: breaking changes need a major one, additive ones a minor one, operational ones a patch.";
    VERSION_BACKWARDS "E1102" Error "version goes back",
        "The new version is lower than the old one.";
    NO_CHANGE_ENTRY "E1103" Error "version without an entry in the changelog",
        "What changed has to stand in a `[[change]]` of the new version.";
    WRONG_CHANGE_KIND "E1104" Error "changelog entry of another kind",
        "The kind of the `[[change]]` does not suit what changed.";
    VERSION_GONE "E1105" Error "version is gone",
        "The connector had a version and has none any more.";
    // Rollout.
    NO_ORIGINAL "E1201" Error "variant without its original",
        "A shadow or a canary gets another connector's events; nothing says whose.";
    UNKNOWN_ORIGINAL "E1202" Error "unknown original",
        "`of` names a connector that no file has.";
    BAD_VARIANT "E1203" Error "variant that cannot run beside its original",
        "A variant has the original's streams by name, its original is no variant, and an original has one canary.";
    // Notices; those of lints say so.
    NEEDS_INSTANCE "N0201" Notice "runs only through `use`",
        "The connector lacks a destination or a variable's value; an instance has to give it.";
    SHORT_DEDUPE "N0401" Notice "claims end before records stop coming",
        "Records are read again after their claims have ended, so they are delivered again.";
    BODY_OPEN "N0501" Notice "signature does not bind the body",
        "`covers_body = false` accepts a signature under which anyone may change the body.";
    UNSET_SECRET "N0601" Notice "secret is not set",
        "The secret is neither in the environment nor in the folder of secrets of this machine.";
    MISSING_OWNER "N1101" Notice "connector without an owner",
        "Nobody answers for the connector when it fails or has to change.";
    MISSING_RUNBOOK "N1102" Notice "connector without a runbook",
        "Whoever is woken by a failure finds nothing that says what to do.";
    VARIANT_FOLLOWS "N1201" Notice "variant differs where it follows its original",
        "How events come in, and what they are called, is the original's; the variant's own settings are not used.";
    // Warnings, each of a lint.
    UNUSED_VAR "W0201" Warning "unused variable",
        "Instances are asked for a value that changes nothing.";
    UNUSED_MAP "W0202" Warning "unused map",
        "Nothing applies the map.";
    UNUSED_LOOKUP "W0203" Warning "unused lookup",
        "Nothing looks anything up in the table.";
    UNUSED_AUTH "W0204" Warning "unused auth",
        "No poll and no destination names these credentials.";
    UNUSED_VERIFY "W0205" Warning "unused verify",
        "No webhook names this verification, so it protects nothing.";
    UNUSED_DESTINATION "W0206" Warning "unused destination",
        "No stream goes there, so nothing is ever delivered to it.";
    UNSTABLE_KEY "W0301" Warning "key that is not stable",
        "The key changes while the thing stays the same, so each change looks like a new thing.";
    PAGE_WITHOUT_STOP "W0401" Warning "page without a stop",
        "Only an empty page ends the run, which not every API gives.";
    UNSIGNED_TIMESTAMP "W0501" Warning "timestamp is checked but not signed",
        "Whoever captured a request can send it again with a fresh timestamp.";
    LITERAL_SECRET "W0601" Warning "credential written in the file",
        "Whoever can read the file, its history or a copy of it can use the credential.";
    WEAK_IDEMPOTENCY "W0701" Warning "idempotency key that does not tell events apart",
        "A destination that honours the key drops what it takes for a repetition.";
    POLL_TOO_FAST "W0801" Warning "poll faster than its rate allows",
        "Runs wait for the rate and fall behind the schedule.";
    STALE_CHANGE "W1101" Warning "changelog does not fit the version",
        "Readers of the changelog learn of a change too early, too late or never.";
    NO_FIXTURE "W1102" Warning "fixture is not there",
        "A test names a file that does not exist. The connector runs, since it is deployed without its tests; the test fails.";
}
