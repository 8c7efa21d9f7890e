//! Who asks, as far as a peer can tell: the same for the same credentials, in whichever file they stand.

use xxhash_rust::xxh3::Xxh3;

use super::{AuthError, Authenticator};
use crate::{
    auth::credential::{LOOK_UP_EVERY, look_up},
    map::Env,
    plan::{AuthKind, AuthPlan, Grant, Setting},
};

/// Tells one from another. It is a hash over secrets, so it lives in memory, and is shown nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Principal(u128);

impl Authenticator {
    /// Who the plan's requests come from; `None` where that is not known, since a secret is unset.
    pub fn principal(&self, connector: &str, plan: &AuthPlan, env: &Env) -> Option<Principal> {
        let entry = self.entry(connector, plan);
        let now = self.world.clock.now();
        let mut known = entry.principal.lock();
        if let Some((_, principal)) = known.filter(|(until, _)| now < *until) {
            return Some(principal);
        }
        let principal = of(connector, plan, env).ok()?;
        *known = Some((now.plus(LOOK_UP_EVERY), principal));
        Some(principal)
    }
}

/// Of a plan's settings, resolved. What cannot be resolved before there is a request counts as it is written.
fn of(connector: &str, plan: &AuthPlan, env: &Env) -> Result<Principal, AuthError> {
    let mut hash = Xxh3::new();
    let mut add = |text: &str| {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    add(plan.kind.word());
    for (key, setting) in plan.settings() {
        add(&key);
        match setting {
            Setting::Word(word) => add(&word),
            Setting::Expr(expr) => match look_up(expr, env) {
                Ok(value) => add(value.expose()),
                Err(error) if expr.needs_secret() => return Err(error),
                Err(_) => add(expr.source()),
            },
        }
    }
    if is_a_persons(plan) {
        // Two people may have logged in through one client.
        add(connector);
        add(&plan.name);
    }
    Ok(Principal(hash.digest128()))
}

fn is_a_persons(plan: &AuthPlan) -> bool {
    matches!(&plan.kind, AuthKind::OAuth2(oauth2) if matches!(oauth2.grant, Grant::AuthorizationCode { .. }))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::{
        map::{Expr, Library, Place, Site},
        world::StaticSecrets,
    };

    fn principal(secret: &str, of_secret: &str) -> Option<u128> {
        let place = Place { file: "a.toml".into(), line: 1, path: "auth.api".into() };
        let site = Site { names: &["vars", "secret"], root: None, lenient: false };
        let token = Expr::compile(secret, &site, place, &Library::default()).unwrap();
        let secrets = Arc::new(StaticSecrets::new([("KEY", of_secret), ("SAME", of_secret)]));
        let env = Env::new().with_secrets(secrets, Arc::new(BTreeMap::new()));
        let plan = AuthPlan::new("api", AuthKind::Bearer { token });
        of("shop", &plan, &env).ok().map(|Principal(hash)| hash)
    }

    #[test]
    fn the_same_credential_is_the_same_principal_whatever_it_is_called() {
        let one = principal("{{ secret.KEY }}", "s3cret");
        assert!(one.is_some());
        assert_eq!(principal("{{ secret.SAME }}", "s3cret"), one);
        assert_ne!(principal("{{ secret.KEY }}", "0ther"), one);
        // Who is not known is nobody's equal.
        assert_eq!(principal("{{ secret.UNSET }}", "s3cret"), None);
    }
}
