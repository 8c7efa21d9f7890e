//! TLS: rustls on ring, the machine's own root certificates, loaded at the first https request.

use std::sync::{Arc, OnceLock};

use hyper_rustls::ConfigBuilderExt;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, client::WantsClientCert};

use super::error::EgressError;

/// The process's one configuration. A machine without root certificates fails only where it needs
/// them, and not for good: the next https request looks again.
#[derive(Default)]
pub(super) struct Tls(OnceLock<Arc<ClientConfig>>);

impl Tls {
    /// A configuration made elsewhere.
    #[cfg(test)]
    pub(super) fn with(config: ClientConfig) -> Self {
        Self(OnceLock::from(Arc::new(config)))
    }

    /// The configuration: HTTP/2 where the peer speaks it, else HTTP/1.1.
    pub(super) async fn config(&self) -> Result<Arc<ClientConfig>, EgressError> {
        if let Some(config) = self.0.get() {
            return Ok(config.clone());
        }
        // Reads a bundle of certificates: not on a thread that others wait for.
        let loaded = tokio::task::spawn_blocking(load)
            .await
            .map_err(|_| EgressError::Tls("loading the root certificates failed".to_owned()))??;
        Ok(self.0.get_or_init(|| Arc::new(loaded)).clone())
    }
}

fn load() -> Result<ClientConfig, EgressError> {
    let mut config = trusting(None)?.with_no_client_auth();
    offer_protocols(&mut config);
    Ok(config)
}

/// The beginning of a configuration: it trusts these roots, or the machine's own.
pub(super) fn trusting(
    roots: Option<&RootCertStore>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, EgressError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| EgressError::Tls(error.to_string()))?;
    match roots {
        Some(roots) => Ok(builder.with_root_certificates(roots.clone())),
        None => builder
            .with_native_roots()
            .map_err(|error| EgressError::Tls(format!("no root certificates: {error}"))),
    }
}

/// ALPN: h2 first.
pub(super) fn offer_protocols(config: &mut ClientConfig) {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        time::Duration,
    };

    use bytes::Bytes;
    use data_encoding::BASE64;
    use http::{Request, Response, Version};
    use http_body_util::Full;
    use hyper::{body::Incoming, service::service_fn};
    use hyper_util::{
        rt::{TokioExecutor, TokioIo},
        server::conn::auto,
    };
    use rustls::{
        ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    };
    use tokio::{net::TcpListener, task::JoinSet};
    use tokio_rustls::TlsAcceptor;

    use crate::egress::{Egress, EgressConfig, EgressError, ExchangeLimits};

    /// For `localhost` and 127.0.0.1, signed by itself, valid until 2126.
    const CERTIFICATE: &str = "MIIBmDCCAT6gAwIBAgIUI3FIHneDGvs//zo7p1xAO9xwJLMwCgYIKoZIzj0EAwIwFD\
        ESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjExMzQwM1oYDzIxMjYxMDI5MTEzNDAzWjAUMRIwEAYDVQQDDAlsb2\
        NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAS1vIAM4AZgbTRppll40ePL3ENTMiwKurstq5yqNMjtwj8TTT\
        YMUz929W9TpTbzrnrKi76KO4qiMVn9RSarLECDo2wwajAdBgNVHQ4EFgQUxOipqtZLbp32e78E8bQew0Qq2PYwHwYDVR\
        0jBBgwFoAUxOipqtZLbp32e78E8bQew0Qq2PYwGgYDVR0RBBMwEYIJbG9jYWxob3N0hwR/AAABMAwGA1UdEwEB/wQCMA\
        AwCgYIKoZIzj0EAwIDSAAwRQIhANXntsexWJmBlof7bAmgErVhsBhnen0dF7OWZBUkt0LaAiAgcrF6peMloL6JOIuCpJ\
        HGBWZl3GOtdvsgq+uBptA+tw==";
    /// Of that certificate; it protects nothing.
    const TEST_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg4bAHm7CevG/K53+YeUXaIp\
        AJLwEbsKWY/fOpfOwKyLOhRANCAAS1vIAM4AZgbTRppll40ePL3ENTMiwKurstq5yqNMjtwj8TTTYMUz929W9TpTbzrn\
        rKi76KO4qiMVn9RSarLECD";

    const LIMITS: ExchangeLimits =
        ExchangeLimits { timeout: Duration::from_secs(5), max_response_bytes: 1 << 16 };

    fn certificate() -> CertificateDer<'static> {
        CertificateDer::from(BASE64.decode(CERTIFICATE.as_bytes()).unwrap())
    }

    fn client(roots: RootCertStore) -> Egress {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let allow = vec!["127.0.0.0/8".parse().unwrap()];
        Egress::with_tls(EgressConfig { allow, ..EgressConfig::default() }, tls)
    }

    fn trusting() -> Egress {
        let mut roots = RootCertStore::empty();
        roots.add(certificate()).unwrap();
        client(roots)
    }

    /// A TLS server that echoes the host and counts its connections.
    struct Server {
        address: SocketAddr,
        connections: Arc<AtomicUsize>,
        _serving: JoinSet<()>,
    }

    impl Server {
        async fn speaking(protocols: &[&str]) -> Self {
            let key = BASE64.decode(TEST_KEY.as_bytes()).unwrap();
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key));
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let mut tls = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(vec![certificate()], key)
                .unwrap();
            tls.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let connections = Arc::new(AtomicUsize::new(0));
            let counted = connections.clone();
            let mut serving = JoinSet::new();
            serving.spawn(async move {
                let mut open = JoinSet::new();
                loop {
                    let (socket, _) = listener.accept().await.unwrap();
                    let acceptor = acceptor.clone();
                    let counted = counted.clone();
                    open.spawn(async move {
                        let Ok(socket) = acceptor.accept(socket).await else { return };
                        counted.fetch_add(1, Ordering::SeqCst);
                        let server = auto::Builder::new(TokioExecutor::new());
                        let io = TokioIo::new(socket);
                        server.serve_connection(io, service_fn(echo)).await.ok();
                    });
                }
            });
            Self { address, connections, _serving: serving }
        }

        fn get(&self, host: &str) -> Request<Bytes> {
            let url = format!("https://{host}:{}/", self.address.port());
            Request::get(url).body(Bytes::new()).unwrap()
        }
    }

    async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let host = match request.version() {
            Version::HTTP_2 => request.uri().authority().map(|it| format!("2 {it}")),
            _ => request.headers().get("host").map(|it| format!("1 {}", it.to_str().unwrap())),
        };
        Ok(Response::new(Full::from(host.unwrap_or_default())))
    }

    #[tokio::test]
    async fn http_2_is_spoken_where_offered_and_one_connection_carries_all() {
        let server = Server::speaking(&["h2", "http/1.1"]).await;
        let egress = trusting();
        let host = format!("localhost:{}", server.address.port());
        let first = egress.send(server.get("localhost"), LIMITS).await.unwrap();
        assert_eq!(first.body, format!("2 {host}"));
        let mut together = JoinSet::new();
        for _ in 0..10 {
            let (egress, request) = (egress.clone(), server.get("localhost"));
            together.spawn(async move { egress.send(request, LIMITS).await.unwrap().body });
        }
        while let Some(body) = together.join_next().await {
            assert_eq!(body.unwrap(), format!("2 {host}"));
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn http_1_is_kept_alive_under_tls() {
        let server = Server::speaking(&["http/1.1"]).await;
        let egress = trusting();
        for _ in 0..3 {
            let answer = egress.send(server.get("127.0.0.1"), LIMITS).await.unwrap();
            assert_eq!(answer.body, format!("1 127.0.0.1:{}", server.address.port()));
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_trusted_or_for_another_is_refused() {
        let server = Server::speaking(&["h2"]).await;
        let stranger = client(RootCertStore::empty());
        for (egress, host) in [(stranger, "localhost"), (trusting(), "other.localhost")] {
            let error = egress.send(server.get(host), LIMITS).await.unwrap_err();
            assert!(matches!(error, EgressError::Tls(_)), "{host}: {error:?}");
        }
        assert_eq!(server.connections.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn https_to_what_speaks_no_tls_fails_in_the_handshake() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
        let serve = async { drop(listener.accept().await) };
        let egress = trusting();
        let request = Request::get(url).body(Bytes::new()).unwrap();
        let ((), result) = tokio::join!(serve, egress.send(request, LIMITS));
        assert!(matches!(result, Err(EgressError::Tls(_))), "{result:?}");
    }
}
