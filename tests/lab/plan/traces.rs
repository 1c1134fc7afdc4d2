//! CPU use of virtual machines over a day: recorded ones, or made-up ones of the same kind.
//!
//! The folder that `SINTER_DATA` names holds `planetlab/*.csv.gz`: a line for each machine, its
//! name and 288 whole percents, one for each five minutes.

use std::{fs, io::Read as _, path::Path};

use aggregator::plan::packing::Random;
use flate2::read::GzDecoder;

use crate::figure::Failure;

/// Samples of a day.
pub(super) const SAMPLES: usize = 288;
/// Machines of a day that is made up.
const MADE_UP: usize = 1_052;

/// One day.
pub(super) struct Day {
    pub(super) name: String,
    /// By machine: its CPU use, as a share, by sample.
    pub(super) use_of: Vec<Vec<f64>>,
}

/// The days there are, oldest first. Says so where there are none, and makes one up.
pub(super) fn days() -> Result<Vec<Day>, Failure> {
    let Some(folder) = std::env::var_os("SINTER_DATA") else {
        return Ok(vec![made_up("SINTER_DATA is not set")]);
    };
    let folder = Path::new(&folder).join("planetlab");
    if !folder.is_dir() {
        return Ok(vec![made_up(&format!("{} is no folder", folder.display()))]);
    }
    let mut files: Vec<_> = fs::read_dir(&folder)?.collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    let mut days = Vec::new();
    for file in files {
        let name = file.file_name().to_string_lossy().into_owned();
        if let Some(day) = name.strip_suffix(".csv.gz") {
            let mut text = String::new();
            GzDecoder::new(fs::File::open(file.path())?).read_to_string(&mut text)?;
            days.push(Day { name: day.to_owned(), use_of: read(&text)? });
        }
    }
    if days.is_empty() {
        days.push(made_up(&format!("{} holds no *.csv.gz", folder.display())));
    }
    Ok(days)
}

fn read(text: &str) -> Result<Vec<Vec<f64>>, Failure> {
    let mut machines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let percents: Result<Vec<f64>, _> = line.split(',').skip(1).map(str::parse).collect();
        let percents =
            percents.map_err(|cause| format!("line {} is no trace: {cause}", number + 1))?;
        if percents.len() != SAMPLES {
            let found = percents.len();
            return Err(format!("line {} has {found} samples, not {SAMPLES}", number + 1).into());
        }
        machines.push(percents.into_iter().map(|percent| percent / 100.0).collect());
    }
    Ok(machines)
}

/// Mostly idle machines, skewed means, bursts that last, a busier half of the day for some: as the
/// recorded ones are.
fn made_up(why: &str) -> Day {
    drop(std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("sinter-lab: NO RECORDED TRACES: {why}; these figures are of made-up ones\n"),
    ));
    let mut chance = Random::new(20_110_303);
    let machine = |_| {
        let mean = 0.02 + 0.35 * chance.share().powi(3);
        let (swing, begin) = (chance.share() * mean, chance.below(SAMPLES));
        let mut burst = 0.0;
        let sample = |at: usize| {
            burst *= 0.8;
            if chance.share() < 0.04 {
                burst = 0.5 * chance.share();
            }
            let hour = ((at + begin) % SAMPLES) as f64 / SAMPLES as f64;
            let daily = swing * (std::f64::consts::TAU * hour).sin();
            let noise = mean * (chance.share() - 0.5);
            (mean + daily + noise + burst).clamp(0.0, 1.0)
        };
        (0..SAMPLES).map(sample).collect()
    };
    Day { name: "made-up".to_owned(), use_of: (0..MADE_UP).map(machine).collect() }
}

/// The value that a share of the others lies below.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share) as usize).copied().unwrap_or(0.0)
}
