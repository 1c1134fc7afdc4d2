//! Certificates: the authority, what it issues, and who a certificate speaks for.
//!
//! Values in, values out: no disk, no socket, and `now` is handed in. A certificate says who its
//! holder is in one place, a URI that only the authority writes; of a certificate request nothing
//! but the public key is used.

use std::{fmt, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use time::OffsetDateTime;
use x509_parser::{extensions::GeneralName, pem::parse_x509_pem};

use crate::{clock::Timestamp, id::AgentId};

/// The name that is in the aggregator's certificate and that every client asks for, whatever
/// address it dials.
pub const SERVER_NAME: &str = "sinter-aggregator";

/// Certificates are good from a little before they are made: clocks of guests are off.
const BACKDATED: Duration = Duration::from_secs(3600);
/// How long an authority lasts. Longer than any machine it issues for.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
const AGENT_PREFIX: &str = "sinter://agent/";
const USER_PREFIX: &str = "sinter://user/";

/// Why a certificate could not be made, or says nobody's name.
#[derive(Debug, Error)]
pub enum PkiError {
    /// The library could not make it.
    #[error("could not make {what}")]
    Make {
        /// What.
        what: &'static str,
        /// Why not.
        #[source]
        cause: rcgen::Error,
    },
    /// A key or a certificate could not be read.
    #[error("could not read {what}")]
    Read {
        /// What.
        what: &'static str,
        /// Why not.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A name that cannot stand in a certificate.
    #[error(
        "name {0:?} cannot stand in a certificate; letters, digits and -_. are allowed, 1 to 64 of them"
    )]
    Name(String),
    /// The system gave no random numbers.
    #[error("could not make a serial number: the system gave no random numbers")]
    Random,
    /// It names nobody we know how to trust.
    #[error("certificate names nobody: {0}")]
    Nobody(String),
}

/// What a user may do; from [`Role::Viewer`] on each may what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Hand in what a collector of somebody else's saw, and look at nothing.
    Collector,
    /// Look.
    Viewer,
    /// Decide on plans.
    Operator,
    /// Set policy, make tokens, revoke.
    Admin,
}

impl Role {
    const ALL: [Self; 4] = [Self::Collector, Self::Viewer, Self::Operator, Self::Admin];

    /// Its name, as it stands in certificates.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Collector => "collector",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who the holder of a certificate is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// An agent.
    Agent(AgentId),
    /// A person, or a program that acts for one.
    User {
        /// What they may do.
        role: Role,
        /// Their name.
        name: String,
    },
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => write!(f, "agent {id}"),
            Self::User { role, name } => write!(f, "{role} {name}"),
        }
    }
}

/// A certificate that was issued.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key, if it was made here.
    pub key_pem: Option<String>,
    /// When it ends.
    pub not_after: Timestamp,
}

impl fmt::Debug for Issued {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The one that every certificate of an installation comes from.
pub struct Authority {
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn make(what: &'static str) -> impl Fn(rcgen::Error) -> PkiError {
    move |cause| PkiError::Make { what, cause }
}

fn read<E>(what: &'static str) -> impl Fn(E) -> PkiError
where
    E: std::error::Error + Send + Sync + 'static,
{
    move |cause| PkiError::Read { what, cause: Box::new(cause) }
}

/// A moment as certificates have it: whole seconds.
fn moment(at: Timestamp) -> OffsetDateTime {
    let seconds = i64::try_from(at.as_millis() / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_sub(by))
}

fn serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| PkiError::Random)?;
    // Positive and never zero, as RFC 5280 wants it.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn params(
    common_name: &str,
    now: Timestamp,
    lifetime: Duration,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = moment(earlier(now, BACKDATED));
    params.not_after = moment(now + lifetime);
    params.serial_number = Some(serial()?);
    Ok(params)
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    ///
    /// If the library or the system does not give what it takes.
    pub fn create(now: Timestamp) -> Result<Self, PkiError> {
        let mut params = params("Sinter authority", now, AUTHORITY_LIFETIME)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(make("the authority's key"))?;
        let certificate = params.self_signed(&key).map_err(make("the authority's certificate"))?;
        Self::from_pem(&certificate.pem(), &key.serialize_pem())
    }

    /// The authority of that certificate and key.
    ///
    /// # Errors
    ///
    /// If either cannot be read, or they do not belong together.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, PkiError> {
        let pair = KeyPair::from_pem(key).map_err(read("the authority's key"))?;
        let (_, pem) =
            parse_x509_pem(certificate.as_bytes()).map_err(read("the authority's certificate"))?;
        let parsed = pem.parse_x509().map_err(read("the authority's certificate"))?;
        if parsed.public_key().raw != pair.subject_public_key_info() {
            return Err(PkiError::Nobody(
                "the authority's key is not that of its certificate".into(),
            ));
        }
        let issuer = Issuer::from_ca_cert_pem(certificate, pair)
            .map_err(read("the authority's certificate"))?;
        Ok(Self { certificate_pem: certificate.to_owned(), key_pem: key.to_owned(), issuer })
    }

    /// Its certificate, to be trusted by all clients.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Its key. Whoever has it can be anybody.
    #[must_use]
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A certificate for the aggregator itself.
    ///
    /// # Errors
    ///
    /// If the library does not make it.
    pub fn issue_server(&self, now: Timestamp, lifetime: Duration) -> Result<Issued, PkiError> {
        let mut params = params(SERVER_NAME, now, lifetime)?;
        let name = SERVER_NAME.try_into().map_err(make("the server's name"))?;
        params.subject_alt_names = vec![SanType::DnsName(name)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue_with_key(params)
    }

    /// A certificate for an agent, over the public key of its request (PKCS#10, DER). Whatever
    /// else the request asks for is not looked at.
    ///
    /// # Errors
    ///
    /// If the request is none, or is not signed by its own key.
    pub fn issue_agent(
        &self,
        request: &[u8],
        id: &AgentId,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Issued, PkiError> {
        let what = "the certificate request";
        // Checks that the request is signed by the key it names.
        let request =
            CertificateSigningRequestParams::from_der(&request.into()).map_err(read(what))?;
        let params = client(&format!("{AGENT_PREFIX}{id}"), id.as_str(), now, lifetime)?;
        self.issue_over(params, &request.public_key)
    }

    /// A certificate and a key for a user.
    ///
    /// # Errors
    ///
    /// If the name cannot stand in a certificate.
    pub fn issue_user(
        &self,
        role: Role,
        name: &str,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Issued, PkiError> {
        if !is_user_name(name) {
            return Err(PkiError::Name(name.chars().take(80).collect()));
        }
        let params = client(&format!("{USER_PREFIX}{role}/{name}"), name, now, lifetime)?;
        self.issue_with_key(params)
    }

    fn issue_with_key(&self, params: CertificateParams) -> Result<Issued, PkiError> {
        let key = KeyPair::generate().map_err(make("a key"))?;
        let issued = self.issue_over(params, &key)?;
        Ok(Issued { key_pem: Some(key.serialize_pem()), ..issued })
    }

    fn issue_over(
        &self,
        params: CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<Issued, PkiError> {
        let seconds = u64::try_from(params.not_after.unix_timestamp()).unwrap_or_default();
        let certificate = params.signed_by(key, &self.issuer).map_err(make("a certificate"))?;
        let not_after = Timestamp::from_millis(seconds * 1000);
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: None, not_after })
    }
}

fn client(
    uri: &str,
    common_name: &str,
    now: Timestamp,
    lifetime: Duration,
) -> Result<CertificateParams, PkiError> {
    let mut params = params(common_name, now, lifetime)?;
    let uri = uri.try_into().map_err(make("the name in a certificate"))?;
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn is_user_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(is_allowed)
}

/// The key an agent makes for itself. It never leaves the guest.
pub struct AgentKey(KeyPair);

impl fmt::Debug for AgentKey {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentKey").finish_non_exhaustive()
    }
}

impl AgentKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// If the library does not make one.
    pub fn generate() -> Result<Self, PkiError> {
        KeyPair::generate().map(Self).map_err(make("the agent's key"))
    }

    /// The key in that PEM.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn from_pem(pem: &str) -> Result<Self, PkiError> {
        KeyPair::from_pem(pem).map(Self).map_err(read("the agent's key"))
    }

    /// The key as PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A certificate request over it: PKCS#10, DER, naming nobody.
    ///
    /// # Errors
    ///
    /// If the library does not make one.
    pub fn request(&self) -> Result<Vec<u8>, PkiError> {
        let request = CertificateParams::default().serialize_request(&self.0);
        Ok(request.map_err(make("the certificate request"))?.der().to_vec())
    }
}

/// Who a certificate (DER) speaks for. That it comes from the authority was checked before.
///
/// # Errors
///
/// If it names nobody, or more than one.
pub fn principal(certificate: &[u8]) -> Result<Principal, PkiError> {
    let what = "the peer's certificate";
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(read(what))?;
    let names = parsed.subject_alternative_name().map_err(read(what))?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let [GeneralName::URI(uri)] = names else {
        return Err(PkiError::Nobody(format!(
            "it has {} names where one URI belongs",
            names.len()
        )));
    };
    let nobody = || PkiError::Nobody(format!("{:?}", uri.chars().take(80).collect::<String>()));
    if let Some(id) = uri.strip_prefix(AGENT_PREFIX) {
        return id.parse().map(Principal::Agent).map_err(|_| nobody());
    }
    let (role, name) =
        uri.strip_prefix(USER_PREFIX).and_then(|user| user.split_once('/')).ok_or_else(nobody)?;
    let role = Role::ALL.into_iter().find(|known| known.name() == role).ok_or_else(nobody)?;
    if !is_user_name(name) {
        return Err(nobody());
    }
    Ok(Principal::User { role, name: name.to_owned() })
}

/// When the first certificate in a PEM begins and ends.
///
/// # Errors
///
/// If there is none in it.
pub fn validity(certificate_pem: &str) -> Result<(Timestamp, Timestamp), PkiError> {
    let what = "the certificate";
    let (_, pem) = parse_x509_pem(certificate_pem.as_bytes()).map_err(read(what))?;
    let parsed = pem.parse_x509().map_err(read(what))?;
    let at = |seconds: i64| {
        Timestamp::from_millis(u64::try_from(seconds).unwrap_or_default().saturating_mul(1000))
    };
    let validity = parsed.validity();
    Ok((at(validity.not_before.timestamp()), at(validity.not_after.timestamp())))
}

/// When the first certificate in a PEM ends.
///
/// # Errors
///
/// If there is none in it.
pub fn not_after(certificate_pem: &str) -> Result<Timestamp, PkiError> {
    validity(certificate_pem).map(|(_, not_after)| not_after)
}

/// SHA-256 of a certificate (DER), in hex: what an agent is told to trust before it has anything
/// else.
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> String {
    hex::encode(Sha256::digest(certificate))
}

/// [`fingerprint`] of the first certificate in a PEM.
///
/// # Errors
///
/// If there is none in it.
pub fn fingerprint_of_pem(certificate_pem: &str) -> Result<String, PkiError> {
    let (_, pem) = parse_x509_pem(certificate_pem.as_bytes()).map_err(read("the certificate"))?;
    Ok(fingerprint(&pem.contents))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn now() -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
    }

    fn der(pem: &str) -> Vec<u8> {
        parse_x509_pem(pem.as_bytes()).unwrap().1.contents
    }

    fn agent() -> AgentId {
        "a-1".parse().unwrap()
    }

    #[test]
    fn an_agents_certificate_speaks_for_it_alone() {
        let authority = Authority::create(now()).unwrap();
        let request = AgentKey::generate().unwrap().request().unwrap();
        let issued = authority.issue_agent(&request, &agent(), now(), DAY).unwrap();
        assert_eq!(principal(&der(&issued.certificate_pem)).unwrap(), Principal::Agent(agent()));
        assert_eq!(not_after(&issued.certificate_pem).unwrap(), now() + DAY);
    }

    #[test]
    fn a_users_certificate_says_what_they_may() {
        let authority = Authority::create(now()).unwrap();
        let issued = authority.issue_user(Role::Operator, "ann", now(), DAY).unwrap();
        let principal = principal(&der(&issued.certificate_pem)).unwrap();
        assert_eq!(principal, Principal::User { role: Role::Operator, name: "ann".into() });
        assert!(issued.key_pem.is_some());
    }

    #[test]
    fn an_authority_reads_back_from_its_files() {
        let authority = Authority::create(now()).unwrap();
        let again = Authority::from_pem(authority.certificate_pem(), authority.key_pem()).unwrap();
        again.issue_server(now(), DAY).unwrap();
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let (one, other) = (Authority::create(now()).unwrap(), Authority::create(now()).unwrap());
        assert!(Authority::from_pem(one.certificate_pem(), other.key_pem()).is_err());
    }

    #[test]
    fn a_name_that_could_be_read_otherwise_is_refused() {
        let authority = Authority::create(now()).unwrap();
        for name in ["", "ann/../bob", "ann bob", "a\nb"] {
            assert!(authority.issue_user(Role::Admin, name, now(), DAY).is_err(), "{name:?}");
        }
    }

    fn with_names(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn uri(uri: &str) -> SanType {
        SanType::URI(uri.try_into().unwrap())
    }

    #[test]
    fn a_certificate_of_two_names_speaks_for_nobody() {
        let two = vec![uri("sinter://agent/a"), uri("sinter://user/admin/ann")];
        assert!(matches!(principal(&with_names(two)), Err(PkiError::Nobody(_))));
    }

    #[test]
    fn a_name_nobody_knows_speaks_for_nobody() {
        for name in
            ["sinter://user/root/ann", "sinter://agent/", "https://x", "sinter://user/admin"]
        {
            assert!(
                matches!(principal(&with_names(vec![uri(name)])), Err(PkiError::Nobody(_))),
                "{name}"
            );
        }
        assert!(matches!(principal(&with_names(Vec::new())), Err(PkiError::Nobody(_))));
    }

    #[test]
    fn a_request_that_is_none_is_refused() {
        let authority = Authority::create(now()).unwrap();
        let mut request = AgentKey::generate().unwrap().request().unwrap();
        assert!(authority.issue_agent(&request[..20], &agent(), now(), DAY).is_err());
        let last = request.len() - 1;
        request[last] ^= 1;
        assert!(authority.issue_agent(&request, &agent(), now(), DAY).is_err());
    }
}
