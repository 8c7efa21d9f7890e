//! `mtls`: a client certificate, and connections that no other identity uses.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::WebPkiClientVerifier,
};
use tenon::{
    auth::AuthError,
    egress::{Egress, EgressConfig, EgressError, ExchangeLimits},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use super::rig::{Rig, der, pem, said};

const LIMITS: ExchangeLimits =
    ExchangeLimits { timeout: std::time::Duration::from_secs(5), max_response_bytes: 1 << 16 };

/// Answers with the number of the connection and the certificate that it was made with.
struct Server {
    port: u16,
    _serving: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(der("ca"))).unwrap();
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .unwrap();
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![CertificateDer::from(der("server"))],
                PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der("server_key"))),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (acceptor, connections) = (acceptor.clone(), connections.clone());
                open.spawn(async move {
                    let Ok(socket) = acceptor.accept(socket).await else { return };
                    let number = connections.fetch_add(1, Ordering::SeqCst);
                    let shown = socket.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                    let who = if shown == der("one") { "one" } else { "other" };
                    let service = service_fn(move |request: Request<Incoming>| async move {
                        let text = match request.uri().path() {
                            "/token" => format!("{{\"access_token\": \"{number}-{who}\"}}"),
                            _ => format!("{number} {who}"),
                        };
                        let body = Full::<Bytes>::from(text);
                        Ok::<_, std::convert::Infallible>(Response::new(body))
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    server.serve_connection(TokioIo::new(socket), service).await.ok();
                });
            }
        });
        Self { port, _serving: serving }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/", self.port)
    }
}

fn egress() -> Egress {
    let allow = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    Egress::new(EgressConfig { allow, idle_per_host: 4 })
}

const TABLE: &str = "[auth.api]\ntype = \"mtls\"\ncertificate = \"{{ secret.CERT }}\"\n\
    private_key = \"{{ secret.KEY }}\"\nca = \"{{ secret.CA }}\"\n";

fn rig(certificate: &str, key: &str) -> Rig {
    let (certificate, key) = (pem("CERTIFICATE", certificate), pem("PRIVATE KEY", key));
    Rig::new(TABLE, &[("CERT", &certificate), ("KEY", &key), ("CA", &pem("CERTIFICATE", "ca"))])
}

async fn asked(egress: &Egress, rig: &Rig, url: &str) -> Result<String, EgressError> {
    let request = Request::get(url).body(Bytes::new()).unwrap();
    let (request, _) = rig.put_into(request).await.unwrap();
    let answer = egress.send(request, LIMITS).await?;
    Ok(String::from_utf8(answer.body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_certificate_is_shown_and_its_connections_are_its_own() {
    let server = Server::start().await;
    let (one, other) = (rig("one", "one_key"), rig("other", "other_key"));
    // The same certificate of another connector is the same identity.
    let twin = rig("one", "one_key");
    let egress = egress();
    let url = server.url();
    assert_eq!(asked(&egress, &one, &url).await.unwrap(), "0 one");
    assert_eq!(asked(&egress, &other, &url).await.unwrap(), "1 other");
    assert_eq!(asked(&egress, &one, &url).await.unwrap(), "0 one");
    assert_eq!(asked(&egress, &twin, &url).await.unwrap(), "0 one");
    assert_eq!(asked(&egress, &other, &url).await.unwrap(), "1 other");
    // Without a certificate, or in the clear, nothing is sent.
    let bare = Request::get(&url).body(Bytes::new()).unwrap();
    assert!(egress.send(bare, LIMITS).await.is_err());
    let clear = asked(&egress, &one, &url.replace("https", "http")).await.unwrap_err();
    assert_eq!(clear, EgressError::BadUrl("a client certificate needs https".to_owned()));
}

#[tokio::test]
async fn tokens_are_asked_for_with_the_same_certificate() {
    let server = Server::start().await;
    let tables = format!(
        "[auth.api]\ntype = \"oauth2\"\ngrant = \"client_credentials\"\nclient_id = \"bank\"\n\
         token_url = \"{}token\"\nidentity = \"cert\"\n{}",
        server.url(),
        TABLE.replace("auth.api", "auth.cert")
    );
    let secrets = [
        ("CERT", pem("CERTIFICATE", "one")),
        ("KEY", pem("PRIVATE KEY", "one_key")),
        ("CA", pem("CERTIFICATE", "ca")),
    ];
    let secrets: Vec<(&str, &str)> = secrets.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let both = Rig::new(&tables, &secrets);
    // Asked for over one client's connection, used over another's: the same certificate.
    let request = Request::get(server.url()).body(Bytes::new()).unwrap();
    let (request, _) = both.put_into(request).await.unwrap();
    assert_eq!(request.headers()["authorization"], "Bearer 0-one");
    let answer = egress().send(request, LIMITS).await.unwrap();
    assert_eq!(answer.body, "1 one");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_does_not_fit_its_key_is_held_and_not_shown() {
    for (certificate, key) in [("one", "other_key"), ("one_key", "one"), ("one", "rsa")] {
        let AuthError::Held(message) = rig(certificate, key).failure().await else { panic!() };
        assert!(message.starts_with("auth api: "), "{message}");
        assert!(!message.contains("MI"), "{message}");
    }
}

#[test]
fn what_is_no_certificate_cannot_be_an_identity() {
    let tables = "[auth.api]\ntype = \"bearer\"\ntoken = \"{{ secret.T }}\"\nidentity = \"key\"\n\
        [auth.key]\ntype = \"header\"\nname = \"X-Key\"\nvalue = \"{{ secret.K }}\"\n";
    insta::assert_snapshot!(said("api", tables));
}
