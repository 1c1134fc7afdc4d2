//! What our own host lets us do, found out without making a machine.

use std::path::PathBuf;

use async_trait::async_trait;
use common::task::Chain;

use super::{NamespaceError, apart, group::Groups, user};
use crate::hypervisor::check::{
    Check, Finding,
    Need::{Act, Observe, Reach},
    Standing,
};

/// Where machines are to be made, once this process was prepared for it.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Where they are to be kept.
    pub folder: PathBuf,
    /// Why [`super::NamespaceHypervisor::prepare_process`] did not work, if it did not.
    pub unprepared: Option<String>,
}

#[async_trait]
impl Check for Ground {
    async fn check(&self) -> Vec<Finding> {
        let folder = Finding::new(
            Reach,
            format!("folder {}", self.folder.display()),
            self.folder_standing(),
            "no machine can be kept",
        );
        let may = match &self.unprepared {
            None if user::may_administer() => Standing::Granted,
            None => Standing::Missing(user::REMEDY.to_owned()),
            Some(why) => Standing::Missing(why.clone()),
        };
        let may = Finding::new(Act, "to make namespaces", may, "no machine can be made");
        let (limits, counters) = self.group_standings().await;
        vec![
            folder,
            Finding::new(Observe, "groups that count", counters, "what machines use is not known"),
            may,
            Finding::new(Act, "groups that limit", limits, "CPU and memory are not limited"),
        ]
    }
}

impl Ground {
    /// Whether it could be made, or written to. Nothing is made for that.
    fn folder_standing(&self) -> Standing {
        let there = self.folder.ancestors().find(|path| path.exists());
        let Some(there) = there else {
            return Standing::Missing("no part of it exists".to_owned());
        };
        if !there.is_dir() {
            return Standing::Missing(format!("{} is no folder", there.display()));
        }
        match nix::unistd::access(there, nix::unistd::AccessFlags::W_OK) {
            Ok(()) => Standing::Granted,
            Err(cause) => {
                Standing::Missing(format!("{} may not be written to: {cause}", there.display()))
            }
        }
    }

    /// Whether a group of ours limits, and whether it counts. One is made under another name than
    /// that of the folder's machines, and goes again.
    async fn group_standings(&self) -> (Standing, Standing) {
        let trial = self.folder.join("check");
        let tried = apart(move || {
            let groups = Groups::find(&trial);
            let (limits, counts) = (groups.holds_limits(), groups.counts());
            groups.remove_all()?;
            Ok::<_, NamespaceError>((limits, counts))
        });
        let none =
            "no control group is ours to divide; run as root, or under a unit with Delegate=yes";
        let standing =
            |has| if has { Standing::Granted } else { Standing::Missing(none.to_owned()) };
        match tried.await {
            Ok((limits, counts)) => (standing(limits), standing(counts)),
            Err(error) => {
                let why = Chain(&error).to_string();
                (Standing::Unknown(why.clone()), Standing::Unknown(why))
            }
        }
    }
}
