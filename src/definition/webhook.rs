//! `[stream.NAME.webhook]`: an endpoint that a producer posts to.

use super::{
    collections::{Any, OneOrMany},
    kinds::{Expression, Int, Plain, Size},
    poll::MethodDef,
    table::{At, Kind, Node, Reader, Shape, table},
};

table! {
    /// An endpoint that a producer posts to.
    pub struct WebhookDef "[stream.NAME.webhook]" {
        /// The URL's path, matched exactly.
        path "path": Plain;
        /// The methods that are taken.
        methods "methods": OneOrMany<MethodDef> = "[\"POST\"]";
        /// How the request proves where it comes from: a preset, a `[verify.NAME]` table, or `none`.
        verify "verify": Plain;
        /// The secret that verifies.
        secret "secret": Expression;
        /// Several secrets at once, while one is rotated.
        secrets "secrets": Vec<At<SecretEntry>>;
        /// For `basic`: the user's name.
        user "user": Expression;
        /// What a handshake that is not signed has to repeat, such as Meta's verify token.
        verify_token "verify_token": Expression;
        /// The URL as it is registered with the producer, where a signature over it cannot go by what arrives here.
        url "url": Expression;
        /// The path from the body to the events, where a request carries many.
        events "events": Expression;
        /// The answer, instead of 202 and the event's id.
        reply "reply": ReplyDef;
        /// Longest body that is taken.
        max_body "max_body": Size = "\"1MiB\"";
    }
}

table! {
    /// What the webhooks of all streams share.
    pub struct SharedWebhookDef "[source.webhook]" {
        /// The URL's path, matched exactly.
        path "path": Plain;
        /// How requests prove where they come from.
        verify "verify": Plain;
        /// The secret that verifies.
        secret "secret": Expression;
        /// Several secrets at once, while one is rotated.
        secrets "secrets": Vec<At<SecretEntry>>;
    }
}

table! {
    /// The answer to a request whose event is durable.
    pub struct ReplyDef "`reply`" {
        /// The HTTP status.
        status "status": Int<200, 299> = "202";
        /// Text, or a JSON document.
        body "body": Any;
    }
}

table! {
    /// One of several secrets.
    pub struct SecretDef "an item of `secrets`" {
        /// The secret.
        value "value": Expression, required;
        /// The time after which it verifies no more.
        not_after "not_after": super::kinds::Moment;
    }
}

/// An item of `secrets`: the secret, or a table that says until when.
#[derive(Debug)]
pub enum SecretEntry {
    /// Without end.
    Value(Expression),
    /// With an end.
    Dated(SecretDef),
}

impl Kind for SecretEntry {
    const SHAPE: Shape = Shape::Either(&Shape::Expression, &SecretDef::SHAPE);

    fn read(node: &Node<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        match node.get_ref() {
            toml::de::DeValue::Table(_) => SecretDef::read(node, reader).map(Self::Dated),
            _ => Expression::read(node, reader).map(Self::Value),
        }
    }
}
