//! What the windows of a known fleet are inferred to mean.

use std::time::Duration;

use super::*;
use crate::{
    catalogue::{Application, Class},
    history::Limits,
    hypervisor::{Power, ProbeKind},
    join::{
        Used,
        tests::fleet::{App, Fleet, Kind, app, at, demonstration, link, name, vm},
    },
};

/// What inference goes by besides the windows, owned.
pub(crate) struct Around {
    pub(crate) policy: Policy,
    pub(crate) catalogue: Catalogue,
    pub(crate) scope: Scope,
    pub(crate) groups: GroupRules,
    pub(crate) former: Findings,
    pub(crate) cooldowns: BTreeMap<VmId, Timestamp>,
    pub(crate) busy: BTreeSet<VmId>,
}

fn application(class: Class, movable: bool, port: u16) -> Application {
    let serves = [(port, ProbeKind::HttpGet { path: "/health".to_owned() })].into();
    Application { class, movable, serves, ..Application::default() }
}

pub(crate) fn around() -> Around {
    let catalogue = [
        ("web", application(Class::Web, true, 8080)),
        ("api", application(Class::Business, true, 8080)),
        ("store", Application { keeps_data: true, ..application(Class::Database, true, 5432) }),
        ("report", application(Class::Batch, true, 9100)),
    ];
    Around {
        policy: Policy::demonstration(),
        catalogue: Catalogue(catalogue.map(|(app, entry)| (name(app), entry)).into()),
        scope: Scope::default(),
        groups: GroupRules::default(),
        former: Findings::default(),
        cooldowns: BTreeMap::new(),
        busy: BTreeSet::new(),
    }
}

impl Around {
    pub(crate) fn infer(&self, recent: &[Joined]) -> Findings {
        let Self { policy, catalogue, scope, groups, former, cooldowns, busy } = self;
        let mut history = History::new(Limits::of(policy));
        recent.iter().for_each(|joined| history.take(joined));
        let history = &history;
        let context =
            Context { policy, catalogue, scope, groups, former, cooldowns, busy, history };
        infer(recent, &context)
    }

    fn standing(&self, fleet: &Fleet, of: &str) -> Standing {
        self.infer(&fleet.joined(3)).machines.remove(&vm(of)).unwrap()
    }
}

fn claim(claim: &Claim, holds: bool, part: &str) {
    assert_eq!(claim.holds, holds, "{}", claim.reason);
    assert!(claim.reason.contains(part), "{:?} does not say {part:?}", claim.reason);
}

#[test]
fn a_machine_that_computes_is_active() {
    let standing = around().standing(&demonstration(), "report-1");
    claim(&standing.active, true, "uses up to 6.00 % of its CPU");
}

#[test]
fn a_machine_on_which_only_the_agent_works_is_not_active() {
    let standing = around().standing(&demonstration(), "idle-1");
    claim(&standing.active, false, "in 0 of 4 looks");
    claim(&standing.participating, false, "is not active");
}

#[test]
fn a_machine_that_is_off_is_not_active() {
    let mut fleet = demonstration();
    fleet.guest("web-1").power = Power::Off;
    let standing = around().standing(&fleet, "web-1");
    claim(&standing.active, false, "powered off");
    claim(&standing.candidate, false, "powered off");
}

#[test]
fn machines_that_call_each_other_participate() {
    let standing = around().standing(&demonstration(), "api-1");
    claim(&standing.participating, true, "works with store-1, web-1");
}

#[test]
fn a_job_on_its_own_does_not_participate() {
    let standing = around().standing(&demonstration(), "report-1");
    claim(&standing.participating, false, "works with no other machine");
}

#[test]
fn half_closed_connections_are_no_part_in_anything() {
    let mut fleet = demonstration();
    fleet.guest("lingering-1").apps[0].cpu = 20;
    let standing = around().standing(&fleet, "lingering-1");
    claim(&standing.active, true, "");
    claim(&standing.participating, false, "3 connections only wait to be closed");
}

#[test]
fn rare_calls_do_not_make_two_machines_work_together() {
    let mut fleet =
        Fleet::of(&[("a", vec![app("job", 30, 5, &[])]), ("b", vec![app("db", 30, 5, &[1])])]);
    let mut around = around();
    fleet.links = vec![link("a", "job", "b", 1, Kind::Short(0.1))];
    around.policy.communicates_per_second = 0.2;
    claim(&around.standing(&fleet, "a").participating, false, "");
    around.policy.communicates_per_second = 0.001;
    claim(&around.standing(&fleet, "a").participating, true, "works with b");
}

#[test]
fn a_visitor_from_outside_is_no_partner() {
    let mut fleet = Fleet::of(&[("web", vec![app("web", 30, 5, &[80])])]);
    fleet.links = vec![link("10.9.9.9", "", "web", 80, Kind::Short(5.0))];
    claim(&around().standing(&fleet, "web").participating, false, "no other machine");
}

#[test]
fn what_the_whole_fleet_calls_binds_nobody_to_anybody() {
    let names = ["a", "b", "c", "d", "e", "f", "dns"];
    let apps = |name: &'static str| vec![app(name, 20, 4, if name == "dns" { &[53] } else { &[] })];
    let mut fleet = Fleet::of(&names.map(|name| (name, apps(name))));
    fleet.links =
        names[..6].iter().map(|from| link(from, from, "dns", 53, Kind::Pool(1))).collect();
    claim(&around().standing(&fleet, "a").participating, false, "no other machine");
    let mut around = around();
    around.policy.shared_infrastructure_share = 1.0;
    let standing = around.standing(&fleet, "a");
    claim(&standing.participating, true, "works with dns");
    assert_eq!(standing.group, names.map(vm).into_iter().min());
}

#[test]
fn a_guest_that_agrees_with_its_hypervisor_is_trusted() {
    claim(&around().standing(&demonstration(), "web-1").trusted, true, "agree within 50 %");
}

#[test]
fn a_guest_that_says_less_than_the_hypervisor_sees_is_a_finding_and_no_candidate() {
    let mut fleet = demonstration();
    fleet.guest("web-1").lie = 0.2;
    let findings = around().infer(&fleet.joined(3));
    let standing = &findings.machines[&vm("web-1")];
    claim(&standing.trusted, false, "the guest says it uses 0.01 cores");
    claim(&standing.candidate, false, "the hypervisor says 0.06 cores");
    assert!(findings.remarks.iter().any(|remark| remark.starts_with("web-1 is not trusted")));
    // Whatever it says, what it is seen to use counts.
    assert!(standing.cpu_peak >= Some(Millicores(62)));
}

#[test]
fn a_guest_with_another_mac_is_not_trusted() {
    let mut fleet = demonstration();
    fleet.guest("web-1").mac_in_guest = Some("0a:00:00:00:00:0a");
    claim(&around().standing(&fleet, "web-1").trusted, false, "MAC");
}

#[test]
fn a_machine_without_an_agent_is_shown_and_no_candidate() {
    let mut fleet = demonstration();
    fleet.guest("store-1").has_agent = false;
    let standing = around().standing(&fleet, "store-1");
    claim(&standing.active, true, "");
    claim(&standing.trusted, false, "no agent");
    claim(&standing.candidate, false, "no agent");
    // Its peer still says that they work together.
    claim(&standing.participating, true, "works with api-1");
}

#[test]
fn a_machine_with_room_can_carry_more() {
    let standing = around().standing(&demonstration(), "api-1");
    claim(&standing.candidate, true, "can carry more: 90 % of CPU and 88 % of memory");
    let up = standing.opportunities.iter().any(|o| matches!(o, Opportunity::MixUp { .. }));
    assert!(up);
    assert_eq!(
        standing.stays[&name("api")],
        "serves clients, and moves only together with a service address"
    );
}

#[test]
fn a_full_machine_cannot_carry_more() {
    let mut fleet = demonstration();
    fleet.guest("api-1").memory_mib = 40;
    let standing = around().standing(&fleet, "api-1");
    assert!(!standing.opportunities.iter().any(|o| matches!(o, Opportunity::MixUp { .. })));
}

#[test]
fn a_job_nobody_calls_could_leave_though_its_health_is_asked() {
    let standing = around().standing(&demonstration(), "report-1");
    claim(&standing.candidate, true, "report could leave it: it is a job that nothing calls");
    let findings = around().infer(&demonstration().joined(3));
    let on_loopback = findings.edges.iter().filter(|(key, _)| key.client.vm() == key.server.vm());
    assert_eq!(on_loopback.count(), 0);
}

#[test]
fn a_job_that_its_own_machine_calls_faster_than_health_is_asked_stays() {
    let mut fleet = demonstration();
    fleet.links.push(link("report-1", "", "report-1", 9100, Kind::Short(20.0)));
    let standing = around().standing(&fleet, "report-1");
    assert!(standing.stays[&name("report")].contains("serves clients"), "{:?}", standing.stays);
}

#[test]
fn a_call_in_an_older_window_keeps_an_application_where_it_is() {
    let mut fleet = demonstration();
    fleet.links.push(link("10.9.9.9", "", "report-1", 9100, Kind::Short(1.0)));
    let mut joined = fleet.joined(3);
    joined.extend(demonstration().joined(6).split_off(3));
    let findings = around().infer(&joined);
    let standing = &findings.machines[&vm("report-1")];
    assert!(standing.stays[&name("report")].contains("serves clients"));
    let quiet = findings.edges.iter().find(|(key, _)| key.port == 9100).unwrap();
    assert_eq!((quiet.1.seen, quiet.1.connections.lower), (0, 0.0));
    assert!(quiet.1.connections.upper > 0.3 && !quiet.1.records.is_empty());
}

#[test]
fn what_keeps_an_application_is_told() {
    type Change = fn(&mut Application);
    let cases: [(Change, &str); 4] = [
        (|a| a.pinned = true, "is pinned"),
        (|a| a.movable = false, "may not move"),
        (|a| a.keeps_data = true, "keeps data"),
        (|a| a.class = Class::Web, "29 s without a call do not show that nobody needs it"),
    ];
    for (change, part) in cases {
        let mut around = around();
        change(around.catalogue.0.get_mut(&name("report")).unwrap());
        let stays = around.standing(&demonstration(), "report-1").stays;
        assert!(stays[&name("report")].contains(part), "{stays:?} does not say {part:?}");
    }
    let mut around = around();
    around.catalogue.0.remove(&name("report"));
    let stays = around.standing(&demonstration(), "report-1").stays;
    assert_eq!(stays[&name("report")], "is not in the catalogue");
}

#[test]
fn an_unhealthy_application_stays() {
    let mut fleet = demonstration();
    fleet.guest("report-1").apps[0].healthy = false;
    let stays = around().standing(&fleet, "report-1").stays;
    assert!(stays[&name("report")].contains("not healthy"));
}

#[test]
fn long_silence_shows_that_an_application_is_unused() {
    let mut around = around();
    around.catalogue.0.get_mut(&name("report")).unwrap().class = Class::Web;
    around.policy.unused_per_second = 0.2;
    let standing = around.standing(&demonstration(), "report-1");
    claim(&standing.candidate, true, "report could leave it: it was called 0 times in 29 s");
}

#[test]
fn a_machine_given_more_than_it_needs_would_do_with_less() {
    let mut fleet = demonstration();
    fleet.guest("api-1").cpu = 2000;
    fleet.guest("api-1").memory_mib = 2048;
    let standing = around().standing(&fleet, "api-1");
    let lowered = standing.opportunities.iter().find_map(|o| match o {
        Opportunity::Shrink { to } => Some(*to),
        _ => None,
    });
    let to = lowered.unwrap();
    // 32 MiB at peak and a fifth of margin; CPU at the floor below which guests stutter.
    assert_eq!((to.cpu, to.memory), (Some(Millicores(100)), Some(Bytes::mebi(39))));
    assert_eq!(to.storage, standing.allocation.storage);
}

#[test]
fn a_machine_that_needs_what_it_has_is_not_shrunk() {
    let mut fleet = demonstration();
    fleet.guest("api-1").cpu = 110;
    fleet.guest("api-1").memory_mib = 45;
    let standing = around().standing(&fleet, "api-1");
    assert!(!standing.opportunities.iter().any(|o| matches!(o, Opportunity::Shrink { .. })));
}

#[test]
fn a_machine_that_ran_out_of_memory_is_given_no_less() {
    let mut fleet = demonstration();
    fleet.guest("api-1").out_of_memory = true;
    let standing = around().standing(&fleet, "api-1");
    assert!(!standing.opportunities.iter().any(|o| matches!(o, Opportunity::Shrink { .. })));
}

#[test]
fn memory_is_not_lowered_while_nobody_counts_the_times_it_ran_out() {
    let mut joined = demonstration().joined(3);
    for window in &mut joined {
        window.machines.get_mut(&vm("api-1")).unwrap().out_of_memory = None;
    }
    let findings = around().infer(&joined);
    for opportunity in &findings.machines[&vm("api-1")].opportunities {
        if let Opportunity::Shrink { to } = opportunity {
            assert_eq!(to.memory, Some(Bytes::mebi(256)));
        }
    }
}

#[test]
fn too_few_windows_make_no_candidate() {
    let findings = around().infer(&demonstration().joined(1));
    claim(&findings.machines[&vm("web-1")].candidate, false, "1 of 2 windows needed");
}

#[test]
fn poor_coverage_makes_no_candidate() {
    let mut fleet = demonstration();
    fleet.guest("web-1").loses_one_in = 4;
    let standing = around().standing(&fleet, "web-1");
    claim(&standing.candidate, false, "coverage was 70 %");
    assert!(standing.coverage < 0.8);
}

#[test]
fn what_the_operator_left_out_is_no_candidate() {
    let mut around = around();
    around.scope.opted_out.insert(vm("web-1"), "quarter end".to_owned());
    claim(
        &around.standing(&demonstration(), "web-1").candidate,
        false,
        "left out by the operator: quarter end",
    );
    let mut fleet = demonstration();
    fleet.guest("api-1").labels.push("sinter:never-touch");
    claim(&around.standing(&fleet, "api-1").candidate, false, "sinter:never-touch");
}

#[test]
fn a_machine_cools_down_after_a_plan() {
    let mut around = around();
    around.cooldowns.insert(vm("web-1"), at(90));
    claim(&around.standing(&demonstration(), "web-1").candidate, false, "alone for another 60 s");
    around.cooldowns.insert(vm("web-1"), at(30));
    claim(&around.standing(&demonstration(), "web-1").candidate, true, "");
}

#[test]
fn a_plan_under_way_holds_its_machine_and_its_group() {
    let mut around = around();
    around.busy.insert(vm("web-1"));
    let findings = around.infer(&demonstration().joined(3));
    claim(&findings.machines[&vm("web-1")].candidate, false, "a plan under way touches it");
    claim(&findings.machines[&vm("store-1")].candidate, false, "touches a machine it works with");
    claim(&findings.machines[&vm("report-1")].candidate, true, "");
}

#[test]
fn a_clone_on_trial_is_no_candidate() {
    let mut fleet = demonstration();
    let mut clone = fleet.guest("report-1").clone();
    (clone.name, clone.clone_of) = ("report-1-trial", Some("report-1"));
    fleet.guests.push(clone);
    claim(&around().standing(&fleet, "report-1-trial").candidate, false, "clone on trial");
}

#[test]
fn needs_are_the_peaks_of_all_windows_and_the_mean_over_them() {
    let mut joined = demonstration().joined(3);
    let peak = |joined: &mut Joined, cpu, memory| {
        let machine = joined.machines.get_mut(&vm("report-1")).unwrap();
        let used = machine.applications.get_mut(&name("report")).unwrap();
        (used.cpu_peak, used.memory_peak) = (Millicores(cpu), Bytes::mebi(memory));
    };
    peak(&mut joined[0], 400, 20);
    peak(&mut joined[1], 100, 90);
    let findings = around().infer(&joined);
    let need = findings.machines[&vm("report-1")].needs[&name("report")];
    assert_eq!((need.cpu_peak, need.memory_peak), (Millicores(400), Bytes::mebi(90)));
    assert_eq!(need.cpu_mean, Millicores(30));
    assert!(need.written_per_second.is_some_and(|written| (written - 100.0).abs() < 5.0));
}

#[test]
fn an_edge_has_its_rate_with_an_interval() {
    let findings = around().infer(&demonstration().joined(3));
    let api = Party::Machine { vm: vm("api-1"), application: Some(name("api")) };
    let (_, calls) = findings.edges.iter().find(|(key, _)| key.server == api).unwrap();
    let Rate { per_second, lower, upper } = calls.connections;
    assert!((per_second - 5.0).abs() < 0.01, "{per_second}");
    assert!(lower > 3.6 && lower < per_second && upper > per_second && upper < 6.7);
    assert!(calls.coverage > 0.99 && !calls.records.is_empty());
    assert_eq!(rates::rate(50, Duration::from_secs(10)), calls.connections);
}

#[test]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate of the test is some hundreds"
)]
fn cpu_that_nobody_accounts_for_is_shared_out_by_what_applications_do() {
    let mut joined = demonstration().joined(12);
    let (machine, api) = (vm("api-1"), name("api"));
    let is_own = |key: &EdgeKey| {
        let own = |party: &Party| party.vm() == Some(&machine) && party.application() == Some(&api);
        own(&key.client) || own(&key.server)
    };
    let mut rates = Vec::new();
    for (number, window) in (0..).zip(&mut joined) {
        let mut rate = 0.0;
        for (_, traffic) in window.edges.iter_mut().filter(|(key, _)| is_own(key)) {
            (traffic.opened, traffic.exchanges) = (100 + 40 * (number % 5), None);
            rate += traffic.opened as f64 / traffic.watched.as_secs_f64();
        }
        let api_1 = window.machines.get_mut(&machine).unwrap();
        api_1.applications.get_mut(&api).unwrap().cpu_mean = None;
        let known: u64 =
            api_1.applications.values().filter_map(|used| used.cpu_mean).map(|cpu| cpu.0).sum();
        let whole = Some(Millicores(known + 20 + (rate * 3.0).round() as u64));
        (api_1.guest.cpu_mean, api_1.outside.cpu_mean) = (whole, whole);
        rates.push(rate);
    }
    let due = 3.0 * rates.iter().sum::<f64>() / rates.len() as f64;
    let need = around().infer(&joined).machines[&machine].needs[&api];
    let told = need.cpu_shared_out.unwrap();
    assert!((need.cpu_mean.0 as f64 - due).abs() < 0.02 * due + 1.0, "{need:?} for {due}");
    assert!(told.lower <= told.value && told.value <= told.upper && told.upper < 2 * told.value);
    assert!(need.cpu_peak > need.cpu_mean);
    // Two windows tell nothing apart.
    let few = around().infer(&joined[..2]);
    assert_eq!(few.machines[&machine].needs[&api].cpu_shared_out, None);
}

#[test]
fn no_windows_find_nothing() {
    assert_eq!(around().infer(&[]), Findings::default());
}

#[test]
fn the_order_in_which_samples_come_changes_no_finding() {
    let fleet: Fleet = demonstration();
    let joined = |reversed| -> Vec<Joined> {
        fleet.windows_in(4, reversed).iter().map(crate::join::join).collect()
    };
    assert_eq!(around().infer(&joined(false)), around().infer(&joined(true)));
}

#[test]
fn applications_that_use_more_than_the_whole_machine_are_not_believed() {
    let mut joined = demonstration().joined(3);
    for window in &mut joined {
        let machine = window.machines.get_mut(&vm("web-1")).unwrap();
        machine.guest.cpu_mean = None;
        machine.applications.get_mut(&name("web")).unwrap().cpu_mean = Some(Millicores(400));
    }
    claim(&around().infer(&joined).machines[&vm("web-1")].trusted, false, "its applications say");
}

#[test]
fn applications_use_no_more_cpu_than_the_hypervisor_says_of_the_whole_machine() {
    let mut joined = demonstration().joined(3);
    let tell = |joined: &mut [Joined], cpu: [u64; 2], outside: Option<u64>| {
        for machine in
            joined.iter_mut().map(|window| window.machines.get_mut(&vm("web-1")).unwrap())
        {
            let web = machine.applications[&name("web")].clone();
            machine.applications.clear();
            for (of, cpu) in ["web", "other"].into_iter().zip(cpu) {
                let used = Used { cpu_mean: Some(Millicores(cpu)), ..web.clone() };
                machine.applications.insert(name(of), used);
            }
            machine.outside.cpu_mean = outside.map(Millicores);
        }
        let needs = around().infer(joined).machines[&vm("web-1")].needs.clone();
        ["web", "other"].map(|of| {
            let need = needs[&name(of)];
            (need.cpu_mean.0, need.cpu_told.map(|told| told.0))
        })
    };
    assert_eq!(tell(&mut joined, [60, 30], Some(100)), [(60, None), (30, None)]);
    assert_eq!(tell(&mut joined, [300, 100], Some(100)), [(75, Some(300)), (25, Some(100))]);
    assert_eq!(tell(&mut joined, [200, 100], Some(100)), [(66, Some(200)), (33, Some(100))]);
    assert_eq!(
        tell(&mut joined, [300, 100], None),
        [(300, None), (100, None)],
        "unknown cuts nothing"
    );
    for window in &mut joined {
        window.machines.get_mut(&vm("web-1")).unwrap().outside.watched = Duration::from_secs(1);
    }
    let seldom = tell(&mut joined, [300, 100], Some(100));
    assert_eq!(seldom, [(300, None), (100, None)], "who hardly looked cuts nothing");
}

#[test]
fn an_application_nobody_lists_is_measured_all_the_same() {
    let mut fleet = demonstration();
    let stray = App { listed: false, in_mix: false, ..app("stray", 25, 7, &[9999]) };
    fleet.guest("idle-1").apps.push(stray);
    let standing = around().standing(&fleet, "idle-1");
    assert_eq!(standing.needs[&name("stray")].memory_peak, Bytes::mebi(7));
    assert_eq!(standing.listens[&name("stray")], [9999].into());
}
