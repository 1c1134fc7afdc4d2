//! How agents sample and name applications: the policy and the catalogue in the wire's words.

use common::wire::agent::v1;

use crate::{catalogue::Catalogue, policy::Policy};

/// Every so many samples one is full: what a lost change costs ends with it.
const FULL_EVERY: u32 = 60;

/// What every agent is told.
pub(super) fn sampling(policy: &Policy, catalogue: &Catalogue) -> v1::SamplingPolicy {
    let rules = catalogue.0.iter().flat_map(|(name, application)| {
        application.rules.iter().map(move |rule| v1::ApplicationRule {
            application: name.as_str().to_owned(),
            executable: rule.executable.clone().unwrap_or_default(),
            unit: rule.unit.clone().unwrap_or_default(),
            port: rule.port.map_or(0, u32::from),
        })
    });
    let mut rules: Vec<_> = rules.filter(says_something).collect();
    // The first that matches wins, so the more a rule says the earlier it stands. The sort keeps
    // the order of names among equals: every agent is told the same.
    rules.sort_by_key(|rule| std::cmp::Reverse(parts(rule)));
    let period_ms = u32::try_from(policy.sample_period_ms).unwrap_or(u32::MAX);
    v1::SamplingPolicy { period_ms, full_every: FULL_EVERY, rules }
}

/// A rule without any part would name everything.
fn says_something(rule: &v1::ApplicationRule) -> bool {
    parts(rule) > 0
}

fn parts(rule: &v1::ApplicationRule) -> usize {
    [!rule.executable.is_empty(), !rule.unit.is_empty(), rule.port != 0]
        .into_iter()
        .filter(|said| *said)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Application, Rule};

    fn application(rule: Rule) -> Application {
        Application { rules: vec![rule], ..Application::default() }
    }

    #[test]
    fn the_rule_that_says_more_comes_first_and_one_that_says_nothing_never() {
        let executable = Some("/usr/bin/java".to_owned());
        let any_java = Rule { executable: executable.clone(), ..Rule::default() };
        let this_java = Rule { executable, port: Some(8080), ..Rule::default() };
        let catalogue = Catalogue(
            [
                ("java".parse().unwrap(), application(any_java)),
                ("nothing".parse().unwrap(), application(Rule::default())),
                ("shop".parse().unwrap(), application(this_java)),
            ]
            .into(),
        );

        let told = sampling(&Policy::default(), &catalogue);

        let names: Vec<_> = told.rules.iter().map(|rule| rule.application.as_str()).collect();
        assert_eq!(names, ["shop", "java"]);
        assert_eq!(told.period_ms, 10_000);
    }
}
