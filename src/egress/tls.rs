//! TLS: rustls on ring, the machine's own root certificates, loaded at the first https request.

use std::sync::{Arc, OnceLock};

use hyper_rustls::ConfigBuilderExt;
use rustls::ClientConfig;

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
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| EgressError::Tls(error.to_string()))?
        .with_native_roots()
        .map_err(|error| EgressError::Tls(format!("no root certificates: {error}")))?
        .with_no_client_auth();
    offer_protocols(&mut config);
    Ok(config)
}

/// ALPN: h2 first.
pub(super) fn offer_protocols(config: &mut ClientConfig) {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
}
