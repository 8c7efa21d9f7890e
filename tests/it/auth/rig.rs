//! A connector file's `[auth.NAME]` tables, and requests that they are put into.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use data_encoding::BASE64;
use http::Request;
use serde_json::Value;
use tenon::{
    auth::{AuthError, Authenticator, Carried},
    bus::MemoryBus,
    diagnostic::{SourceFile, render_human},
    egress::{Egress, EgressConfig},
    map::Env,
    plan::{CompiledFile, ConnectorPlan, Sources, compile_file},
    world::{ScriptedClock, ScriptedEntropy, StaticSecrets, Timestamp, World},
};

/// 2015-08-30T12:36:00Z, when the vectors of AWS were signed.
pub const THEN: Timestamp = Timestamp(1_440_938_160_000);

struct One(Arc<SourceFile>);

impl Sources for One {
    fn read(&self, path: &Path) -> Option<Arc<SourceFile>> {
        (path == self.0.path).then(|| Arc::clone(&self.0))
    }
}

/// A connector whose destination is authenticated by `auth`; `tables` are the rest.
pub fn compile(auth: &str, tables: &str) -> CompiledFile {
    let text = format!(
        "name = \"shop\"\nowner = \"tests\"\n[stream.orders.webhook]\npath = \"/shop\"\nverify = \"none\"\n\
         [destination.erp]\ntype = \"http\"\nurl = \"https://erp.example/orders\"\nauth = '{auth}'\n{tables}\n"
    );
    let path = PathBuf::from("shop.toml");
    let file = Arc::new(SourceFile { path: path.clone(), text });
    compile_file(Path::new(""), &path, &One(file))
}

/// What is said about it.
pub fn said(auth: &str, tables: &str) -> String {
    render_human(&compile(auth, tables).diagnostics, false)
}

/// An authenticator with the tables of one file.
pub struct Rig {
    pub auth: Arc<Authenticator>,
    pub plan: Arc<ConnectorPlan>,
    pub world: World,
}

impl Rig {
    pub fn new(tables: &str, secrets: &[(&str, &str)]) -> Self {
        Self::at(THEN, tables, secrets)
    }

    pub fn at(now: Timestamp, tables: &str, secrets: &[(&str, &str)]) -> Self {
        let compiled = compile("api", tables);
        let said = render_human(&compiled.diagnostics, false);
        let plan = compiled.plan.unwrap_or_else(|| panic!("{said}"));
        let world = World {
            clock: Arc::new(ScriptedClock::starting_at(now)),
            entropy: Arc::new(ScriptedEntropy::seeded(3)),
            secrets: Arc::new(StaticSecrets::new(secrets.iter().copied())),
        };
        let allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
        let egress = Egress::new(EgressConfig { allow, idle_per_host: 4 });
        let bus = MemoryBus::new(world.clock.clone());
        let auth = Arc::new(Authenticator::new(world.clone(), egress, bus));
        Self { auth, plan, world }
    }

    fn env(&self) -> Env {
        Env::new()
            .with("vars", self.plan.vars.clone())
            .with_secrets(self.world.secrets.clone(), self.plan.secret_names.clone())
    }

    /// The request as `[auth.api]` makes it.
    pub async fn put_into(
        &self,
        request: Request<Bytes>,
    ) -> Result<(Request<Bytes>, Carried), AuthError> {
        let mut request = request;
        let plan = self.plan.auths["api"].clone();
        let carried = self.auth.apply("shop", &plan, &self.env(), &mut request).await?;
        Ok((request, carried))
    }

    /// A GET as it is made.
    pub async fn get(&self, url: &str) -> Request<Bytes> {
        let request = Request::get(url).body(Bytes::new()).unwrap();
        self.put_into(request).await.unwrap().0
    }

    pub async fn failure(&self) -> AuthError {
        let request = Request::get("https://api.example/").body(Bytes::new()).unwrap();
        self.put_into(request).await.unwrap_err()
    }

    pub fn refused(&self, carried: &Carried) -> bool {
        self.auth.refused("shop", &self.plan.auths["api"], carried)
    }
}

pub fn header<'r>(request: &'r Request<Bytes>, name: &str) -> &'r str {
    request.headers()[name].to_str().unwrap()
}

fn keys() -> Value {
    serde_json::from_str(include_str!("../fixtures/keys.json")).unwrap()
}

/// DER of a key or certificate of `fixtures/keys.json`; they protect nothing.
pub fn der(name: &str) -> Vec<u8> {
    BASE64.decode(keys()[name].as_str().unwrap().as_bytes()).unwrap()
}

/// The same as PEM.
pub fn pem(what: &str, name: &str) -> String {
    let base64 = keys()[name].as_str().unwrap().to_owned();
    format!("-----BEGIN {what}-----\n{base64}\n-----END {what}-----\n")
}
