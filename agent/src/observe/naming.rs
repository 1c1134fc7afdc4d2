//! Which application a process belongs to, by what can be seen of it from outside.
//!
//! Four sources, the surest first: the tree below a process that the agent itself supervises, the
//! catalogue's rules, the service unit, the file it runs. The first two name *listed* applications.
//! An unlisted one goes under the name of its unit or file, so that it is seen, but it is never moved.

use std::collections::BTreeSet;

use common::id::AppName;

/// Longest name made from a file or unit; an id takes no more bytes.
const MAX_NAME: usize = 128;

/// How an application is known when it is seen. Every part given must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub application: AppName,
    /// Path of the executable, exact; `None` for any.
    pub executable: Option<String>,
    /// Name of the service unit with its suffix, exact; `None` for any.
    pub unit: Option<String>,
    /// Port it listens on, TCP or UDP; `None` for any.
    pub port: Option<u16>,
}

/// The catalogue's rules; the first match wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(pub Vec<Rule>);

/// What of a process may name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signs<'a> {
    /// The kernel's short name of it.
    pub(super) name: &'a str,
    /// The file it runs.
    pub(super) executable: Option<&'a str>,
    /// The service unit it belongs to.
    pub(super) unit: Option<&'a str>,
    /// Ports it listens on.
    pub(super) ports: &'a BTreeSet<u16>,
}

impl Rule {
    /// A rule that asks for nothing says nothing: it names no process rather than every one.
    fn matches(&self, signs: &Signs<'_>) -> bool {
        let asks = self.executable.is_some() || self.unit.is_some() || self.port.is_some();
        let fits = |wanted: &Option<String>, seen: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| seen == Some(wanted))
        };
        let listens = self.port.is_none_or(|port| signs.ports.contains(&port));
        asks && listens && fits(&self.executable, signs.executable) && fits(&self.unit, signs.unit)
    }
}

impl Rules {
    /// The application of the first rule that matches.
    pub(super) fn name(&self, signs: &Signs<'_>) -> Option<&AppName> {
        self.0.iter().find(|rule| rule.matches(signs)).map(|rule| &rule.application)
    }

    /// Whether some rule names `application`.
    pub(super) fn list(&self, application: &AppName) -> bool {
        self.0.iter().any(|rule| rule.application == *application)
    }
}

/// The name of an unlisted application: its unit's, else its file's, else what the kernel calls it.
pub(super) fn unlisted(signs: &Signs<'_>) -> AppName {
    let unit = signs.unit.map(|unit| unit.strip_suffix(".service").unwrap_or(unit));
    let file = signs.executable.and_then(|path| path.rsplit('/').next());
    let named = [unit, file, Some(signs.name)].into_iter().flatten().find_map(readable);
    named.unwrap_or_else(nameless)
}

/// The application of a unit of which nothing but the name is known.
pub(super) fn by_unit(rules: &Rules, unit: &str) -> AppName {
    let ports = BTreeSet::new();
    let signs = Signs { name: unit, executable: None, unit: Some(unit), ports: &ports };
    rules.name(&signs).cloned().unwrap_or_else(|| unlisted(&signs))
}

/// The unlisted application of a program of which nothing but the kernel's name is known.
pub(super) fn by_name(name: &str) -> AppName {
    unlisted(&Signs { name, executable: None, unit: None, ports: &BTreeSet::new() })
}

/// `text` as a name: what an id may not have becomes `_`.
fn readable(text: &str) -> Option<AppName> {
    let allowed = |c: char| if c.is_alphanumeric() || "-_.:@+".contains(c) { c } else { '_' };
    let mut name: String = text.trim().chars().map(allowed).collect();
    while name.len() > MAX_NAME {
        name.pop();
    }
    name.parse().ok()
}

#[expect(clippy::expect_used, reason = "a constant that the test below parses")]
fn nameless() -> AppName {
    "nameless".parse().expect("a constant name")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> AppName {
        text.parse().unwrap()
    }

    fn rule(application: &str) -> Rule {
        Rule { application: name(application), executable: None, unit: None, port: None }
    }

    fn signs<'a>(ports: &'a BTreeSet<u16>) -> Signs<'a> {
        Signs {
            name: "nginx",
            executable: Some("/usr/sbin/nginx"),
            unit: Some("web.service"),
            ports,
        }
    }

    #[test]
    fn every_given_part_must_match() {
        let ports = BTreeSet::from([80]);
        let mut both = rule("shop");
        both.executable = Some("/usr/sbin/nginx".into());
        both.port = Some(81);

        assert_eq!(Rules(vec![both.clone()]).name(&signs(&ports)), None);
        both.port = Some(80);
        assert_eq!(Rules(vec![both]).name(&signs(&ports)), Some(&name("shop")));
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let ports = BTreeSet::new();
        let first = Rule { unit: Some("web.service".into()), ..rule("first") };
        let second = Rule { executable: Some("/usr/sbin/nginx".into()), ..rule("second") };
        let rules = Rules(vec![first, second]);
        assert_eq!(rules.name(&signs(&ports)), Some(&name("first")));
    }

    #[test]
    fn a_rule_that_asks_for_nothing_names_nobody() {
        let rules = Rules(vec![rule("everything")]);
        assert_eq!(rules.name(&signs(&BTreeSet::new())), None);
        assert!(rules.list(&name("everything")));
    }

    #[test]
    fn an_unlisted_one_goes_by_its_unit_then_its_file_then_the_kernels_name() {
        let ports = BTreeSet::new();
        let all = signs(&ports);
        assert_eq!(unlisted(&all), name("web"));
        assert_eq!(unlisted(&Signs { unit: None, ..all }), name("nginx"));
        let kernel_only = Signs { unit: None, executable: None, name: "kworker 1", ..all };
        assert_eq!(unlisted(&kernel_only), name("kworker_1"));
    }

    #[test]
    fn a_unit_without_processes_goes_by_its_rule_or_its_name() {
        let rule = Rule { unit: Some("web.service".into()), ..rule("shop") };
        assert_eq!(by_unit(&Rules(vec![rule]), "web.service"), name("shop"));
        assert_eq!(by_unit(&Rules::default(), "web.service"), name("web"));
        assert_eq!(by_name("curl"), name("curl"));
    }

    #[test]
    fn no_name_at_all_is_still_a_name() {
        let ports = BTreeSet::new();
        let blank = Signs { name: " ", executable: None, unit: None, ports: &ports };
        assert_eq!(unlisted(&blank), nameless());
    }

    #[test]
    fn a_long_name_is_cut_at_a_whole_letter() {
        let long = "ä".repeat(100);
        let cut = readable(&long).unwrap();
        assert_eq!(cut.as_str().len(), 128);
    }
}
