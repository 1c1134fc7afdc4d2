//! What we write into a machine's definition, and what operators may.
//!
//! Ours stands under [`NAMESPACE`]. Operators put labels, divided by blanks, under [`LABELS`]:
//! `virsh metadata VM --config --live --uri urn:sinter:labels:1 --key labels --set
//! '<labels>sinter:never-touch</labels>'`.

use std::collections::BTreeSet;

use common::id::{PlanId, VmId};
use libvirt_rpc::{Change, Client, Domain, xml::Element};

use crate::hypervisor::HypervisorError;

/// Of what we write.
const NAMESPACE: &str = "urn:sinter:machine:1";
/// Of operators' labels.
const LABELS: &str = "urn:sinter:labels:1";
/// Prefix of our element.
const PREFIX: &str = "sinter";

/// Our mark on a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tag {
    /// What it was cloned from.
    pub(super) cloned_from: Option<VmId>,
    /// The plan it was cloned for.
    pub(super) plan: Option<PlanId>,
    /// The clone that took its place.
    pub(super) displaced: Option<Displaced>,
}

/// How a machine was before a clone took its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Displaced {
    /// The clone.
    pub(super) by: VmId,
    /// Whether the machine started with its host.
    pub(super) autostart: bool,
    /// MACs of the links that were unplugged for that.
    pub(super) unplugged: BTreeSet<String>,
}

/// Whether an element declares a namespace.
fn declares(element: &Element, namespace: &str) -> bool {
    let is_declaration = |name: &str| name == "xmlns" || name.starts_with("xmlns:");
    element.attributes.iter().any(|(name, value)| is_declaration(name) && value == namespace)
}

fn find<'a>(domain: &'a Element, namespace: &str) -> Option<&'a Element> {
    domain.child("metadata")?.children.iter().find(|element| declares(element, namespace))
}

impl Tag {
    /// Of a domain's description; empty if there is none.
    pub(super) fn of(domain: &Element) -> Self {
        let Some(element) = find(domain, NAMESPACE) else { return Self::default() };
        let displaced = element.children.first().and_then(|place| {
            let unplugged = place.attribute("unplugged").unwrap_or_default();
            Some(Displaced {
                by: place.attribute("by")?.parse().ok()?,
                autostart: place.attribute("autostart") == Some("yes"),
                unplugged: unplugged.split_whitespace().map(str::to_owned).collect(),
            })
        });
        let attribute = |name| element.attribute(name);
        Self {
            cloned_from: attribute("cloned-from").and_then(|id| id.parse().ok()),
            plan: attribute("plan").and_then(|id| id.parse().ok()),
            displaced,
        }
    }

    /// As it is handed to libvirt by itself, which adds the prefix.
    fn bare(&self) -> Element {
        let mut element = Element::new("machine");
        if let Some(source) = &self.cloned_from {
            element.set("cloned-from", source.as_str());
        }
        if let Some(plan) = &self.plan {
            element.set("plan", plan.as_str());
        }
        if let Some(Displaced { by, autostart, unplugged }) = &self.displaced {
            let unplugged = unplugged.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
            let place = Element::new("displaced")
                .with("by", by.as_str())
                .with("autostart", if *autostart { "yes" } else { "no" })
                .with("unplugged", unplugged);
            element.children.push(place);
        }
        element
    }

    /// Puts it into a domain's description, in the place of the one that is there.
    pub(super) fn put(&self, domain: &mut Element) {
        let metadata = domain.child_mut("metadata");
        metadata.children.retain(|element| !declares(element, NAMESPACE));
        let mut own = self.bare();
        prefix(&mut own);
        metadata.children.push(own.with(&format!("xmlns:{PREFIX}"), NAMESPACE));
    }

    /// Writes it into a machine, also while it runs.
    pub(super) async fn write(
        &self,
        client: &Client,
        domain: &Domain,
    ) -> Result<(), HypervisorError> {
        let xml = (*self != Self::default()).then(|| self.bare().write());
        let change = if domain.is_active() { Change::Both } else { Change::Config };
        Ok(client.set_metadata(domain, (PREFIX, NAMESPACE), xml.as_deref(), change).await?)
    }
}

fn prefix(element: &mut Element) {
    element.name = format!("{PREFIX}:{}", element.name);
    element.children.iter_mut().for_each(prefix);
}

/// Labels of operators.
pub(super) fn labels(domain: &Element) -> BTreeSet<String> {
    let labels = find(domain, LABELS).map(|element| element.text.as_str()).unwrap_or_default();
    labels.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_read_back_and_leaves_what_others_wrote() {
        let text = "<domain><metadata><l:labels xmlns:l='urn:sinter:labels:1'>sinter:never-touch \
                    gold</l:labels><o:x xmlns:o='urn:other'/></metadata></domain>";
        let mut domain = Element::parse(text).unwrap();
        assert_eq!(Tag::of(&domain), Tag::default());
        let tag = Tag {
            cloned_from: Some("a".parse().unwrap()),
            plan: Some("p-1".parse().unwrap()),
            displaced: Some(Displaced {
                by: "b".parse().unwrap(),
                autostart: true,
                unplugged: BTreeSet::from(["52:54:00:00:00:01".to_owned()]),
            }),
        };

        tag.put(&mut domain);
        tag.put(&mut domain);
        let again = Element::parse(&domain.write()).unwrap();

        assert_eq!(Tag::of(&again), tag);
        assert_eq!(again.child("metadata").unwrap().children.len(), 3);
        let expected = ["gold", "sinter:never-touch"].map(str::to_owned);
        assert_eq!(labels(&again), BTreeSet::from(expected));
    }
}
