//! Visitors from outside: programs on the production network that are no machines.

use std::fs::File;

use ipnet::IpNet;
use tracing::info;

use super::{
    Attempt, NamespaceError, inner, launch,
    layout::{self, PRODUCTION},
    make::{check_name, network},
    process::Process,
    world::World,
};

impl World {
    /// Runs a program on the production network.
    pub(super) fn visit(
        &self,
        name: &str,
        address: IpNet,
        command: &[String],
    ) -> Result<(), NamespaceError> {
        // It becomes part of a path.
        check_name(name)?;
        let _all = self.layout.hold_fabric()?;
        let folder = self.layout.folder().join("visitors");
        let file = folder.join(format!("{name}.json"));
        let there: Option<Process> = layout::read(&file)?;
        if there.is_some_and(|process| process.lives()) {
            return Ok(());
        }
        let log = File::create(folder.join(format!("{name}.log")));
        let log = log.or_could_not(|| format!("make a log for {name}"))?;
        let waiting = launch::launch(&self.program, &self.fabric.keeper, "visitor", log)?;
        let near = format!("v{}", layout::digest(name, 12));
        self.fabric.wire_guest(&near, &network(PRODUCTION)?, vec![address], &waiting.netns)?;
        layout::write(&file, &waiting.process)?;
        waiting.go(&inner::VisitorOrder { command: command.to_vec() })?;
        info!(name, %address, "visitor came");
        Ok(())
    }
}
