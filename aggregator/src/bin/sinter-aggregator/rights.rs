//! What the configured hypervisors let us do, asked before the service depends on it.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use aggregator::{
    config::{Config, HypervisorConfig},
    hypervisor::{
        check::{Check, Finding, Need, Standing},
        libvirt::{LibvirtHost, LibvirtHypervisor},
        namespace::{Ground, NamespaceHypervisor},
        vsphere::VsphereHypervisor,
    },
};
use comfy_table::{Table, presets};
use common::task::Chain;

use crate::{
    arguments::{Asked, LogFormat, OutputFormat},
    failure::Failure,
    logging,
};

/// Asks one hypervisor. The exit code is 0 only if every right is there.
pub(crate) fn check(asked: &Asked, format: LogFormat) -> Result<ExitCode, Failure> {
    let Asked::Hypervisor { name, output, config } = asked;
    let config = Config::read(&config.path)?;
    logging::begin(format, "error")?;
    let chosen = chosen(&config.hypervisor, name)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Failure::Runtime)?;
    let findings = runtime.block_on(async {
        let hypervisor: Box<dyn Check> = match chosen {
            Chosen::Ground(ground) => Box::new(ground),
            Chosen::Libvirt(host) => Box::new(LibvirtHypervisor::new(vec![host])),
            Chosen::Vsphere(hypervisor) => Box::new(hypervisor),
        };
        hypervisor.check().await
    });
    let is_right = findings.iter().all(Finding::is_granted);
    let text = match output {
        OutputFormat::Table => table(name, &findings),
        OutputFormat::Json => json(name, is_right, &findings),
    };
    io::stdout().write_all(text.as_bytes()).map_err(Failure::Print)?;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

enum Chosen {
    Ground(Ground),
    Libvirt(LibvirtHost),
    Vsphere(VsphereHypervisor),
}

/// The one of that name; machines of namespaces have none but their kind's.
fn chosen(config: &HypervisorConfig, name: &str) -> Result<Chosen, Failure> {
    let unknown =
        |known: Vec<&str>| Failure::Unknown { name: name.to_owned(), known: known.join(", ") };
    match config {
        HypervisorConfig::Namespace { folder } if name == "namespace" => {
            // While there is one thread, as the service does it.
            let prepared = NamespaceHypervisor::prepare_process(folder);
            let unprepared = prepared.err().map(|error| Chain(&error).to_string());
            Ok(Chosen::Ground(Ground { folder: folder.clone(), unprepared }))
        }
        HypervisorConfig::Namespace { .. } => Err(unknown(vec!["namespace"])),
        HypervisorConfig::Libvirt { hosts } => {
            let found = hosts.iter().find(|host| host.name == name).cloned();
            let known = || unknown(hosts.iter().map(|host| host.name.as_str()).collect());
            found.map(Chosen::Libvirt).ok_or_else(known)
        }
        HypervisorConfig::Vsphere { centres } => {
            let found = centres.iter().find(|centre| centre.name == name).cloned();
            let known = || unknown(centres.iter().map(|centre| centre.name.as_str()).collect());
            let hypervisor = VsphereHypervisor::new(vec![found.ok_or_else(known)?]);
            hypervisor.map(Chosen::Vsphere).map_err(Failure::Address)
        }
    }
}

const fn word_of(need: Need) -> &'static str {
    match need {
        Need::Reach => "reach",
        Need::Observe => "observe",
        Need::Act => "act",
    }
}

fn table(name: &str, findings: &[Finding]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["FOR", "RIGHT", "STANDING"]);
    let mut reasons = String::new();
    for finding in findings {
        let Finding { need, what, standing, cost } = finding;
        let (word, why) = match standing {
            Standing::Granted => ("granted", None),
            Standing::Missing(why) => ("MISSING", Some(why)),
            Standing::Unknown(why) => ("NOT KNOWN", Some(why)),
        };
        table.add_row([word_of(*need), what, word]);
        if let Some(why) = why {
            reasons += &format!("{what} is {word}: {why}\n  without it {cost}\n");
        }
    }
    let lines: String = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    let granted = findings.iter().filter(|finding| finding.is_granted()).count();
    format!("{lines}{reasons}{name}: {granted} of {} are granted\n", findings.len())
}

fn json(name: &str, is_right: bool, findings: &[Finding]) -> String {
    let told = serde_json::json!({
        "hypervisor": name,
        "granted": is_right,
        "findings": findings,
    });
    format!("{told:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_its_reason_and_its_cost() {
        let finding = |what: &str, standing| Finding {
            need: Need::Act,
            what: what.to_owned(),
            standing,
            cost: "no clone is isolated".to_owned(),
        };
        let findings = [
            finding("Network.Assign", Standing::Missing("not granted".to_owned())),
            finding("Datastore.AllocateSpace", Standing::Granted),
        ];

        let told = table("vc1", &findings);
        let document = json("vc1", false, &findings);

        assert!(told.contains("Network.Assign is MISSING: not granted\n  without it no clone"));
        assert!(told.ends_with("vc1: 1 of 2 are granted\n"), "{told}");
        let document: serde_json::Value = serde_json::from_str(&document).unwrap();
        let first = &document["findings"][0];
        assert_eq!((&first["need"], &first["standing"]), (&"act".into(), &"missing".into()));
        assert_eq!((&first["why"], &document["granted"]), (&"not granted".into(), &false.into()));
    }
}
