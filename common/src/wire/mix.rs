//! Mixes, and the signed lists that change them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    BadMessage,
    field::{Field, conversion},
    types::v1,
};
use crate::{
    id::AppName,
    mix::{ApplicationMix, ConfigurationMix, EffectiveMix, Setup},
    signing::{LARGEST_LIST, SignedList},
    units::{Bytes, Millicores},
};

conversion! {
    v1::EffectiveMix => EffectiveMix, effective_mix;
    v1::SignedConfigurationList => SignedList, signed_list;
}

impl From<v1::ConfigurationMix> for ConfigurationMix {
    /// Every wire value is one: nothing to refuse.
    fn from(wire: v1::ConfigurationMix) -> Self {
        Self {
            cpu: wire.cpu_millicores.map(Millicores),
            memory: wire.memory_bytes.map(Bytes),
            storage: wire.storage_bytes.map(Bytes),
        }
    }
}

impl From<&ConfigurationMix> for v1::ConfigurationMix {
    fn from(mix: &ConfigurationMix) -> Self {
        Self {
            cpu_millicores: mix.cpu.map(|cpu| cpu.0),
            memory_bytes: mix.memory.map(|memory| memory.0),
            storage_bytes: mix.storage.map(|storage| storage.0),
        }
    }
}

pub(super) fn effective_mix(
    wire: v1::EffectiveMix,
    field: &Field<'_>,
) -> Result<EffectiveMix, BadMessage> {
    let applications = field.of("applications");
    let rows = applications.rows(wire.applications, effective_application)?;
    let (mut mix, mut healthy) = (ApplicationMix::default(), BTreeSet::new());
    for (name, setup, is_healthy) in rows {
        if is_healthy {
            healthy.insert(name.clone());
        }
        if let Some(_twice) = mix.0.insert(name.clone(), setup) {
            return Err(applications.refuse(format_args!("naming {name} twice"), "name each once"));
        }
    }
    // The hash is the base of the next list: two ends that do not agree on it agree on nothing.
    if wire.hash != mix.hash().0 {
        let remedy = "send the SHA-256 of the applications in canonical form";
        return Err(field.of("hash").refuse(hex::encode(&wire.hash), remedy));
    }
    Ok(EffectiveMix {
        generation: wire.generation,
        attempted_generation: wire.attempted_generation,
        applications: mix,
        healthy,
    })
}

fn effective_application(
    wire: v1::EffectiveApplication,
    field: &Field<'_>,
) -> Result<(AppName, Setup, bool), BadMessage> {
    let setup = Setup {
        settings: settings(wire.settings, &field.of("settings"))?,
        mix: wire.mix.unwrap_or_default().into(),
    };
    Ok((field.of("name").id(&wire.name)?, setup, wire.healthy))
}

fn settings(
    wire: BTreeMap<String, String>,
    field: &Field<'_>,
) -> Result<BTreeMap<String, String>, BadMessage> {
    field.counted(wire.len())?;
    let exact = |(key, value)| Ok((field.exact(key)?, field.exact(value)?));
    wire.into_iter().map(exact).collect()
}

impl From<&EffectiveMix> for v1::EffectiveMix {
    fn from(mix: &EffectiveMix) -> Self {
        let applications =
            mix.applications.0.iter().map(|(name, setup)| v1::EffectiveApplication {
                name: name.as_str().to_owned(),
                settings: setup.settings.clone(),
                mix: Some((&setup.mix).into()),
                healthy: mix.healthy.contains(name),
            });
        Self {
            generation: mix.generation,
            hash: mix.applications.hash().0.to_vec(),
            applications: applications.collect(),
            attempted_generation: mix.attempted_generation,
        }
    }
}

/// Only its sizes are checked; whether it may be trusted is for [`crate::signing::open`] to say.
fn signed_list(
    wire: v1::SignedConfigurationList,
    field: &Field<'_>,
) -> Result<SignedList, BadMessage> {
    if wire.list.len() > LARGEST_LIST {
        let size = wire.list.len();
        let remedy = "send at most 262144 bytes";
        return Err(field.of("list").refuse(format_args!("{size} bytes long"), remedy));
    }
    if wire.signature.len() != 64 {
        let size = wire.signature.len();
        return Err(field
            .of("signature")
            .refuse(format_args!("{size} bytes long"), "send 64 bytes"));
    }
    let key_id = field.of("key_id").text(wire.key_id)?;
    Ok(SignedList { list: wire.list, signature: wire.signature, key_id })
}

impl From<&SignedList> for v1::SignedConfigurationList {
    fn from(signed: &SignedList) -> Self {
        Self {
            list: signed.list.clone(),
            signature: signed.signature.clone(),
            key_id: signed.key_id.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix() -> EffectiveMix {
        let setup = Setup {
            settings: [("every_ms".to_owned(), "2000".to_owned())].into(),
            mix: ConfigurationMix { cpu: Some(Millicores(0)), ..ConfigurationMix::default() },
        };
        let report: AppName = "report".parse().unwrap();
        let store = ("store".parse().unwrap(), Setup::default());
        EffectiveMix {
            generation: 3,
            attempted_generation: 4,
            applications: ApplicationMix([(report.clone(), setup), store].into()),
            healthy: [report].into(),
        }
    }

    #[test]
    fn a_mix_comes_back_as_it_went() {
        assert_eq!(EffectiveMix::try_from(v1::EffectiveMix::from(&mix())), Ok(mix()));
        let empty = EffectiveMix::default();
        assert_eq!(EffectiveMix::try_from(v1::EffectiveMix::from(&empty)), Ok(empty));
    }

    #[test]
    fn a_hash_of_another_mix_is_refused() {
        let wire = v1::EffectiveMix { hash: vec![7; 32], ..(&mix()).into() };
        assert_eq!(EffectiveMix::try_from(wire).unwrap_err().field, "hash");
    }

    #[test]
    fn an_application_named_twice_is_refused() {
        let mut wire = v1::EffectiveMix::from(&mix());
        let again = wire.applications[0].clone();
        wire.applications.push(again);
        let told = EffectiveMix::try_from(wire).unwrap_err().to_string();
        assert_eq!(told, "applications is naming report twice; name each once");
    }

    #[test]
    fn a_setting_with_a_control_character_is_refused() {
        let mut wire = v1::EffectiveMix::from(&mix());
        wire.applications[0].settings.insert("x".into(), "\u{1b}[2J".into());
        let told = EffectiveMix::try_from(wire).unwrap_err();
        assert_eq!(told.field, "applications[0].settings");
        assert_eq!(told.value, "\\u{1b}[2J");
    }

    #[test]
    fn a_signed_list_comes_back_byte_by_byte() {
        let signed = SignedList {
            list: vec![0, 255, 7],
            signature: vec![9; 64],
            key_id: "0011223344556677".into(),
        };
        let wire = v1::SignedConfigurationList::from(&signed);
        assert_eq!(SignedList::try_from(wire), Ok(signed));
    }

    #[test]
    fn a_signature_of_another_size_is_none() {
        let wire = v1::SignedConfigurationList { signature: vec![1; 63], ..Default::default() };
        assert_eq!(SignedList::try_from(wire).unwrap_err().field, "signature");
    }
}
