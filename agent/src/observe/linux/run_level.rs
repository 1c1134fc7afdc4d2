//! What the machine was started into, where no systemd says it: OpenRC's own note, or the record that init
//! leaves among those of who is logged in.

use std::path::Path;

/// Size of a record of <utmp.h> where processes have 64 bits.
const RECORD: usize = 384;
/// Type of the record that has the run level.
const IS_RUN_LEVEL: u16 = 1;
/// Where in a record its number stands; the run level is a character in its lowest byte.
const NUMBER_AT: usize = 4;
/// Longest file of records read.
const LONGEST: u64 = 1 << 20;

/// The run level by what stands in `run`, which is /run but in tests; `None` if nobody says.
pub(in crate::observe) fn read(run: &Path) -> Option<String> {
    of_openrc(&run.join("openrc/softlevel")).or_else(|| of_records(&run.join("utmp")))
}

fn of_openrc(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let level = text.trim();
    let is_name = !level.is_empty() && level.len() <= 64 && !level.contains(char::is_control);
    is_name.then(|| level.to_owned())
}

fn of_records(path: &Path) -> Option<String> {
    let is_small = path.metadata().is_ok_and(|file| file.is_file() && file.len() <= LONGEST);
    let records = is_small.then(|| std::fs::read(path).ok())??;
    let mut records = records.chunks_exact(RECORD);
    let record = records.find(|record| record[..2] == IS_RUN_LEVEL.to_ne_bytes())?;
    let number = u32::from_ne_bytes(*record.get(NUMBER_AT..)?.first_chunk()?);
    let level = char::from_u32(number & 0xff).filter(char::is_ascii_alphanumeric)?;
    Some(level.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_init_has_the_run_level() {
        let run = tempfile::tempdir().unwrap();
        let mut records = vec![0; 3 * RECORD];
        records[..2].copy_from_slice(&2_u16.to_ne_bytes());
        records[RECORD..RECORD + 2].copy_from_slice(&IS_RUN_LEVEL.to_ne_bytes());
        // Before it stands the one before: here 'N', none.
        let number = u32::from(b'N') << 8 | u32::from(b'3');
        records[RECORD + NUMBER_AT..RECORD + NUMBER_AT + 4].copy_from_slice(&number.to_ne_bytes());
        std::fs::write(run.path().join("utmp"), records).unwrap();

        assert_eq!(read(run.path()).as_deref(), Some("3"));
    }

    #[test]
    fn openrc_says_it_by_name_and_nobody_says_nothing() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(read(run.path()), None);
        std::fs::create_dir(run.path().join("openrc")).unwrap();
        std::fs::write(run.path().join("openrc/softlevel"), "default\n").unwrap();
        assert_eq!(read(run.path()).as_deref(), Some("default"));
    }
}
