//! Operations on a disk that are known one by one: writes that are flushed, reads past the cache.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
};

use nix::fcntl::OFlag;

use super::{
    super::script::{BLOCK, Storing},
    Log,
};

/// What a device's sector may be at most; direct reads must be aligned to it.
const ALIGNED: usize = 4096;

/// Writes, then reads.
pub(super) fn run(storing: &Storing, log: &Log) {
    if let Err(cause) = write(storing, log).and_then(|()| read(storing, log)) {
        log.trouble(format!("{}: {cause}", storing.file.display()));
    }
    if let Err(cause) = fs::remove_file(&storing.file) {
        log.trouble(format!("{}: {cause}", storing.file.display()));
    }
}

fn write(storing: &Storing, log: &Log) -> io::Result<()> {
    let mut file = fs::File::create(&storing.file)?;
    let block = vec![b'w'; BLOCK];
    for _ in 0..storing.writes {
        file.write_all(&block)?;
        file.sync_data()?;
        log.write(|done| done.written += BLOCK as u64);
    }
    Ok(())
}

fn read(storing: &Storing, log: &Log) -> io::Result<()> {
    if storing.writes == 0 {
        return Ok(());
    }
    let direct = OFlag::O_DIRECT.bits();
    let mut file = OpenOptions::new().read(true).custom_flags(direct).open(&storing.file)?;
    let mut room = vec![0; BLOCK + ALIGNED];
    let skip = room.as_ptr().align_offset(ALIGNED);
    for number in 0..storing.reads {
        let place = u64::from(number % storing.writes) * BLOCK as u64;
        file.seek(SeekFrom::Start(place))?;
        file.read_exact(&mut room[skip..skip + BLOCK])?;
        log.write(|done| done.read += BLOCK as u64);
    }
    Ok(())
}
