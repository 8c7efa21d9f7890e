//! A client certificate: who this side is to a peer that asks for one (TLS, RFC 8446, 4.4.2).

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use ring::digest::{SHA256, digest};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::{error::EgressError, tls};

/// A certificate with its private key. A request that carries one in its extensions is sent over
/// connections made with it, which no other request shares. Cheap to clone.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    /// Hash of what it was made from: two of the same are the same.
    id: IdentityId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca: Option<RootCertStore>,
    config: OnceLock<Arc<ClientConfig>>,
}

/// What tells identities apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct IdentityId([u8; 32]);

impl Identity {
    /// From PEM: the certificate with those that lead to its root, its private key (PKCS #8, PKCS #1
    /// or SEC 1), and the roots that the peer's certificate must lead to where they are not the
    /// machine's own. The error says which of the three is wrong, and shows nothing of it.
    pub fn from_pem(certificate: &str, key: &str, ca: Option<&str>) -> Result<Self, String> {
        let id = id_of(&[certificate, key, ca.unwrap_or_default()]);
        let chain = certificates(certificate).ok_or("the certificate is not PEM")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| "the private key is not PEM")?;
        let provider = rustls::crypto::ring::default_provider();
        CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider)
            .map_err(|error| format!("the certificate and the private key do not fit: {error}"))?;
        let ca = match ca {
            None => None,
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(pem).ok_or("`ca` is not PEM")? {
                    roots.add(root).map_err(|error| format!("`ca` is no root: {error}"))?;
                }
                Some(roots)
            }
        };
        Ok(Self(Arc::new(Inner { id, chain, key, ca, config: OnceLock::new() })))
    }

    /// Whether this was made of the same texts.
    pub fn is_of(&self, certificate: &str, key: &str, ca: Option<&str>) -> bool {
        self.0.id == id_of(&[certificate, key, ca.unwrap_or_default()])
    }

    pub(super) fn id(&self) -> IdentityId {
        self.0.id
    }

    /// Its own configuration, and with it its own store of sessions: a session that was begun with
    /// one certificate is never resumed with another.
    pub(super) async fn config(&self) -> Result<Arc<ClientConfig>, EgressError> {
        if let Some(config) = self.0.config.get() {
            return Ok(config.clone());
        }
        let identity = self.clone();
        // May read the machine's bundle of certificates: not on a thread that others wait for.
        let loaded = tokio::task::spawn_blocking(move || identity.load())
            .await
            .map_err(|_| EgressError::Tls("loading the root certificates failed".to_owned()))??;
        Ok(self.0.config.get_or_init(|| Arc::new(loaded)).clone())
    }

    fn load(&self) -> Result<ClientConfig, EgressError> {
        let Inner { chain, key, ca, .. } = &*self.0;
        let trusting = tls::trusting(ca.as_ref())?;
        let mut config = trusting
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(|error| EgressError::Tls(error.to_string()))?;
        tls::offer_protocols(&mut config);
        Ok(config)
    }
}

fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    (!found.is_empty()).then_some(found)
}

fn id_of(texts: &[&str]) -> IdentityId {
    let mut all = Vec::new();
    for text in texts {
        all.extend_from_slice(&(text.len() as u64).to_le_bytes());
        all.extend_from_slice(text.as_bytes());
    }
    let mut id = [0; 32];
    id.copy_from_slice(digest(&SHA256, &all).as_ref());
    IdentityId(id)
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity([redacted])")
    }
}
