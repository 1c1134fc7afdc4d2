//! Whom we believe at the other end of TLS.

use std::sync::Arc;

use common::pki;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _};

use super::{AddressError, Trust, text_of};

fn tls<E: Into<Box<dyn std::error::Error + Send + Sync>>>(cause: E) -> AddressError {
    AddressError::Tls(cause.into())
}

/// TLS 1.2 too: consoles of arrays and hypervisors are older than 1.3.
pub(super) fn config(trust: &Trust) -> Result<ClientConfig, AddressError> {
    let provider = Arc::new(ring::default_provider());
    match trust {
        Trust::Authority(path) => {
            let parse = |what: String| AddressError::Parse { path: path.clone(), what };
            let mut roots = RootCertStore::empty();
            for root in CertificateDer::pem_slice_iter(text_of(path)?.as_bytes()) {
                let root = root.map_err(|cause| parse(cause.to_string()))?;
                roots.add(root).map_err(|cause| parse(cause.to_string()))?;
            }
            if roots.is_empty() {
                return Err(parse("it holds no certificate in PEM".to_owned()));
            }
            believing(provider, roots)
        }
        Trust::Fingerprint(fingerprint) => {
            let fingerprint = fingerprint.to_ascii_lowercase().replace(':', "");
            let verifier = Pinned { fingerprint, provider: Arc::clone(&provider) };
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(tls)?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_no_client_auth();
            Ok(config)
        }
    }
}

/// Believes nobody.
pub(super) fn none() -> Result<ClientConfig, AddressError> {
    believing(Arc::new(ring::default_provider()), RootCertStore::empty())
}

fn believing(
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
) -> Result<ClientConfig, AddressError> {
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

/// Trusts the one certificate with a fingerprint, whatever its name and whoever issued it: consoles
/// of appliances issue their own.
#[derive(Debug)]
struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if pki::fingerprint(end_entity) == self.fingerprint {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, known)
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
