//! People's logins: begun and finished here, so that neither a verifier nor a token leaves the daemon.

use std::sync::Arc;

use super::{Engine, connector::Connector};
use crate::{
    auth::{AuthError, LoginState, Redirected},
    map::Env,
    plan::{AuthKind, AuthPlan, Grant},
};

/// One `[auth.NAME]` that a person logs in for, and how that stands.
#[derive(Clone, Debug)]
pub struct Login {
    /// The connector.
    pub connector: Arc<str>,
    /// The table.
    pub auth: Arc<str>,
    /// `None`: nobody has. An error is one line, without secrets.
    pub state: Result<Option<LoginState>, AuthError>,
}

impl Engine {
    /// Begins a login: the table's name and the page that a person opens. Without a name it is the
    /// connector's only one. `redirect` has to lead back to this machine. Errors: a sentence.
    pub fn begin_login(
        &self,
        connector: &str,
        auth: Option<&str>,
        redirect: &str,
    ) -> Result<(Arc<str>, String), String> {
        if !leads_here(redirect) {
            return Err("a login's redirect leads to http://127.0.0.1:PORT".to_owned());
        }
        let (connector, plan) = self.found(connector, auth)?;
        let (name, env) = (&connector.plan.name, self.login_env(&connector));
        let begun = self.shared.auth.begin_login(name, &plan, &env, redirect);
        let begun = begun.map_err(|error| error.to_string())?;
        Ok((plan.name.clone(), begun.url))
    }

    /// Redeems what a person brought back, and lifts the connector's holds. How many there were.
    pub async fn finish_login(
        &self,
        connector: &str,
        auth: &str,
        back: &Redirected,
    ) -> Result<usize, String> {
        let (connector, plan) = self.found(connector, Some(auth))?;
        let (name, env) = (&connector.plan.name, self.login_env(&connector));
        let finished = self.shared.auth.finish_login(name, &plan, &env, back).await;
        finished.map_err(|error| error.to_string())?;
        self.resume(name, None).await
    }

    /// Every table that a person logs in for, by connector and name.
    pub fn logins(&self) -> Vec<Login> {
        let connectors: Vec<Arc<Connector>> =
            self.running.read().connectors.values().cloned().collect();
        let mut all: Vec<Login> = Vec::new();
        for connector in connectors {
            let env = self.login_env(&connector);
            let plans = connector.plan.auths.values().filter(|plan| is_by_person(plan));
            all.extend(plans.map(|plan| Login {
                connector: connector.plan.name.clone(),
                auth: plan.name.clone(),
                state: self.shared.auth.login_state(&connector.plan.name, plan, &env),
            }));
        }
        all.sort_by(|a, b| (&a.connector, &a.auth).cmp(&(&b.connector, &b.auth)));
        all
    }

    fn found(
        &self,
        connector: &str,
        auth: Option<&str>,
    ) -> Result<(Arc<Connector>, Arc<AuthPlan>), String> {
        let running = self.running.read().connectors.get(connector).cloned();
        let running = running.ok_or_else(|| format!("no connector named `{connector}` runs"))?;
        let by_person: Vec<&Arc<AuthPlan>> =
            running.plan.auths.values().filter(|plan| is_by_person(plan)).collect();
        let names: Vec<&str> = by_person.iter().map(|plan| &*plan.name).collect();
        let found = match (auth, by_person.as_slice()) {
            (None, [only]) => Some(*only),
            (None, _) => None,
            (Some(name), all) => all.iter().find(|plan| *plan.name == *name).copied(),
        };
        let plan = found.cloned().ok_or_else(|| match names.as_slice() {
            [] => format!("`{connector}` has no auth with grant \"authorization_code\""),
            names => format!("`{connector}` has these to log in for: {}", names.join(", ")),
        })?;
        Ok((running, plan))
    }

    fn login_env(&self, connector: &Connector) -> Env {
        let secrets = Arc::clone(&self.shared.world.secrets);
        Env::new()
            .with("vars", connector.plan.vars.clone())
            .with_secrets(secrets, connector.plan.secret_names.clone())
    }
}

fn is_by_person(plan: &AuthPlan) -> bool {
    matches!(&plan.kind, AuthKind::OAuth2(oauth)
        if matches!(oauth.grant, Grant::AuthorizationCode { .. }))
}

/// RFC 8252, 7.3: a loopback address, any port.
fn leads_here(redirect: &str) -> bool {
    url::Url::parse(redirect).is_ok_and(|url| {
        url.scheme() == "http" && matches!(url.host_str(), Some("127.0.0.1" | "localhost"))
    })
}
