//! Signs configuration lists and opens them: Ed25519 over exactly the bytes that are sent.
//!
//! The signature is checked before a byte of the list is read as TOML; what is not signed by a key
//! one trusts is never parsed. Which keys those are, and whether a list is fresh, is not decided
//! here.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::list::ConfigurationList;

/// Stands before the list in what is signed, so that no signature over anything else of ours
/// is ever one over a list.
const DOMAIN: &[u8] = b"sinter configuration list v1\0";
/// Largest list: a thousand applications with their settings fit many times.
pub const LARGEST_LIST: usize = 256 << 10;

/// Why a list could not be signed or is not to be trusted.
#[derive(Debug, Error)]
pub enum SigningError {
    /// The system gave no random numbers.
    #[error("could not make a key: the system gave no random numbers")]
    Random,
    /// It is no point of the curve.
    #[error("list key is not an Ed25519 public key")]
    BadKey,
    /// It could not be turned into TOML.
    #[error("could not write the list of generation {generation}")]
    Write {
        /// Its generation.
        generation: u64,
        /// Why not.
        #[source]
        cause: Box<toml::ser::Error>,
    },
    /// More bytes than a list may have.
    #[error("list has {0} bytes, at most {LARGEST_LIST} are allowed")]
    TooLarge(usize),
    /// It is signed by a key one does not have.
    #[error("list is signed by key {0:?}, which is not trusted here")]
    UnknownKey(String),
    /// The signature is not one of that key over these bytes.
    #[error("signature does not fit the list; it was changed after it was signed")]
    BadSignature,
    /// It is signed, and yet no list this version can read.
    #[error("list is signed but could not be read; it is written for another version")]
    Unreadable(#[source] Box<toml::de::Error>),
}

/// A list as it is sent: bytes, and who vouches for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedList {
    /// The list as TOML.
    pub list: Vec<u8>,
    /// Ed25519 signature, 64 bytes if it is one.
    pub signature: Vec<u8>,
    /// First eight bytes of the SHA-256 of the public key, in hex.
    pub key_id: String,
}

/// The key that signs lists.
pub struct ListKey(SigningKey);

/// The key that verifies lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPublicKey(VerifyingKey);

impl fmt::Debug for ListKey {
    /// Never shows the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ListKey").field(&self.public().id()).finish()
    }
}

impl ListKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`SigningError::Random`].
    pub fn generate() -> Result<Self, SigningError> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|_| SigningError::Random)?;
        Ok(Self::from_bytes(&secret))
    }

    /// The key of that secret.
    #[must_use]
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// Its secret.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The key that verifies what this one signs.
    #[must_use]
    pub fn public(&self) -> ListPublicKey {
        ListPublicKey(self.0.verifying_key())
    }

    /// Signs a list.
    ///
    /// # Errors
    ///
    /// If it cannot be written, or is larger than a list may be.
    pub fn sign(&self, list: &ConfigurationList) -> Result<SignedList, SigningError> {
        let generation = list.generation;
        let text = toml::to_string(list)
            .map_err(|cause| SigningError::Write { generation, cause: Box::new(cause) })?;
        if text.len() > LARGEST_LIST {
            return Err(SigningError::TooLarge(text.len()));
        }
        let signature = self.0.sign(&signed_bytes(text.as_bytes())).to_bytes().to_vec();
        Ok(SignedList { list: text.into_bytes(), signature, key_id: self.public().id() })
    }
}

impl ListPublicKey {
    /// The key of those bytes.
    ///
    /// # Errors
    ///
    /// [`SigningError::BadKey`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SigningError> {
        VerifyingKey::from_bytes(bytes).map(Self).map_err(|_| SigningError::BadKey)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// What lists name it by.
    #[must_use]
    pub fn id(&self) -> String {
        hex::encode(&Sha256::digest(self.0.as_bytes())[..8])
    }
}

/// Reads a list, if one of `trusted` signed it.
///
/// # Errors
///
/// See [`SigningError`].
pub fn open(
    signed: &SignedList,
    trusted: &[ListPublicKey],
) -> Result<ConfigurationList, SigningError> {
    if signed.list.len() > LARGEST_LIST {
        return Err(SigningError::TooLarge(signed.list.len()));
    }
    let key = trusted.iter().find(|key| key.id() == signed.key_id);
    let key =
        key.ok_or_else(|| SigningError::UnknownKey(signed.key_id.chars().take(32).collect()))?;
    let signature =
        Signature::from_slice(&signed.signature).map_err(|_| SigningError::BadSignature)?;
    // Strict: a signature that a weak key or another encoding would let pass is none.
    key.0
        .verify_strict(&signed_bytes(&signed.list), &signature)
        .map_err(|_| SigningError::BadSignature)?;
    toml::from_slice(&signed.list).map_err(|cause| SigningError::Unreadable(Box::new(cause)))
}

fn signed_bytes(list: &[u8]) -> Vec<u8> {
    [DOMAIN, list].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Timestamp, list::Form, mix::ApplicationMix};

    fn list() -> ConfigurationList {
        ConfigurationList {
            generation: 7,
            vm: "vm-1".parse().unwrap(),
            plan: "p-1".parse().unwrap(),
            base: ApplicationMix::default().hash(),
            expires_at: Timestamp::from_millis(1),
            form: Form::Delta,
            applications: Vec::new(),
            baseline: None,
        }
    }

    #[test]
    fn a_list_opens_as_it_was_signed() {
        let key = ListKey::generate().unwrap();
        let signed = key.sign(&list()).unwrap();
        assert_eq!(open(&signed, &[key.public()]).unwrap(), list());
    }

    #[test]
    fn a_changed_byte_is_seen_before_the_list_is_read() {
        let key = ListKey::generate().unwrap();
        for place in [0, 10] {
            let mut signed = key.sign(&list()).unwrap();
            signed.list[place] ^= 1;
            assert!(matches!(open(&signed, &[key.public()]), Err(SigningError::BadSignature)));
        }
    }

    #[test]
    fn a_key_nobody_trusts_is_named() {
        let (ours, theirs) = (ListKey::generate().unwrap(), ListKey::generate().unwrap());
        let signed = theirs.sign(&list()).unwrap();
        let error = open(&signed, &[ours.public()]).unwrap_err();
        assert!(error.to_string().contains(&theirs.public().id()), "{error}");
    }

    #[test]
    fn another_key_under_a_trusted_name_is_refused() {
        let (ours, theirs) = (ListKey::generate().unwrap(), ListKey::generate().unwrap());
        let forged = SignedList { key_id: ours.public().id(), ..theirs.sign(&list()).unwrap() };
        assert!(matches!(open(&forged, &[ours.public()]), Err(SigningError::BadSignature)));
    }

    #[test]
    fn a_signature_over_something_else_is_none_over_a_list() {
        let key = ListKey::generate().unwrap();
        let list = toml::to_string(&list()).unwrap().into_bytes();
        let signature = key.0.sign(&list).to_bytes().to_vec();
        let bare = SignedList { list, signature, key_id: key.public().id() };
        assert!(matches!(open(&bare, &[key.public()]), Err(SigningError::BadSignature)));
    }

    #[test]
    fn an_unknown_field_in_a_signed_list_is_refused() {
        let key = ListKey::generate().unwrap();
        let text = format!("command = 'rm'\n{}", toml::to_string(&list()).unwrap());
        let signature = key.0.sign(&signed_bytes(text.as_bytes())).to_bytes().to_vec();
        let signed = SignedList { list: text.into_bytes(), signature, key_id: key.public().id() };
        assert!(matches!(open(&signed, &[key.public()]), Err(SigningError::Unreadable(_))));
    }

    #[test]
    fn a_list_larger_than_any_is_not_read() {
        let key = ListKey::generate().unwrap();
        let signed =
            SignedList { list: vec![b'#'; LARGEST_LIST + 1], ..key.sign(&list()).unwrap() };
        assert!(matches!(open(&signed, &[key.public()]), Err(SigningError::TooLarge(_))));
    }
}
