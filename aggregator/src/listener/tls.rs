//! TLS of a port: 1.3 only, a certificate of our own that never runs out, and clients of our
//! authority alone.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use common::{
    clock::{Clock, Timestamp},
    pki::{Authority, PkiError},
    task::Chain,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    time_provider::TimeProvider,
};
use thiserror::Error;
use tokio::time;
use tracing::{error, info};

use super::{Certificates, ListenError};

/// How long a certificate of ours lasts. It is renewed when a third of that is left.
const LIFETIME: Duration = Duration::from_secs(72 * 3600);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(600);

/// Why there is no certificate to serve with.
#[derive(Debug, Error)]
pub(super) enum TlsError {
    /// The authority did not issue it.
    #[error("could not issue the aggregator's own certificate")]
    Issue(#[source] PkiError),
    /// What was issued could not be read.
    #[error("could not read the aggregator's own {0}")]
    Pem(&'static str, #[source] rustls::pki_types::pem::Error),
    /// Its key is of no kind one can sign with.
    #[error("could not use the aggregator's own key")]
    Key(#[source] rustls::Error),
}

/// The certificate a port shows, and the means to renew it.
pub(super) struct OwnCertificate {
    authority: Arc<Authority>,
    clock: Arc<dyn Clock>,
    shown: RwLock<Shown>,
}

struct Shown {
    key: Arc<CertifiedKey>,
    not_after: Timestamp,
}

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnCertificate").finish_non_exhaustive()
    }
}

impl OwnCertificate {
    pub(super) fn issue(
        authority: Arc<Authority>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, TlsError> {
        let shown = RwLock::new(issue(&authority, clock.now())?);
        Ok(Self { authority, clock, shown })
    }

    /// Renews the certificate, for ever.
    pub(super) async fn keep_fresh(&self) {
        let mut look = time::interval(LOOK);
        look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            self.renew_if_due();
        }
    }

    fn renew_if_due(&self) {
        let now = self.clock.now();
        let left = self.shown.read().unwrap_or_else(PoisonError::into_inner).not_after.since(now);
        if left > LIFETIME / 3 {
            return;
        }
        match issue(&self.authority, now) {
            Ok(renewed) => {
                *self.shown.write().unwrap_or_else(PoisonError::into_inner) = renewed;
                info!("own certificate renewed");
            }
            Err(cause) => {
                error!(cause = %Chain(&cause), left = ?left, "own certificate not renewed")
            }
        }
    }
}

/// With the authority's certificate behind it: an agent that knows nothing but its fingerprint
/// finds it there.
fn issue(authority: &Authority, now: Timestamp) -> Result<Shown, TlsError> {
    let issued = authority.issue_server(now, LIFETIME).map_err(TlsError::Issue)?;
    let read = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes());
    let own = read(&issued.certificate_pem).map_err(|cause| TlsError::Pem("certificate", cause))?;
    let above =
        read(authority.certificate_pem()).map_err(|cause| TlsError::Pem("authority", cause))?;
    let key = issued.key_pem.unwrap_or_default();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|cause| TlsError::Pem("key", cause))?;
    let key = ring::sign::any_supported_type(&key).map_err(TlsError::Key)?;
    let key = Arc::new(CertifiedKey::new(vec![own, above], key));
    Ok(Shown { key, not_after: issued.not_after })
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&shown.key))
    }
}

/// Certificates are judged by the same clock that dates them.
struct ByClock(Arc<dyn Clock>);

impl fmt::Debug for ByClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByClock").finish()
    }
}

impl TimeProvider for ByClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since_epoch = Duration::from_millis(self.0.now().as_millis());
        Some(UnixTime::since_unix_epoch(since_epoch))
    }
}

/// TLS as a port speaks it.
///
/// # Errors
///
/// If the authority's certificate cannot be used.
pub(super) fn config(
    authority: &Authority,
    own: Arc<OwnCertificate>,
    certificates: Certificates,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, ListenError> {
    let fail = |cause: Box<dyn std::error::Error + Send + Sync>| ListenError(cause);
    let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
    let root = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes())
        .map_err(|cause| fail(Box::new(cause)))?;
    let mut roots = RootCertStore::empty();
    roots.add(root).map_err(|cause| fail(Box::new(cause)))?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = match certificates {
        Certificates::Optional => verifier.allow_unauthenticated(),
        Certificates::Required => verifier,
    };
    let verifier = verifier.build().map_err(|cause| fail(Box::new(cause)))?;
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(ByClock(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|cause| fail(Box::new(cause)))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Nothing is resumed: every connection shows its certificate and proves its key anew.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// When a certificate (DER) ends; 1970 for one that cannot be read.
pub(super) fn not_after(certificate: &[u8]) -> Timestamp {
    let seconds = x509_parser::parse_x509_certificate(certificate)
        .map_or(0, |(_, parsed)| parsed.validity().not_after.timestamp());
    Timestamp::from_millis(u64::try_from(seconds).unwrap_or_default().saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    struct Turned(AtomicU64);

    impl Clock for Turned {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn the_own_certificate_is_renewed_before_it_ends() {
        let clock = Arc::new(Turned(AtomicU64::new(1_800_000_000_000)));
        let authority = Arc::new(Authority::create(clock.now()).unwrap());
        let own = OwnCertificate::issue(authority, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let first = own.shown.read().unwrap().not_after;

        own.renew_if_due();
        assert_eq!(own.shown.read().unwrap().not_after, first);

        let hours = 50 * 3600 * 1000;
        clock.0.fetch_add(hours, Ordering::Relaxed);
        own.renew_if_due();
        assert_eq!(own.shown.read().unwrap().not_after, first + Duration::from_millis(hours));
        assert_eq!(own.shown.read().unwrap().key.cert.len(), 2);
    }
}
