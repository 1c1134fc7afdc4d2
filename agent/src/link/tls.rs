//! Whom the agent trusts: before it has an identity the one certificate whose fingerprint it was
//! told, afterwards the authorities that came with the identity. Never the system's own list.

use std::sync::Arc;

use common::pki;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};

use super::Broken;
use crate::identity::Identity;

fn tls<E: Into<Box<dyn std::error::Error + Send + Sync>>>(cause: E) -> Broken {
    Broken::Tls(cause.into())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn http2(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// For enrolment: the peer's chain must lead to the certificate with that fingerprint.
pub(super) fn pinned(fingerprint: &str) -> Result<Arc<ClientConfig>, Broken> {
    let provider = provider();
    let verifier = Pinned { fingerprint: fingerprint.to_owned(), provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(http2(config))
}

/// For everything else: both ends show who they are.
pub(super) fn mutual(identity: &Identity) -> Result<Arc<ClientConfig>, Broken> {
    let (certificate, key, authority) = identity.pems();
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(root.map_err(tls)?).map_err(tls)?;
    }
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(tls)?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(tls)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(tls)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(tls)?;
    Ok(http2(config))
}

/// Trusts what is issued by one certificate, known by its fingerprint.
#[derive(Debug)]
struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_it = |shown: &&CertificateDer<'_>| pki::fingerprint(shown) == self.fingerprint;
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = intermediates.iter().find(is_it).ok_or(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|cause| Error::General(cause.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use common::{
        clock::Timestamp,
        pki::{Authority, SERVER_NAME},
    };

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
    }

    fn der(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    fn verify(pin: &Authority, shown: &[CertificateDer<'static>], name: &str) -> bool {
        let fingerprint = pki::fingerprint_of_pem(pin.certificate_pem()).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_millis(now().as_millis()));
        let pinned = Pinned { fingerprint, provider: provider() };
        pinned.verify_server_cert(&shown[0], &shown[1..], &name, &[], now).is_ok()
    }

    #[test]
    fn only_a_chain_to_the_pinned_certificate_is_trusted() {
        let (ours, theirs) = (Authority::create(now()).unwrap(), Authority::create(now()).unwrap());
        let leaf = |from: &Authority| {
            der(&from.issue_server(now(), Duration::from_secs(60)).unwrap().certificate_pem)
        };
        let root = |of: &Authority| der(of.certificate_pem());

        assert!(verify(&ours, &[leaf(&ours), root(&ours)], SERVER_NAME));
        // The pinned certificate beside a leaf that is not its own is what an impostor shows.
        assert!(!verify(&ours, &[leaf(&theirs), root(&ours)], SERVER_NAME));
        assert!(!verify(&ours, &[leaf(&theirs), root(&theirs)], SERVER_NAME));
        assert!(!verify(&ours, &[leaf(&ours)], SERVER_NAME));
        assert!(!verify(&ours, &[leaf(&ours), root(&ours)], "somebody-else"));
    }

    #[test]
    fn an_agents_certificate_is_no_servers() {
        let ours = Authority::create(now()).unwrap();
        let request = pki::AgentKey::generate().unwrap().request().unwrap();
        let agent = "a-1".parse().unwrap();
        let issued = ours.issue_agent(&request, &agent, now(), Duration::from_secs(60)).unwrap();
        assert!(!verify(
            &ours,
            &[der(&issued.certificate_pem), der(ours.certificate_pem())],
            SERVER_NAME
        ));
    }
}
