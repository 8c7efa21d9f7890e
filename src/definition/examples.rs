//! How values of keys may look, for editors. Kinds that look alike everywhere (durations, sizes) have
//! theirs by kind; here stand those of keys whose kind does not tell.

use super::{
    auth::AuthDef,
    batch::BatchDef,
    change::ChangeDef,
    connector::ConnectorDef,
    cursor::CursorDef,
    destination::DestinationDef,
    page::PageDef,
    poll::PollDef,
    reconcile::ReconcileDef,
    rollout::RolloutDef,
    schedule::ScheduleDef,
    settings::{EgressDef, SettingsDef, TokensDef},
    slo::SloDef,
    source::SourceDef,
    stream::StreamDef,
    table::{Shape, Table},
    verdict::VerdictDef,
    verify::{SignatureDef, TimestampDef, VerifyDef},
    webhook::{SharedWebhookDef, WebhookDef},
};

/// Of a table's keys: values as they would be written, which JSON writes the same.
type Examples = (&'static Table, &'static [(&'static str, &'static [&'static str])]);

static EXAMPLES: &[Examples] = &[
    (
        &ConnectorDef::TABLE,
        &[
            ("name", &[r#""shopify""#]),
            ("version", &[r#""1.0.0""#]),
            ("summary", &[r#""Shopify orders, delivered to the ERP""#]),
            ("owner", &[r#""commerce-integrations""#]),
            ("docs", &[r#""https://wiki.example/runbooks/shopify""#]),
            ("use", &[r#""integrations/shopify.toml""#]),
            ("tenant", &[r#""acme-eu""#]),
            ("to", &[r#""erp""#, r#"["erp", "archive"]"#]),
            ("secrets", &[r#"{"SHOP_TOKEN": "ACME_EU_SHOP_TOKEN"}"#]),
        ],
    ),
    (
        &SourceDef::TABLE,
        &[
            (
                "base",
                &[r#""https://api.shop.example/v1""#, r#""https://{{ vars.shop }}.example/api""#],
            ),
            ("auth", &[r#""shop""#]),
            ("headers", &[r#"{"Accept": "application/json"}"#]),
            ("query", &[r#"{"locale": "en"}"#]),
        ],
    ),
    (
        &StreamDef::TABLE,
        &[
            ("key", &[r#""$.id""#, r#"["$.shop_id", "$.id"]"#]),
            ("revision", &[r#""$.updated_at | timestamp""#, r#""$.version | integer""#]),
            ("tenant", &[r#""{{ vars.shop }}""#, r#""$.account.id""#]),
            ("when", &[r#""{{ record.test == false }}""#]),
            ("delete", &[r#""{{ record.deleted }}""#]),
            ("with", &[r#"{"shop": "{{ vars.shop }}"}"#]),
            ("schema", &[r#""order.v1""#, r#""customer.v1""#, r#""product.v1""#]),
            ("redact", &[r#"["customer.email"]"#]),
            ("to", &[r#""erp""#, r#"["erp", "archive"]"#]),
            ("map", &[r#"{"id": "shop:{{ record.id }}", "total": "$.total | decimal(2)"}"#]),
        ],
    ),
    (
        &WebhookDef::TABLE,
        &[
            ("path", &[r#""/shop/orders""#]),
            (
                "verify",
                &[
                    r#""standard""#,
                    r#""stripe""#,
                    r#""github""#,
                    r#""shopify""#,
                    r#""slack""#,
                    r#""none""#,
                ],
            ),
            ("secret", &[r#""{{ secret.SHOP_WEBHOOK_SECRET }}""#]),
            ("events", &[r#""$.events[*]""#]),
        ],
    ),
    (
        &SharedWebhookDef::TABLE,
        &[
            ("path", &[r#""/shop""#]),
            (
                "verify",
                &[r#""standard""#, r#""stripe""#, r#""github""#, r#""shopify""#, r#""slack""#],
            ),
            ("secret", &[r#""{{ secret.SHOP_WEBHOOK_SECRET }}""#]),
        ],
    ),
    (
        &PollDef::TABLE,
        &[
            ("path", &[r#""/orders""#, r#""/shops/{{ vars.shop }}/orders""#]),
            ("query", &[r#"{"status": "any"}"#]),
            ("records", &[r#""$.orders[*]""#, r#""$.data.orders[*] | default([])""#]),
            ("auth", &[r#""shop""#]),
        ],
    ),
    (
        &PageDef::TABLE,
        &[
            ("param", &[r#""page""#, r#""offset""#, r#""cursor""#]),
            ("size", &["100"]),
            ("size_param", &[r#""limit""#, r#""per_page""#]),
            ("next", &[r#""$.meta.next_cursor""#, r#""$.links.next""#]),
            ("stop", &[r#""{{ not response.body.has_more }}""#]),
        ],
    ),
    (
        &CursorDef::TABLE,
        &[
            ("field", &[r#""$.updated_at""#]),
            (
                "format",
                &[
                    r#""rfc3339""#,
                    r#""epoch_s""#,
                    r#""epoch_ms""#,
                    r#""integer""#,
                    r#""string""#,
                    r#""%Y-%m-%d""#,
                ],
            ),
            ("start", &[r#""2025-01-01""#, r#""-90d""#]),
            ("start_param", &[r#""updated_since""#]),
            ("end_param", &[r#""updated_until""#]),
        ],
    ),
    (
        &AuthDef::TABLE,
        &[
            ("token", &[r#""{{ secret.SHOP_TOKEN }}""#]),
            ("user", &[r#""{{ secret.SHOP_USER }}""#]),
            ("password", &[r#""{{ secret.SHOP_PASSWORD }}""#]),
            ("name", &[r#""X-Api-Key""#]),
            ("value", &[r#""{{ secret.SHOP_API_KEY }}""#]),
            ("token_url", &[r#""https://login.example/oauth/token""#]),
            ("client_id", &[r#""{{ secret.SHOP_CLIENT_ID }}""#]),
            ("client_secret", &[r#""{{ secret.SHOP_CLIENT_SECRET }}""#]),
            ("refresh_token", &[r#""{{ secret.SHOP_REFRESH_TOKEN }}""#]),
            ("scopes", &[r#"["orders.read"]"#]),
            ("params", &[r#"{"audience": "orders"}"#]),
        ],
    ),
    (&VerifyDef::TABLE, &[("signed", &[r#""{{ body }}""#, r#""{{ timestamp }}.{{ body }}""#])]),
    (
        &SignatureDef::TABLE,
        &[("header", &[r#""X-Shop-Signature""#]), ("take", &[r#""v1=""#]), ("list", &[r#"",""#])],
    ),
    (
        &TimestampDef::TABLE,
        &[("header", &[r#""X-Shop-Timestamp""#]), ("take", &[r#""t=""#]), ("list", &[r#"",""#])],
    ),
    (
        &ScheduleDef::TABLE,
        &[
            ("cron", &[r#""*/5 * * * *""#, r#""0 6 * * mon-fri""#]),
            ("tz", &[r#""Europe/Berlin""#, r#""UTC""#]),
        ],
    ),
    (
        &ReconcileDef::TABLE,
        &[
            ("cron", &[r#""30 2 * * *""#]),
            ("tz", &[r#""Europe/Berlin""#]),
            ("window", &[r#""6d""#, r#""full""#]),
        ],
    ),
    (
        &DestinationDef::TABLE,
        &[
            ("url", &[r#""https://erp.example/orders/{{ out.id }}""#]),
            ("headers", &[r#"{"X-Source": "tenon"}"#]),
            ("body", &[r#"{"order": "{{ out }}"}"#]),
            ("auth", &[r#""erp""#]),
            ("path", &[r#""archive/orders.jsonl""#]),
        ],
    ),
    (
        &BatchDef::TABLE,
        &[
            ("results", &[r#""$.items[*]""#]),
            ("by", &[r#""$.external_id""#]),
            ("ok", &[r#""{{ item.status < 300 }}""#]),
        ],
    ),
    (
        &VerdictDef::TABLE,
        &[
            ("when", &[r#""{{ response.body.ok == false }}""#]),
            ("message", &[r#""{{ response.body.error }}""#]),
            ("reason", &[r#""no_such_customer""#]),
        ],
    ),
    (&RolloutDef::TABLE, &[("of", &[r#""shop""#])]),
    (&SloDef::TABLE, &[("latency", &[r#""p99 < 5s""#])]),
    (&ChangeDef::TABLE, &[("version", &[r#""1.1.0""#]), ("note", &[r#""customer.email""#])]),
    (
        &SettingsDef::TABLE,
        &[
            ("listen", &[r#""0.0.0.0:8080""#]),
            ("state", &[r#""/var/lib/tenon""#]),
            ("public_url", &[r#""https://hooks.example""#]),
            ("secrets", &[r#""/run/secrets""#]),
        ],
    ),
    (
        &TokensDef::TABLE,
        &[("key", &[r#""TENON_TOKEN_KEY""#]), ("old", &[r#"["TENON_TOKEN_KEY_2025"]"#])],
    ),
    (&EgressDef::TABLE, &[("allow", &[r#"["10.0.0.0/8"]"#])]),
];

/// How a key's value may look, as it would be written; empty where there is nothing to show.
pub(super) fn of(table: &Table, key: &str, shape: &Shape) -> Vec<&'static str> {
    let known = EXAMPLES.iter().find(|(known, _)| known.title == table.title);
    let named = known.and_then(|(_, keys)| keys.iter().find(|(name, _)| *name == key));
    named.map_or_else(|| of_kind(shape), |(_, values)| values.to_vec())
}

/// What looks alike wherever it stands.
fn of_kind(shape: &Shape) -> Vec<&'static str> {
    match shape {
        Shape::Duration => vec![r#""30s""#, r#""5m""#, r#""1h30m""#, r#""7d""#],
        Shape::Size => vec![r#""64KiB""#, r#""4MiB""#],
        Shape::Rate => vec![r#""10/s""#, r#""1000/h""#],
        Shape::Ratio => vec![r#""99.9%""#],
        Shape::Date => vec![r#""2026-11-20""#],
        Shape::OneOrMany(item) | Shape::WordOr(_, item) => of_kind(item),
        Shape::Either(one, other) => [of_kind(one), of_kind(other)].concat(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_of_a_key_that_there_is() {
        for (table, keys) in EXAMPLES {
            for (name, values) in *keys {
                let known = table.keys.iter().any(|key| key.name == *name);
                assert!(known, "{} has no `{name}`", table.title);
                assert!(!values.is_empty(), "{} `{name}`", table.title);
            }
        }
    }
}
