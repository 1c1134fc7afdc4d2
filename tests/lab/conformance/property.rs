//! The promises, each as what is done and what is then so.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use aggregator::hypervisor::{
    Allocation, CloneOrder, HypervisorError, NEVER_TOUCH, Power, Telemetry,
};
use common::{
    id::VmId,
    units::{Bytes, Millicores},
};

use super::{Bench, Fault, Held, clone, machine, order, order_of, trial};

/// How long something that shall come about may take: an emulated guest stops slowly.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often it is looked whether it did.
const LOOK: Duration = Duration::from_millis(200);
/// How long a machine may take to stop.
const GRACE: Duration = Duration::from_secs(30);

/// One promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property {
    /// What is told is what is there.
    Inventory,
    /// Totals are told of what runs, and never go back.
    Telemetry,
    /// A clone that is ordered twice is made once.
    CloneTwice,
    /// A clone is alone in its trial's network, and production stays where it is.
    Isolation,
    /// What will be refused again and what may pass are two errors.
    RefusedOrUnreachable,
    /// Work whose answer was lost is found done.
    LostAnswer,
    /// Work goes on after the vendor's server ended in the middle of it.
    Restart,
    /// A clone takes its source's place and gives it back, each twice.
    SwapTwice,
    /// A clone that is removed twice leaves nothing.
    RemoveTwice,
    /// What operators keep for themselves is refused at the act.
    NeverTouch,
}

fn wrong(words: impl Into<String>) -> Fault {
    Fault::Wrong(words.into())
}

fn ensure(is: bool, words: impl FnOnce() -> String) -> Held {
    if is { Ok(()) } else { Err(Fault::Wrong(words())) }
}

fn is_refused(done: Result<(), HypervisorError>, what: &str) -> Held {
    match done {
        Err(HypervisorError::Refused { .. }) => Ok(()),
        other => Err(wrong(format!("{what} was to be refused: {other:?}"))),
    }
}

fn is_unreachable(done: Result<(), HypervisorError>, what: &str) -> Held {
    match done {
        Err(HypervisorError::Unreachable(_)) => Ok(()),
        other => Err(wrong(format!("{what} was to be unreachable: {other:?}"))),
    }
}

/// Makes a call until it is answered otherwise than by nobody.
async fn until_answered<T>(
    mut call: impl AsyncFnMut() -> Result<T, HypervisorError>,
) -> Result<T, HypervisorError> {
    let begun = Instant::now();
    loop {
        match call().await {
            Err(HypervisorError::Unreachable(_)) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(LOOK).await;
            }
            answered => return answered,
        }
    }
}

impl Property {
    /// All of them. The last leaves a label, which some simulators do not take back.
    pub const ALL: [Self; 10] = [
        Self::Inventory,
        Self::Telemetry,
        Self::CloneTwice,
        Self::Isolation,
        Self::RefusedOrUnreachable,
        Self::LostAnswer,
        Self::Restart,
        Self::SwapTwice,
        Self::RemoveTwice,
        Self::NeverTouch,
    ];

    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Inventory => "inventory is complete",
            Self::Telemetry => "totals are sane and never go back",
            Self::CloneTwice => "cloned twice, one clone",
            Self::Isolation => "isolated twice, production stays",
            Self::RefusedOrUnreachable => "refused is not unreachable",
            Self::LostAnswer => "a lost answer is found done",
            Self::Restart => "server ends in the middle",
            Self::SwapTwice => "promoted and restored twice",
            Self::RemoveTwice => "removed twice, nothing left",
            Self::NeverTouch => "never-touch at the act",
        }
    }

    pub(super) async fn hold(self, bench: &mut dyn Bench) -> Held {
        match self {
            Self::Inventory => inventory(bench).await,
            Self::Telemetry => telemetry(bench).await,
            Self::CloneTwice => clone_twice(bench).await,
            Self::Isolation => isolation(bench).await,
            Self::RefusedOrUnreachable => refused_or_unreachable(bench).await,
            Self::LostAnswer => lost_answer(bench).await,
            Self::Restart => restart(bench).await,
            Self::SwapTwice => swap_twice(bench).await,
            Self::RemoveTwice => remove_twice(bench).await,
            Self::NeverTouch => never_touch(bench).await,
        }
    }
}

async fn inventory(bench: &dyn Bench) -> Held {
    let told = bench.hypervisor().inventory().await?;
    let expected = bench.machines().await;

    let names = told.machines.values();
    let names: BTreeMap<_, _> =
        names.map(|machine| (machine.name.clone(), machine.power == Power::On)).collect();
    ensure(names == expected, || format!("{names:?} is told, {expected:?} is there"))?;
    for machine in told.machines.values() {
        let name = &machine.name;
        ensure(told.hosts.contains_key(&machine.host), || format!("{name} is on no host"))?;
        let given = machine.allocation;
        let is_given = given.cpu > Some(Millicores(0)) && given.memory > Some(Bytes(0));
        ensure(is_given, || format!("{name} is given {given:?}"))?;
        let has_macs = machine.nics.iter().all(|nic| nic.mac.len() == 17);
        ensure(has_macs, || format!("{name} has {:?}", machine.nics))?;
    }
    for host in told.hosts.values() {
        let is_one = host.cpu > Millicores(0) && host.memory > Bytes(0);
        ensure(is_one, || format!("host {} has {} and {}", host.name, host.cpu, host.memory))?;
    }
    Ok(())
}

/// Every total by its name.
fn totals(of: &Telemetry) -> [(&'static str, Option<u64>); 9] {
    let bytes = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.0);
    [
        ("cpu", of.cpu_ms),
        ("received", bytes(of.received)),
        ("sent", bytes(of.sent)),
        ("read", bytes(of.read)),
        ("written", bytes(of.written)),
        ("read operations", of.read_operations),
        ("write operations", of.write_operations),
        ("failed operations", of.failed_operations),
        ("out of memory", of.out_of_memory),
    ]
}

async fn telemetry(bench: &dyn Bench) -> Held {
    let hypervisor = bench.hypervisor();
    let running = hypervisor.inventory().await?.machines.into_values();
    let running = running.filter(|machine| machine.power == Power::On).map(|machine| machine.id);
    let running: BTreeSet<VmId> = running.collect();

    let first = hypervisor.telemetry().await?;
    let told: BTreeSet<VmId> = first.keys().cloned().collect();
    ensure(told == running, || format!("totals of {told:?}, and {running:?} run"))?;
    let begun = Instant::now();
    let second = loop {
        let second = hypervisor.telemetry().await?;
        let is_later =
            |vm: &VmId| second.get(vm).is_some_and(|later| later.taken_at > first[vm].taken_at);
        if running.iter().all(is_later) {
            break second;
        }
        ensure(begun.elapsed() < PATIENCE, || "totals get no later".to_owned())?;
        tokio::time::sleep(LOOK).await;
    };

    for (vm, first) in &first {
        for ((name, before), (_, after)) in totals(first).into_iter().zip(totals(&second[vm])) {
            let is_sane = before.is_none_or(|before| after.is_some_and(|after| after >= before));
            ensure(is_sane, || format!("{name} of {vm} was {before:?} and is {after:?}"))?;
        }
    }
    let known = &second[bench.source()];
    ensure(known.cpu_ms.is_some(), || format!("CPU time of what runs is not known: {known:?}"))
}

async fn clone_twice(bench: &dyn Bench) -> Held {
    let hypervisor = bench.hypervisor();
    let before = hypervisor.inventory().await?;
    let order = order(bench).await?;

    for _ in 0..2 {
        hypervisor.clone_vm(&order).await?;
    }

    let after = hypervisor.inventory().await?;
    let (is, was) = (after.machines.len(), before.machines.len());
    ensure(is == was + 1, || format!("{was} machines became {is}"))?;
    let made = machine(bench, &clone()).await?;
    ensure(made.power == Power::Off, || "a clone runs before it is started".to_owned())?;
    ensure(made.nics.iter().all(|nic| !nic.up), || "its links are up".to_owned())?;
    let of = (made.cloned_from.as_ref(), made.plan.as_ref());
    ensure(of == (Some(&order.source), Some(&order.plan)), || format!("it is of {of:?}"))?;
    ensure(after.machines[bench.source()].power == Power::On, || "its source is off".to_owned())?;
    let other = CloneOrder { plan: "plan-2".parse().unwrap(), ..order };
    is_refused(hypervisor.clone_vm(&other).await, "another plan's clone of that uuid")
}

async fn tried(bench: &dyn Bench) -> Result<(), HypervisorError> {
    let hypervisor = bench.hypervisor();
    hypervisor.clone_vm(&order(bench).await?).await?;
    hypervisor.isolate(&clone(), &trial()).await?;
    hypervisor.start(&clone()).await
}

async fn isolation(bench: &dyn Bench) -> Held {
    let hypervisor = bench.hypervisor();
    let before = machine(bench, bench.source()).await?;
    is_refused(hypervisor.isolate(bench.source(), &trial()).await, "isolating production")?;

    for _ in 0..2 {
        tried(bench).await?;
    }

    let made = machine(bench, &clone()).await?;
    ensure(made.power == Power::On, || "the clone does not run".to_owned())?;
    let trial = trial();
    let is_in = made.nics.iter().any(|nic| nic.network.as_ref() == Some(&trial) && nic.up);
    ensure(is_in, || format!("it is not in its trial's network: {:?}", made.nics))?;
    let production: BTreeSet<_> = before.nics.iter().map(|nic| nic.network.clone()).collect();
    let same =
        |nic: &&aggregator::hypervisor::Nic| before.nics.iter().any(|other| other.mac == nic.mac);
    let is_out = made.nics.iter().filter(same).all(|nic| !production.contains(&nic.network));
    ensure(is_out, || format!("it is in production under its source's MAC: {:?}", made.nics))?;
    let after = machine(bench, bench.source()).await?;
    ensure(after.nics == before.nics, || format!("{:?} became {:?}", before.nics, after.nics))
}

async fn refused_or_unreachable(bench: &mut dyn Bench) -> Held {
    is_refused(bench.hypervisor().remove(bench.source()).await, "removing what is not ours")?;
    is_refused(bench.hypervisor().start(&clone()).await, "starting what is not there")?;
    bench.hypervisor().remove(&clone()).await?;
    bench.hypervisor().stop(&clone(), Duration::ZERO).await?;

    bench.go().await?;
    let hypervisor = bench.hypervisor();
    let answers = [
        ("the inventory", hypervisor.inventory().await.map(drop)),
        ("the totals", hypervisor.telemetry().await.map(drop)),
        // Not success: that it is absent is not known.
        ("stopping", hypervisor.stop(&clone(), Duration::ZERO).await),
        ("removing", hypervisor.remove(&clone()).await),
    ];
    bench.come_back().await;

    for (what, answer) in answers {
        is_unreachable(answer, what)?;
    }
    let told = until_answered(async || bench.hypervisor().inventory().await).await?;
    ensure(told.machines.contains_key(bench.source()), || "the source is gone".to_owned())
}

/// The verbs, in the order of a plan that is taken back.
const VERBS: [&str; 7] = ["clone", "configure", "isolate", "start", "promote", "restore", "remove"];

async fn perform(bench: &dyn Bench, verb: &str, order: &CloneOrder) -> Result<(), HypervisorError> {
    let (hypervisor, source, clone) = (bench.hypervisor(), bench.source(), &order.clone);
    let given = Allocation { cpu: Some(Millicores(750)), ..Allocation::default() };
    match verb {
        "clone" => hypervisor.clone_vm(order).await,
        "configure" => hypervisor.configure(clone, &given).await,
        "isolate" => hypervisor.isolate(clone, &trial()).await,
        "start" => hypervisor.start(clone).await,
        "promote" => hypervisor.promote(source, clone).await,
        "restore" => hypervisor.restore(source, clone).await,
        _ => hypervisor.remove(clone).await,
    }
}

async fn lost_answer(bench: &mut dyn Bench) -> Held {
    let before = bench.things().await;
    let order = order(bench).await?;
    for verb in VERBS {
        bench.lose_next_answer()?;
        let first = perform(bench, verb, &order).await;
        ensure(bench.was_lost(), || format!("{verb} changed nothing"))?;
        if first.is_err() {
            is_unreachable(first, verb)?;
        }
        let again = until_answered(async || perform(bench, verb, &order).await).await;
        again.map_err(|cause| wrong(format!("{verb} was not found done: {cause}")))?;
    }
    let source = machine(bench, bench.source()).await?;
    ensure(source.power == Power::On, || "the source is off".to_owned())?;
    nothing_left(bench, &before).await
}

async fn restart(bench: &mut dyn Bench) -> Held {
    let order = order(bench).await?;
    tried(bench).await?;

    bench.begin_again().await?;

    // One that forgets its machines over that is asked for them again.
    until_answered(async || bench.hypervisor().clone_vm(&order).await).await?;
    tried(bench).await?;
    let told = bench.hypervisor().inventory().await?;
    let clones = told.machines.values().filter(|machine| machine.cloned_from.is_some());
    let clones: Vec<_> = clones.map(|machine| (&machine.id, machine.power)).collect();
    let expected = [(&order.clone, Power::On)];
    ensure(clones == expected, || format!("{clones:?} are clones"))?;
    let source = &told.machines[bench.source()];
    ensure(source.power == Power::On, || "the source is off".to_owned())
}

async fn swap_twice(bench: &dyn Bench) -> Held {
    let hypervisor = bench.hypervisor();
    let before = machine(bench, bench.source()).await?;
    tried(bench).await?;

    for _ in 0..2 {
        hypervisor.promote(bench.source(), &clone()).await?;
    }
    let (out, into) = (machine(bench, bench.source()).await?, machine(bench, &clone()).await?);
    let power = (out.power, into.power);
    ensure(power == (Power::Off, Power::On), || format!("source and clone are {power:?}"))?;
    let networks = |nics: &[aggregator::hypervisor::Nic]| {
        nics.iter().filter(|nic| nic.up).map(|nic| nic.network.clone()).collect::<BTreeSet<_>>()
    };
    let (is, was) = (networks(&into.nics), networks(&before.nics));
    ensure(was.is_subset(&is), || format!("the clone is in {is:?}, its source was in {was:?}"))?;
    ensure(!into.nics.iter().any(|nic| nic.network.as_ref() == Some(&trial())), || {
        "the clone is in its trial's network still".to_owned()
    })?;
    is_refused(hypervisor.remove(&clone()).await, "removing what serves")?;

    for _ in 0..2 {
        hypervisor.restore(bench.source(), &clone()).await?;
    }
    let (back, out) = (machine(bench, bench.source()).await?, machine(bench, &clone()).await?);
    let power = (back.power, out.power);
    ensure(power == (Power::On, Power::Off), || format!("source and clone are {power:?}"))?;
    let (is, was) = (networks(&back.nics), networks(&before.nics));
    ensure(is == was, || format!("the source is in {is:?} and was in {was:?}"))
}

/// A removal that was begun by a call whose answer was lost may be on its way still.
async fn nothing_left(bench: &dyn Bench, before: &BTreeSet<String>) -> Held {
    let begun = Instant::now();
    loop {
        let after = bench.things().await;
        if after == *before {
            return Ok(());
        }
        if begun.elapsed() > GRACE {
            let left: Vec<_> = after.symmetric_difference(before).collect();
            return Err(wrong(format!("{left:?} are left or missing")));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn remove_twice(bench: &dyn Bench) -> Held {
    let before = bench.things().await;
    tried(bench).await?;
    let during = bench.things().await;
    ensure(during.len() > before.len(), || "the tools see no clone".to_owned())?;

    for _ in 0..2 {
        bench.hypervisor().remove(&clone()).await?;
    }

    nothing_left(bench, &before).await?;
    let source = machine(bench, bench.source()).await?;
    ensure(source.power == Power::On, || "the source is off".to_owned())
}

async fn never_touch(bench: &mut dyn Bench) -> Held {
    let kept = bench.keep().await;
    let tried = try_to_touch(bench, &kept).await;
    bench.give_free().await;
    tried
}

async fn try_to_touch(bench: &dyn Bench, kept: &VmId) -> Held {
    let hypervisor = bench.hypervisor();
    let order = order_of(bench, kept).await?;
    let given = Allocation { cpu: Some(Millicores(500)), ..Allocation::default() };
    let before = machine(bench, kept).await?;
    for (what, done) in [
        ("cloning", hypervisor.clone_vm(&order).await),
        ("configuring", hypervisor.configure(kept, &given).await),
        ("stopping", hypervisor.stop(kept, Duration::ZERO).await),
    ] {
        let words = done.as_ref().err().map(ToString::to_string).unwrap_or_default();
        is_refused(done, what)?;
        ensure(words.contains(NEVER_TOUCH), || format!("{what} was refused by {words:?}"))?;
    }
    let after = machine(bench, kept).await?;
    let is_same = (after.power, after.allocation) == (before.power, before.allocation);
    ensure(is_same, || format!("{before:?} became {after:?}"))
}
