//! What `tgtadm` prints, as values. A line that is not understood is passed over: the program has
//! no other form, and later versions add lines.

use std::net::IpAddr;

use common::units::Bytes;

/// One target.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) id: u64,
    pub(super) name: String,
    pub(super) sessions: Vec<Session>,
    pub(super) units: Vec<Unit>,
}

/// An initiator that is logged in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) initiator: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// What it holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) number: u64,
    pub(super) kind: String,
    pub(super) serial: Option<String>,
    /// In steps of 1 MB, as it is printed.
    pub(super) size: Option<Bytes>,
    pub(super) online: bool,
    pub(super) read_only: bool,
    pub(super) store: Option<String>,
}

/// What one session did to one unit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) unit: u64,
    pub(super) session: u64,
    pub(super) reads: u64,
    pub(super) read: Bytes,
    pub(super) writes: u64,
    pub(super) written: Bytes,
    pub(super) failed: u64,
}

impl Target {
    /// Who a session is.
    pub(super) fn initiator(&self, session: u64) -> Option<&str> {
        let known = self.sessions.iter().find(|known| known.id == session);
        known.map(|known| known.initiator.as_str())
    }
}

/// The answer to `show --mode target`. Controllers are left out: they store nothing.
pub(super) fn targets(text: &str) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    for line in text.lines() {
        let Some((name, value)) = line.trim().split_once(": ") else { continue };
        let value = value.trim();
        if let Some(id) = name.strip_prefix("Target ").and_then(|id| id.parse().ok()) {
            targets.push(Target { id, name: value.to_owned(), ..Target::default() });
            continue;
        }
        let Some(target) = targets.last_mut() else { continue };
        match name {
            "I_T nexus" => {
                let id = value.parse().unwrap_or_default();
                target.sessions.push(Session { id, ..Session::default() });
            }
            "LUN" => {
                let number = value.parse().unwrap_or_default();
                target.units.push(Unit { number, ..Unit::default() });
            }
            _ => detail(target, name, value),
        }
    }
    for target in &mut targets {
        target.units.retain(|unit| unit.kind != "controller");
    }
    targets
}

fn detail(target: &mut Target, name: &str, value: &str) {
    if let Some(session) = target.sessions.last_mut() {
        match name {
            "Initiator" => {
                let name = value.split(" alias: ").next().unwrap_or(value);
                session.initiator = name.to_owned();
            }
            "IP Address" => session.addresses.extend(value.parse::<IpAddr>()),
            _ => {}
        }
    }
    let Some(unit) = target.units.last_mut() else { return };
    match name {
        "Type" => unit.kind = value.to_owned(),
        "SCSI SN" => unit.serial = Some(value.to_owned()),
        "Online" => unit.online = value == "Yes",
        "Readonly" => unit.read_only = value == "Yes",
        "Backing store path" if value != "None" => unit.store = Some(value.to_owned()),
        "Size" => {
            let megabytes = value.split(' ').next().and_then(|size| size.parse::<u64>().ok());
            unit.size = megabytes.map(|size| Bytes(size.saturating_mul(1_000_000)));
        }
        _ => {}
    }
}

/// The answer to `stat --mode target`: target, unit, session, then bytes and commands of reads
/// submitted and done and of writes submitted and done, and errors.
pub(super) fn counts(text: &str) -> Vec<Counts> {
    let lines = text.lines().filter_map(|line| {
        let cells: Result<Vec<u64>, _> = line.split_whitespace().map(str::parse).collect();
        let [_, unit, session, _, _, read, reads, _, _, written, writes, failed] =
            cells.ok()?.try_into().ok()?;
        let (read, written) = (Bytes(read), Bytes(written));
        Some(Counts { unit, session, reads, read, writes, written, failed })
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "\
Target 1: iqn.2026-01.example:disk1
    System information:
        Driver: iscsi
        State: ready
    I_T nexus information:
        I_T nexus: 3
            Initiator: iqn.2026-01.example:vm1 alias: none
            Connection: 0
                IP Address: 127.0.0.1
    LUN information:
        LUN: 0
            Type: controller
            Backing store path: None
        LUN: 1
            Type: disk
            SCSI SN: beaf11
            Size: 67 MB, Block size: 512
            Online: Yes
            Readonly: No
            Backing store path: /srv/lun1
    Account information:
    ACL information:
        ALL
";

    #[test]
    fn a_target_is_read_with_who_is_logged_in_and_what_it_holds() {
        let [target] = targets(SHOWN).try_into().unwrap();

        assert_eq!((target.id, target.name.as_str()), (1, "iqn.2026-01.example:disk1"));
        assert_eq!(target.initiator(3), Some("iqn.2026-01.example:vm1"));
        assert_eq!(target.sessions[0].addresses, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        let disk = Unit {
            number: 1,
            kind: "disk".to_owned(),
            serial: Some("beaf11".to_owned()),
            size: Some(Bytes(67_000_000)),
            online: true,
            read_only: false,
            store: Some("/srv/lun1".to_owned()),
        };
        assert_eq!(target.units, [disk]);
    }

    #[test]
    fn what_is_done_counts_and_what_is_only_submitted_does_not() {
        let said = "\
tgt lun sid rd_subm(bytes,cmds) rd_done(bytes,cmds) wr_subm(bytes,cmds) wr_done(bytes,cmds) errs
  1   1   3         8192      2         4096      1         1536      3         1024      2    1
";
        let done = Counts {
            unit: 1,
            session: 3,
            reads: 1,
            read: Bytes(4096),
            writes: 2,
            written: Bytes(1024),
            failed: 1,
        };
        assert_eq!(counts(said), [done]);
    }

    #[test]
    fn what_is_not_understood_is_passed_over() {
        assert_eq!(counts("tgtadm: no such target\n1 2 3\n-1 0 0 0 0 0 0 0 0 0 0 0\n"), []);
        assert_eq!(targets("Target x: y\n LUN: 1\n").len(), 0);
    }
}
