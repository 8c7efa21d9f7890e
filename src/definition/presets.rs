//! What is built into the binary: verify presets and canonical schemas, as their files read.

/// Verify presets: name, and the text of `integrations/verify/NAME.toml` with the table `[verify.NAME]`.
pub const PRESETS: &[(&str, &str)] = &[
    ("adyen", include_str!("../../integrations/verify/adyen.toml")),
    ("box", include_str!("../../integrations/verify/box.toml")),
    ("chargebee", include_str!("../../integrations/verify/chargebee.toml")),
    ("discord", include_str!("../../integrations/verify/discord.toml")),
    ("docusign", include_str!("../../integrations/verify/docusign.toml")),
    ("github", include_str!("../../integrations/verify/github.toml")),
    ("gitlab", include_str!("../../integrations/verify/gitlab.toml")),
    ("hubspot", include_str!("../../integrations/verify/hubspot.toml")),
    ("hubspot-v1", include_str!("../../integrations/verify/hubspot-v1.toml")),
    ("hubspot-v2", include_str!("../../integrations/verify/hubspot-v2.toml")),
    ("intercom", include_str!("../../integrations/verify/intercom.toml")),
    ("linear", include_str!("../../integrations/verify/linear.toml")),
    ("mailgun", include_str!("../../integrations/verify/mailgun.toml")),
    ("meta", include_str!("../../integrations/verify/meta.toml")),
    ("msgraph", include_str!("../../integrations/verify/msgraph.toml")),
    ("paddle", include_str!("../../integrations/verify/paddle.toml")),
    ("pagerduty", include_str!("../../integrations/verify/pagerduty.toml")),
    ("paypal", include_str!("../../integrations/verify/paypal.toml")),
    ("plaid", include_str!("../../integrations/verify/plaid.toml")),
    ("postmark", include_str!("../../integrations/verify/postmark.toml")),
    ("quickbooks", include_str!("../../integrations/verify/quickbooks.toml")),
    ("sendgrid", include_str!("../../integrations/verify/sendgrid.toml")),
    ("shopify", include_str!("../../integrations/verify/shopify.toml")),
    ("slack", include_str!("../../integrations/verify/slack.toml")),
    ("sns", include_str!("../../integrations/verify/sns.toml")),
    ("sns-v1", include_str!("../../integrations/verify/sns-v1.toml")),
    ("square", include_str!("../../integrations/verify/square.toml")),
    ("standard", include_str!("../../integrations/verify/standard.toml")),
    ("standard-ed25519", include_str!("../../integrations/verify/standard-ed25519.toml")),
    ("stripe", include_str!("../../integrations/verify/stripe.toml")),
    ("twilio", include_str!("../../integrations/verify/twilio.toml")),
    ("woocommerce", include_str!("../../integrations/verify/woocommerce.toml")),
    ("x", include_str!("../../integrations/verify/x.toml")),
    ("xero", include_str!("../../integrations/verify/xero.toml")),
    ("zendesk", include_str!("../../integrations/verify/zendesk.toml")),
    ("zoom", include_str!("../../integrations/verify/zoom.toml")),
];

/// Canonical schemas: name, and the text of `schemas/NAME.json`.
pub const SCHEMAS: &[(&str, &str)] = &[
    ("customer.v1", include_str!("../../schemas/customer.v1.json")),
    ("order.v1", include_str!("../../schemas/order.v1.json")),
    ("product.v1", include_str!("../../schemas/product.v1.json")),
];
