//! Directions, holders and the first sight of connections, from made-up rows.

use common::sample::{ConnectionState, Direction, Protocol};

use super::{
    super::holders::{Candidate, Wanted},
    *,
};

pub(super) const EPHEMERAL: RangeInclusive<u16> = 32_768..=60_999;

pub(super) fn name(text: &str) -> AppName {
    text.parse().unwrap()
}

pub(super) fn process(pid: u32) -> ProcessKey {
    ProcessKey { pid, started_at: Timestamp::from_millis(u64::from(pid)) }
}

pub(super) fn tcp(local: &str, remote: Option<&str>, state: ConnectionState, inode: u32) -> Row {
    let remote = remote.map(|remote| remote.parse().unwrap());
    let local = local.parse().unwrap();
    Row {
        key: ConnectionKey { protocol: Protocol::Tcp, local, remote },
        state,
        inode,
        user: None,
        cookie: 0,
        cgroup: None,
        traffic: None,
    }
}

/// A guest whose sockets are held by the processes given per inode.
#[derive(Default)]
pub(super) struct Guest {
    pub(super) connections: Connections,
    pub(super) applications: HashMap<ProcessKey, AppName>,
    pub(super) held: HashMap<u32, u32>,
    pub(super) groups: HashMap<u64, Group>,
    pub(super) ends_are_told: bool,
}

impl Guest {
    pub(super) fn with(held: &[(u32, u32, &str)]) -> Self {
        let mut guest = Self::default();
        for (inode, pid, application) in held {
            guest.held.insert(*inode, *pid);
            guest.applications.insert(process(*pid), name(application));
        }
        guest
    }

    pub(super) fn look(
        &mut self,
        rows: &[Row],
        second: u64,
    ) -> BTreeMap<ConnectionKey, Connection> {
        self.look_and_hear(rows, second, Told::default())
    }

    pub(super) fn look_and_hear(
        &mut self,
        rows: &[Row],
        second: u64,
        after: Told,
    ) -> BTreeMap<ConnectionKey, Connection> {
        let holders = self.holders(rows);
        let look = Look {
            rows,
            holders: &holders,
            applications: &self.applications,
            groups: &self.groups,
            ephemeral: EPHEMERAL,
            ends_are_told: self.ends_are_told,
            now: Timestamp::from_millis(second * 1000),
        };
        let applications = self.applications.clone();
        self.connections.look(&look, after, &|pid| applications.get(&process(pid)).cloned())
    }

    pub(super) fn hear(&mut self, told: Told) {
        let applications = self.applications.clone();
        self.connections.hear(told, &|pid| applications.get(&process(pid)).cloned());
    }

    fn holders(&self, rows: &[Row]) -> Holders {
        let mut holders = Holders::default();
        let wanted: Vec<_> = rows
            .iter()
            .filter(|row| row.inode != 0)
            .map(|row| Wanted { inode: row.inode, user: None, unit: None, listens: false })
            .collect();
        let candidates =
            self.applications.keys().map(|key| Candidate { key: *key, user: 0, unit: None });
        let living: Vec<_> = candidates.collect();
        let held = &self.held;
        holders.update(&wanted, &living, |pid| {
            Ok(held.iter().filter(|(_, holder)| **holder == pid).map(|(inode, _)| *inode).collect())
        });
        holders
    }

    fn look_at(&mut self, rows: &[Row], second: u64, row: Row) -> Connection {
        self.look(rows, second)[&row.key].clone()
    }
}

#[test]
fn a_port_with_a_listener_is_inbound_and_one_without_is_outbound() {
    let listener = tcp("0.0.0.0:8080", None, ConnectionState::Listen, 1);
    let inbound = tcp("10.0.0.5:8080", Some("10.0.0.9:40000"), ConnectionState::Established, 2);
    let outbound = tcp("10.0.0.5:41000", Some("10.0.0.7:8080"), ConnectionState::Established, 3);
    let mut guest = Guest::with(&[(1, 20, "web"), (2, 20, "web"), (3, 20, "web")]);

    let table = guest.look(&[listener, inbound, outbound], 1);

    assert_eq!(table[&listener.key].direction, Direction::Listener);
    assert_eq!(table[&inbound.key].direction, Direction::Inbound);
    assert_eq!(table[&outbound.key].direction, Direction::Outbound);
    let holder = Holder::Process { process: process(20), application: Some(name("web")) };
    assert!(table.values().all(|connection| connection.holder == holder));
}

#[test]
fn a_listener_of_another_address_accepts_nothing_here() {
    let listener = tcp("10.0.0.6:41000", None, ConnectionState::Listen, 1);
    let outbound = tcp("10.0.0.5:41000", Some("10.0.0.7:80"), ConnectionState::Established, 2);
    let mut guest = Guest::with(&[(1, 20, "web"), (2, 21, "other")]);
    let row = guest.look_at(&[listener, outbound], 1, outbound);
    assert_eq!(row.direction, Direction::Outbound);
}

#[test]
fn the_rows_of_the_founding_example_keep_their_states() {
    // TCP hope www.computerhope.com:telnet ESTABLISHED, TCP hope multicity.com:90 CLOSE_WAIT.
    let telnet = tcp("10.0.0.5:40001", Some("204.144.1.2:23"), ConnectionState::Established, 1);
    let lingering = tcp("10.0.0.5:40002", Some("66.33.1.2:90"), ConnectionState::CloseWait, 2);
    let mut guest = Guest::with(&[(1, 20, "telnet"), (2, 21, "browser")]);

    let table = guest.look(&[telnet, lingering], 1);

    assert_eq!(table[&telnet.key].state, ConnectionState::Established);
    assert_eq!(table[&lingering.key].state, ConnectionState::CloseWait);
    assert_eq!(table[&lingering.key].holder.application(), Some(&name("browser")));
}

#[test]
fn a_time_wait_row_has_no_process_but_its_listeners_application() {
    let listener = tcp("[::]:8080", None, ConnectionState::Listen, 1);
    let closed = tcp("10.0.0.5:8080", Some("10.0.0.9:40000"), ConnectionState::TimeWait, 0);
    let mut guest = Guest::with(&[(1, 20, "web")]);

    let row = guest.look_at(&[listener, closed], 1, closed);

    let Holder::Unknown { reason, application } = row.holder else { panic!("{row:?}") };
    assert!(reason.contains("TIME_WAIT"), "{reason}");
    assert_eq!(application, Some(name("web")));
    assert_eq!(row.direction, Direction::Inbound);
}

#[test]
fn an_outgoing_connection_seen_only_closed_belongs_to_nobody_known() {
    let closed = tcp("10.0.0.5:40000", Some("10.0.0.9:80"), ConnectionState::TimeWait, 0);
    let row = Guest::default().look_at(&[closed], 1, closed);
    assert_eq!(row.holder.application(), None);
    assert_eq!(row.direction, Direction::Outbound);
}

#[test]
fn an_outgoing_connection_seen_open_stays_its_applications_when_it_closes() {
    let open = tcp("10.0.0.5:40000", Some("10.0.0.9:80"), ConnectionState::Established, 4);
    let closed = Row { state: ConnectionState::TimeWait, inode: 0, ..open };
    let mut guest = Guest::with(&[(4, 20, "web")]);
    guest.look(&[open], 1);

    let soon = guest.look_at(&[closed], 6, open);
    assert_eq!(soon.holder.application(), Some(&name("web")));
    assert_eq!(soon.first_seen, Timestamp::from_millis(1000));

    let mut slow = Guest::with(&[(4, 20, "web")]);
    slow.look(&[open], 1);
    assert_eq!(slow.look_at(&[closed], 300, open).holder.application(), None);
}

#[test]
fn the_first_sight_stays_while_the_socket_does_and_is_new_with_another_socket() {
    let row = tcp("10.0.0.5:40000", Some("10.0.0.9:80"), ConnectionState::Established, 4);
    let again = Row { inode: 5, ..row };
    let mut guest = Guest::with(&[(4, 20, "web"), (5, 20, "web")]);

    assert_eq!(guest.look_at(&[row], 1, row).first_seen, Timestamp::from_millis(1000));
    assert_eq!(guest.look_at(&[row], 2, row).first_seen, Timestamp::from_millis(1000));
    assert_eq!(guest.look_at(&[again], 3, row).first_seen, Timestamp::from_millis(3000));
    guest.look(&[], 4);
    assert_eq!(guest.look_at(&[again], 5, row).first_seen, Timestamp::from_millis(5000));
}

#[test]
fn a_pair_of_ends_used_again_after_time_wait_is_a_new_connection() {
    let closed = tcp("10.0.0.5:40000", Some("10.0.0.9:80"), ConnectionState::TimeWait, 0);
    let open = Row { state: ConnectionState::Established, inode: 9, ..closed };
    let mut guest = Guest::with(&[(9, 20, "web")]);
    guest.look(&[closed], 1);
    assert_eq!(guest.look_at(&[open], 2, open).first_seen, Timestamp::from_millis(2000));
}

#[test]
fn a_connection_stays_inbound_after_its_listener_is_gone() {
    let listener = tcp("0.0.0.0:8080", None, ConnectionState::Listen, 1);
    let inbound = tcp("10.0.0.5:8080", Some("10.0.0.9:40000"), ConnectionState::Established, 2);
    let late = tcp("10.0.0.5:8080", Some("10.0.0.9:40001"), ConnectionState::TimeWait, 0);
    let mut guest = Guest::with(&[(1, 20, "web"), (2, 20, "web")]);
    guest.look(&[listener, inbound], 1);

    let table = guest.look(&[inbound, late], 30);
    assert_eq!(table[&inbound.key].direction, Direction::Inbound);
    assert_eq!(table[&late.key].direction, Direction::Inbound);
    assert_eq!(table[&late.key].holder.application(), Some(&name("web")));

    let table = guest.look(&[inbound, late], 400);
    assert_eq!(table[&inbound.key].direction, Direction::Inbound);
}

#[test]
fn an_accepted_look_without_any_listener_cannot_be_told() {
    let row = tcp("10.0.0.5:22", Some("10.0.0.9:40000"), ConnectionState::Established, 2);
    let seen = Guest::default().look_at(&[row], 1, row);
    assert_eq!(seen.direction, Direction::Unknown);
    let Holder::Unknown { reason, .. } = seen.holder else { panic!("{:?}", seen.holder) };
    assert!(reason.contains("no process"), "{reason}");
}

#[test]
fn a_connection_nobody_accepted_yet_belongs_to_the_listener() {
    let listener = tcp("127.0.0.1:8080", None, ConnectionState::Listen, 1);
    let waiting = tcp("127.0.0.1:8080", Some("127.0.0.1:40000"), ConnectionState::Established, 0);
    let mut guest = Guest::with(&[(1, 20, "web")]);
    let row = guest.look_at(&[listener, waiting], 1, waiting);
    let expected =
        Holder::Unknown { reason: "not accepted yet".into(), application: Some(name("web")) };
    assert_eq!(row.holder, expected);
}

#[test]
fn a_port_shared_by_two_applications_is_certain_for_neither() {
    let one = tcp("0.0.0.0:8080", None, ConnectionState::Listen, 1);
    let other = Row { inode: 2, ..one };
    let closed = tcp("10.0.0.5:8080", Some("10.0.0.9:40000"), ConnectionState::TimeWait, 0);
    let mut guest = Guest::with(&[(1, 20, "web"), (2, 21, "api")]);
    let row = guest.look_at(&[one, other, closed], 1, closed);
    assert_eq!(row.holder.application(), None);
}

#[test]
fn an_unconnected_udp_socket_listens_only_on_a_port_that_somebody_chose() {
    let udp = |local: &str, inode| {
        let local = local.parse().unwrap();
        let key = ConnectionKey { protocol: Protocol::Udp, local, remote: None };
        Row {
            key,
            state: ConnectionState::Stateless,
            inode,
            user: None,
            cookie: 0,
            cgroup: None,
            traffic: None,
        }
    };
    let (server, client) = (udp("0.0.0.0:53", 1), udp("0.0.0.0:40000", 2));
    let mut guest = Guest::with(&[(1, 20, "dns"), (2, 21, "client")]);

    let table = guest.look(&[server, client], 1);

    assert_eq!(table[&server.key].direction, Direction::Listener);
    assert_eq!(table[&client.key].direction, Direction::Unknown);
}
