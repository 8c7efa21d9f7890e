//! What is built into the binary: verify presets and canonical schemas, as their files read.

/// Verify presets: name, and the text of `integrations/verify/NAME.toml` with the table `[verify.NAME]`.
pub const PRESETS: &[(&str, &str)] = &[
    ("github", include_str!("../../integrations/verify/github.toml")),
    ("shopify", include_str!("../../integrations/verify/shopify.toml")),
    ("slack", include_str!("../../integrations/verify/slack.toml")),
    ("standard", include_str!("../../integrations/verify/standard.toml")),
    ("stripe", include_str!("../../integrations/verify/stripe.toml")),
];

/// Canonical schemas: name, and the text of `schemas/NAME.json`.
pub const SCHEMAS: &[(&str, &str)] = &[
    ("customer.v1", include_str!("../../schemas/customer.v1.json")),
    ("order.v1", include_str!("../../schemas/order.v1.json")),
    ("product.v1", include_str!("../../schemas/product.v1.json")),
];
