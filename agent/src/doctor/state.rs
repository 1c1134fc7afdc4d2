//! What the agent remembers: its folder, its ledger, its identity, its spool, and whether another one runs.

use std::path::Path;

use common::{
    clock::{Clock, Timestamp},
    task::Chain,
    units::Bytes,
};

use super::{Check, Verdict};
use crate::{
    config::{Config, Token},
    file::{self, Lock},
    identity::{IdentityStore, Standing},
    ledger::Ledger,
    platform,
    spool::Spool,
};

/// Who has the folder.
enum Use {
    /// An agent runs.
    Taken,
    /// Nobody, and none can start while this is held.
    Ours(#[expect(dead_code, reason = "held, not used")] Option<Lock>),
    /// It cannot be told.
    Unknown(String),
}

pub(super) fn checks(config: &Config, clock: &dyn Clock) -> Vec<Check> {
    let folder = &config.folder;
    let is_use = in_use(folder);
    let mut checks = vec![running(folder, &is_use), ledger(config)];
    checks.extend(identity(config, clock.now()));
    checks.push(spool(config, &is_use));
    checks
}

/// An agent that starts while the lock is ours finds it taken and is started again by its supervisor; so it
/// is held for as long as the checks take and no longer.
fn in_use(folder: &Path) -> Use {
    let lock = folder.join("lock");
    if !lock.exists() {
        return Use::Ours(None);
    }
    match file::try_lock(&lock) {
        Ok(Some(lock)) => Use::Ours(Some(lock)),
        Ok(None) => Use::Taken,
        Err(cause) => Use::Unknown(Chain(&cause).to_string()),
    }
}

fn running(folder: &Path, is_use: &Use) -> Check {
    let name = "running agent";
    match is_use {
        Use::Taken => Check::pass(name, format!("one works in {}", folder.display())),
        Use::Ours(_) => Check::pass(name, format!("none works in {}", folder.display())),
        Use::Unknown(cause) => {
            let cost = "what the agent remembers was not looked at in full";
            Check::warn(name, cause.clone(), cost, "run this as root")
        }
    }
}

fn ledger(config: &Config) -> Check {
    let name = "ledger";
    let cost = "no configuration list is applied until a person has looked at it";
    match Ledger::look(&config.folder) {
        (None, None) => Check::pass(name, "none yet: no list was ever applied"),
        (Some(account), None) => {
            let found = format!("whole, {} applications in the mix", account.mix.0.len());
            Check::pass(name, found)
        }
        (Some(_), Some(cause)) => {
            let cost = "none: the other copy is whole and is taken";
            Check::warn(name, Chain(&cause).to_string(), cost, "start the agent; it writes it anew")
        }
        (None, Some(cause)) => {
            let remedy = "see what runs here, then remove ledger and ledger.copy from the folder";
            Check::fail(name, Chain(&cause).to_string(), cost, remedy)
        }
    }
}

fn identity(config: &Config, now: Timestamp) -> Vec<Check> {
    let name = "certificate";
    let store = IdentityStore::new(config);
    let cost = "the agent enrols anew at its next start, and needs a token then";
    let (check, is_needed) = match store.standing() {
        Ok(Standing::Own(identity)) => {
            let left = identity.ends_at().since(now);
            if identity.has_ended(now) {
                let remedy = "start the agent with a token that is good";
                (Check::warn(name, "its time is over", cost, remedy), true)
            } else {
                let hours = left.as_secs() / 3600;
                let found = format!("agent {}, good for {hours} hours more", identity.agent());
                (Check::pass(name, found), false)
            }
        }
        Ok(Standing::None) => {
            let remedy = "start the agent; it enrols by itself";
            (Check::warn(name, "none yet", "nothing is sent before it has one", remedy), true)
        }
        Ok(Standing::Another(uuid) | Standing::Left(uuid)) => {
            let found = format!("it belongs to machine {uuid}: this is a clone");
            (Check::warn(name, found, cost, "start the agent; a ticket or token lets it in"), true)
        }
        Ok(Standing::OtherAuthority) => {
            let found = "it was given under another authority than the pinned one";
            (
                Check::warn(name, found, cost, "start the agent with a token of that aggregator"),
                true,
            )
        }
        Ok(Standing::Damaged(what)) => {
            (Check::warn(name, what, cost, "start the agent with a token that is good"), true)
        }
        Err(cause) => {
            let remedy = "run this as root; an agent needs the machine's uuid and its own folder";
            let cost = "without it the agent does not enrol";
            (Check::fail(name, Chain(&cause).to_string(), cost, remedy), true)
        }
    };
    vec![check, token(config, is_needed)]
}

fn token(config: &Config, is_needed: bool) -> Check {
    let name = "join token";
    let (verdict, found) = match &config.token {
        Some(Token::Here(_)) => (Verdict::Pass, "it stands in agent.toml".to_owned()),
        Some(Token::File(path)) => match std::fs::read_to_string(path) {
            Ok(text) if !text.trim().is_empty() => {
                (Verdict::Pass, format!("{} has one", path.display()))
            }
            Ok(_) => (Verdict::Fail, format!("{} is empty", path.display())),
            Err(cause) => (Verdict::Fail, format!("{}: {cause}", path.display())),
        },
        None => (Verdict::Fail, "agent.toml names none".to_owned()),
    };
    if verdict == Verdict::Pass || !is_needed {
        let unneeded = if is_needed { "" } else { "; it is not needed any more" };
        return Check::pass(name, format!("{found}{unneeded}"));
    }
    let remedy = "put what `sinterctl tokens create` prints into token_file";
    Check::fail(name, found, "the agent cannot enrol, unless it is a clone with a ticket", remedy)
}

fn spool(config: &Config, is_use: &Use) -> Check {
    let name = "spool";
    let (folder, most) = (config.folder.join("spool"), Bytes(config.spool_bytes));
    let size = size_of(&folder.join("samples"));
    // A folder that is not there yet is made where its parents are.
    let place = folder.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
    let free = platform::room_at(place);
    let room = free.map_or_else(|| "unknown room".to_owned(), |free| format!("{free} free"));
    let sizes = format!("{size} of {most} used, {room}");
    if free.is_some_and(|free| free.0 < most.0.saturating_sub(size.0)) {
        let cost = "while the aggregator is away samples are dropped earlier than configured";
        return Check::warn(name, sizes, cost, "make room, or lower spool_mib");
    }
    match is_use {
        Use::Taken => Check::pass(name, format!("in use by the running agent; {sizes}")),
        Use::Unknown(cause) => {
            Check::warn(name, cause.clone(), "it is not known whether it opens", "run this as root")
        }
        Use::Ours(_) => match Spool::examine(&folder) {
            Ok(None) => Check::pass(name, format!("none yet; {sizes}")),
            Ok(Some(found)) if found.damaged == 0 => {
                Check::pass(name, format!("{} samples wait; {sizes}", found.whole))
            }
            Ok(Some(found)) => {
                let said = format!("{} samples are damaged, {} whole", found.damaged, found.whole);
                let cost = "the damaged samples are lost, and a gap says so";
                Check::warn(name, said, cost, "none; look at the disk's health")
            }
            Err(cause) => {
                let cost = "the agent sets it aside: what waited in it is lost, and a gap says so";
                Check::warn(name, Chain(&cause).to_string(), cost, "look at the disk's health")
            }
        },
    }
}

/// Bytes of the files in a folder without folders in it.
fn size_of(folder: &Path) -> Bytes {
    let Ok(entries) = std::fs::read_dir(folder) else { return Bytes(0) };
    let sizes = entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len()));
    Bytes(sizes.sum())
}
