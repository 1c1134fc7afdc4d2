//! What a hypervisor says of our rights, at a simulated vCenter and on this host: what is missing is
//! named with its cost, and what nobody told is not taken for granted.
//!
//! It takes `SINTER_VCSIM`, as `tests/vsphere.rs` does.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Output},
};

use aggregator::{
    hypervisor::{
        check::{Check, Finding, Need, Standing},
        vsphere::{VsphereCentre, VsphereHypervisor},
    },
    vendor::Trust,
};
use lab::{
    centre::{Between, Centre},
    demonstration::left_out,
    programs::program,
};
use serde_json::Value;
use tempfile::TempDir;

async fn centre(test: &str, arguments: &[&str]) -> Option<Centre> {
    match Centre::up(arguments).await {
        Ok(centre) => Some(centre),
        Err(lacking) => {
            left_out(test, &lacking);
            None
        }
    }
}

async fn checked(centre: VsphereCentre) -> Vec<Finding> {
    VsphereHypervisor::new(vec![centre]).unwrap().check().await
}

fn the<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.what == what).unwrap()
}

fn why(finding: &Finding) -> &str {
    match &finding.standing {
        Standing::Granted => panic!("{} is granted", finding.what),
        Standing::Missing(why) | Standing::Unknown(why) => why,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_documented_privilege_is_asked_for_and_no_other() {
    let name = "every_documented_privilege_is_asked_for_and_no_other";
    let Some(centre) = centre(name, &[]).await else { return };
    let mut described = centre.described();
    described.uplinks = BTreeSet::from(["DC0_DVPG0".to_owned(), "nowhere".to_owned()]);

    let findings = checked(described).await;

    let missing: Vec<_> = findings.iter().filter(|finding| !finding.is_granted()).collect();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!(missing[0].what, "uplink nowhere");
    assert!(matches!(missing[0].standing, Standing::Missing(_)));
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, documented) = readme.split_once("To act, besides:").unwrap();
    let (documented, _) = documented.split_once("\n\n").unwrap();
    // Of `VirtualMachine.Config.CPUCount`, `.Memory` the second is told without its beginning.
    let mut group = String::new();
    let mut expected = BTreeSet::new();
    for word in documented.split('`').skip(1).step_by(2) {
        if !word.starts_with('.') {
            group = word.rsplit_once('.').unwrap().0.to_owned();
            expected.insert(word.to_owned());
            continue;
        }
        expected.insert(format!("{group}{word}"));
    }
    let acting = findings.iter().filter(|finding| finding.need == Need::Act);
    let acting = acting.map(|finding| finding.what.clone());
    let acting: BTreeSet<_> = acting.filter(|what| !what.starts_with("uplink")).collect();
    assert_eq!(acting, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_privilege_that_is_not_granted_is_named_and_one_that_nobody_tells_is_not_known() {
    let name = "a_privilege_that_is_not_granted_is_named_and_one_that_nobody_tells_is_not_known";
    let Some(centre) = centre(name, &["-plain"]).await else { return };
    let between = Between::open(centre.address()).await;
    let described = centre.described_at(between.address());

    // The simulator grants all to everybody.
    let told = |is: &str| format!("<privId>Network.Assign</privId><isGranted>{is}</isGranted>");
    between.say_instead(&told("true"), &told("   0"));
    let findings = checked(described.clone()).await;
    let refused: Vec<_> = findings.iter().filter(|finding| !finding.is_granted()).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!((refused[0].what.as_str(), refused[0].need), ("Network.Assign", Need::Act));
    assert!(matches!(refused[0].standing, Standing::Missing(_)));
    assert_eq!(refused[0].cost, "no clone is isolated or promoted");

    between.say_instead("HasPrivilegeOnEntities", "LacksPrivilegeOfEntity");
    let findings = checked(described).await;
    let unknown =
        findings.iter().filter(|finding| matches!(finding.standing, Standing::Unknown(_)));
    assert_eq!(unknown.count(), 17, "all privileges: {findings:?}");
    assert!(why(the(&findings, "System.Read")).contains("not told by this server"));
    assert!(the(&findings, "user and password").is_granted());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_certificate_and_wrong_password_are_told_apart() {
    let name = "wrong_certificate_and_wrong_password_are_told_apart";
    let Some(mut centre) = centre(name, &[]).await else { return };
    let described = centre.described();

    let mut other = described.clone();
    other.address.trust = Some(Trust::Fingerprint("ab".repeat(32)));
    let findings = checked(other).await;
    assert_eq!(findings.len(), 1, "nothing further is asked of a stranger");
    assert!(why(&findings[0]).contains("certificate"), "{findings:?}");

    let mut wrong = described.clone();
    wrong.address.credentials = Some(centre.credentials("wrong"));
    let findings = checked(wrong).await;
    assert!(the(&findings, "address and certificate").is_granted());
    assert!(why(the(&findings, "user and password")).contains("InvalidLogin"), "{findings:?}");
    assert_eq!(findings.len(), 2);

    centre.end();
    let findings = checked(described).await;
    assert_eq!((findings.len(), findings[0].is_granted()), (1, false));
}

fn run(arguments: &[&str]) -> Output {
    Command::new(program("sinter-aggregator").unwrap()).args(arguments).output().unwrap()
}

fn written(folder: &TempDir, hypervisor: &str) -> String {
    let path = folder.path().join("aggregator.toml");
    let text = format!("folder = '{}'\n{hypervisor}", folder.path().display());
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_says_by_its_exit_code_whether_all_is_there() {
    let name = "the_command_says_by_its_exit_code_whether_all_is_there";
    let Some(centre) = centre(name, &[]).await else { return };
    let described = centre.described();
    let Some(Trust::Fingerprint(fingerprint)) = &described.address.trust else { panic!() };
    let centre_of = |uplink: &str| {
        format!(
            "[hypervisor.vc1]\nkind = 'vsphere'\nurl = '{}'\nfingerprint = '{fingerprint}'\n\
             credentials = '{}'\nuplinks = ['{uplink}']\n",
            described.address.url,
            described.address.credentials.as_ref().unwrap().display(),
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let ask =
        |name, config: &str| run(&["check", "hypervisor", name, "-o", "json", "--config", config]);

    let right = ask("vc1", &written(&folder, &centre_of("DC0_DVPG0")));
    assert_eq!(right.status.code(), Some(0), "{right:?}");
    let told: Value = serde_json::from_slice(&right.stdout).unwrap();
    assert_eq!((&told["hypervisor"], &told["granted"]), (&"vc1".into(), &true.into()));
    assert_eq!(told["findings"].as_array().unwrap().len(), 2 + 17 + 1);

    let lacking = ask("vc1", &written(&folder, &centre_of("nowhere")));
    assert_eq!(lacking.status.code(), Some(1), "{lacking:?}");

    let unknown = ask("vc2", &written(&folder, &centre_of("DC0_DVPG0")));
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        said.contains("\"vc2\", which the configuration does not have; write one of vc1"),
        "{said}"
    );
}

#[test]
fn on_this_host_the_right_to_make_namespaces_is_tried_and_nothing_of_it_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let config = written(&folder, "[hypervisor]\nkind = 'namespace'\n");
    let groups = || {
        let found = Command::new("find").args(["/sys/fs/cgroup", "-name", "sinter-*"]).output();
        String::from_utf8(found.unwrap().stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect::<BTreeSet<_>>()
    };
    let before = groups();

    let asked = run(&["check", "hypervisor", "namespace", "-o", "json", "--config", &config]);

    let told: Value = serde_json::from_slice(&asked.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let whats: Vec<_> = findings.iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(whats[1..], ["groups that count", "to make namespaces", "groups that limit"]);
    let all = findings.iter().all(|one| one["standing"] == "granted");
    assert_eq!(asked.status.code(), Some(i32::from(!all)), "{asked:?}");
    assert!(groups().is_subset(&before), "another test's may have gone meanwhile");
    assert!(!folder.path().join("machines").exists());
}
