//! Found again, forgotten, given and renewed.

use std::time::Duration;

use common::{pki::Authority, signing::ListKey};

use super::*;
use crate::config::Token;

const HOUR: Duration = Duration::from_secs(3600);

struct Place {
    folder: tempfile::TempDir,
    authority: Authority,
    store: IdentityStore,
}

fn now() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000)
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::create(now()).unwrap();
        let store = IdentityStore {
            path: folder.path().join("identity"),
            pinned: pki::fingerprint_of_pem(authority.certificate_pem()).unwrap(),
            dmi: folder.path().to_owned(),
            token: Some(Token::Here("token-1".into())),
        };
        let place = Self { folder, authority, store };
        place.is_machine("UUID-1");
        place
    }

    fn is_machine(&self, uuid: &str) {
        fs::write(self.folder.path().join("product_uuid"), format!("{uuid}\n")).unwrap();
    }

    fn enrol(&self) -> Identity {
        let (key, given) = given(&self.authority, now());
        self.store.enrolled(&key, ("a-1", "uuid-1"), given).unwrap()
    }
}

fn given(authority: &Authority, now: Timestamp) -> (AgentKey, Given) {
    let key = AgentKey::generate().unwrap();
    let request = key.request().unwrap();
    let issued = authority.issue_agent(&request, &"a-1".parse().unwrap(), now, HOUR).unwrap();
    let given = Given {
        certificate_pem: issued.certificate_pem,
        authority_pem: authority.certificate_pem().to_owned(),
        list_keys: vec![ListKey::generate().unwrap().public().to_bytes().to_vec()],
    };
    (key, given)
}

#[test]
fn an_identity_is_found_again_where_it_was_given() {
    let place = Place::new();
    assert!(matches!(place.store.find().unwrap(), Found::None));
    let identity = place.enrol();
    let Found::Own(found) = place.store.find().unwrap() else { panic!("not found") };
    assert_eq!(*found, identity);
    assert!(!format!("{found:?}").contains("PRIVATE"));
}

#[test]
fn a_clone_forgets_who_its_source_was_and_takes_its_ticket_first() {
    let place = Place::new();
    place.enrol();
    place.is_machine("uuid-2");
    fs::write(place.folder.path().join("product_serial"), "ticket-1\n").unwrap();

    for start in 1..=2 {
        assert!(matches!(place.store.find().unwrap(), Found::Clone), "start {start}");
        assert_eq!(place.store.secrets(true).unwrap(), ["ticket-1", "token-1"]);
    }
    let kept = fs::read_to_string(place.folder.path().join("identity")).unwrap();
    assert!(!kept.contains("PRIVATE"), "{kept}");
    assert_eq!(place.store.secrets(false).unwrap(), ["token-1", "ticket-1"]);
}

#[test]
fn a_damaged_identity_is_none() {
    let place = Place::new();
    place.enrol();
    fs::write(place.folder.path().join("identity"), "torn").unwrap();
    assert!(matches!(place.store.find().unwrap(), Found::None));
}

#[test]
fn a_machine_of_vmwares_has_the_uuid_of_its_serial_whose_bytes_nobody_turned() {
    let place = Place::new();
    place.is_machine("3C4D1F42-0B2A-1F5A-9C3D-123456789ABC");
    let serial = |text: &str| {
        fs::write(place.folder.path().join("product_serial"), format!("{text}\n")).unwrap();
        Machine::read(place.folder.path()).unwrap().uuid.to_string()
    };

    let turned = "3c4d1f42-0b2a-1f5a-9c3d-123456789abc";
    let right = serial("VMware-42 1f 4d 3c 2a 0b 5a 1f-9c 3d 12 34 56 78 9a bc");
    assert_eq!(right, "421f4d3c-2a0b-5a1f-9c3d-123456789abc");
    for other in ["VMware-42 1f", "VMware-é", "ticket-of-a-trial", "VMware-"] {
        assert_eq!(serial(other), turned, "{other}");
    }
}

#[test]
fn a_machine_without_a_uuid_has_no_identity() {
    let place = Place::new();
    place.is_machine("");
    assert!(matches!(place.store.find(), Err(IdentityError::NoUuid(_))));
}

#[test]
fn a_certificate_is_renewed_in_time_and_the_agent_stays_who_it_is() {
    let place = Place::new();
    let identity = place.enrol();
    assert!(identity.renew_at() < now() + HOUR);
    assert!(identity.has_ended(now() + HOUR) && !identity.has_ended(now()));

    let later = now() + HOUR / 2;
    let (key, given) = given(&place.authority, later);
    let renewed = identity.renewed(&key, given).unwrap();
    assert_eq!(renewed.agent(), identity.agent());
    assert!(renewed.renew_at() > identity.renew_at());
    assert_ne!(renewed.pems().1, identity.pems().1);
}

#[test]
fn what_an_aggregator_gives_is_looked_at() {
    let place = Place::new();
    let (key, given) = given(&place.authority, now());
    let other = Authority::create(now()).unwrap().certificate_pem().to_owned();
    let short = Given { list_keys: vec![vec![1; 31]], ..given.clone() };
    assert!(place.store.enrolled(&key, ("a-1", "uuid-1"), short).is_err());
    assert!(place.store.enrolled(&key, ("a 1", "uuid-1"), given.clone()).is_err());
    let strange = Given { authority_pem: other, ..given.clone() };
    assert!(place.store.enrolled(&key, ("a-1", "uuid-1"), strange).is_err());
    let none = Given { certificate_pem: "none".into(), ..given };
    assert!(place.store.enrolled(&key, ("a-1", "uuid-1"), none).is_err());
    assert!(matches!(place.store.find().unwrap(), Found::None));
}
