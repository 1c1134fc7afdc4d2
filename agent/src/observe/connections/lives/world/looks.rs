//! Looks at the simulated kernel: what it has in its table, what it tells, and lives between them.

use super::*;
use crate::observe::holders::{Candidate, Wanted};

impl World {
    fn take_told(&mut self) -> Told {
        let told = std::mem::take(&mut self.told);
        if self.kernel.ends { told } else { Told { ended: Vec::new(), ..told } }
    }

    fn rows(&self) -> Vec<Row> {
        let listener = ConnectionKey {
            protocol: Protocol::Tcp,
            local: "0.0.0.0:8080".parse().unwrap(),
            remote: None,
        };
        let listener = Row {
            key: listener,
            state: ConnectionState::Listen,
            inode: 20,
            user: Some(0),
            cookie: 0,
            cgroup: None,
            traffic: None,
        };
        let open = self.sockets.iter().map(|socket| Row {
            traffic: self.kernel.names.then_some(socket.traffic),
            ..socket.row
        });
        std::iter::once(listener)
            .chain(open)
            .chain(self.remains.iter().map(|(row, ..)| *row))
            .collect()
    }

    fn tick(&mut self) {
        let told = self.take_told();
        self.connections.hear(told, &named);
    }

    /// Looks while things go on happening.
    pub(in crate::observe::connections::lives) fn look(
        &mut self,
        goes_on: u32,
    ) -> BTreeMap<ConnectionKey, Connection> {
        self.tick();
        let rows = self.rows();
        self.sockets.iter_mut().for_each(|socket| socket.was_read = true);
        if self.looked {
            let open = self.sockets.iter().filter(|socket| !socket.existed);
            let open = open.map(|socket| socket.name);
            self.visible.extend(
                open.chain(self.remains.iter().map(|(_, _, name)| *name).filter(|name| *name != 0)),
            );
        } else {
            self.remains.clear();
            self.looked = true;
            for socket in &mut self.sockets {
                socket.before = socket.truth;
            }
        }
        for _ in 0..goes_on {
            self.step();
        }
        let after = self.take_told();
        let mut holders = Holders::default();
        let held = rows.iter().filter(|row| row.inode != 0);
        let wanted: Vec<_> = held
            .map(|row| Wanted { inode: row.inode, user: None, unit: None, listens: false })
            .collect();
        let candidates =
            APPLICATIONS.map(|(_, pid)| Candidate { key: process(pid), user: 0, unit: None });
        holders.update(&wanted, &candidates, |pid| {
            let own = rows.iter().map(|row| row.inode).filter(|inode| inode % 100 == pid);
            Ok(own.collect())
        });
        let look = Look {
            rows: &rows,
            holders: &holders,
            applications: &self.applications,
            groups: &HashMap::default(),
            ephemeral: EPHEMERAL,
            ends_are_told: self.kernel.ends,
            now: Timestamp::from_millis(self.now),
        };
        self.connections.look(&look, after, &named)
    }

    pub(in crate::observe::connections::lives) fn live(&mut self, looks: u32) {
        for _ in 0..20 {
            self.step();
        }
        for _ in 0..looks {
            for _ in 0..self.random.random_range(1..150) {
                self.step();
                if self.random.random_bool(0.1) {
                    self.tick();
                }
            }
            let goes_on = self.random.random_range(0..5);
            self.look(goes_on);
            self.flows();
        }
        self.look(0);
        self.look(0);
        // What lives is counted so far; put it into the truth as well.
        for socket in self.sockets.clone() {
            self.enter(&socket);
        }
    }

    pub(in crate::observe::connections::lives) fn flows(&mut self) -> BTreeMap<FlowKey, Flow> {
        self.connections.flows(Timestamp::from_millis(self.now))
    }

    pub(in crate::observe::connections::lives) fn coverage(&mut self) -> Coverage {
        let sockets = Sockets { counted: Some(self.counted), ..Sockets::default() };
        self.connections.coverage(&sockets)
    }
}
