//! CPU use of virtual machines over a day: recorded ones, or made-up ones of the same kind.
//!
//! The folder that `SINTER_DATA` names holds `planetlab/*.csv.gz`: a line for each machine, its
//! name and 288 whole percents, one for each five minutes.

use std::{fs, io::Read as _, path::Path};

use algorithms::packing::Random;
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

/// How the machines of a made-up day differ from those of another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nature {
    /// Chance that a burst begins at a sample.
    pub(super) burst: f64,
    /// Share of a burst, and of the noise, that is left at the next sample.
    pub(super) lasts: f64,
    /// How much of its mean a machine may swing over the day.
    pub(super) swing: f64,
}

/// Natures that fleets are told of: steady, with busy hours, with bursts that last.
pub(super) const NATURES: [(&str, Nature); 3] = [
    ("steady", Nature { burst: 0.005, lasts: 0.5, swing: 0.2 }),
    ("by day", Nature { burst: 0.02, lasts: 0.7, swing: 1.0 }),
    ("bursts", Nature { burst: 0.04, lasts: 0.8, swing: 0.5 }),
];

fn made_up(why: &str) -> Day {
    drop(std::io::Write::write_fmt(
        &mut std::io::stderr(),
        format_args!("sinter-lab: NO RECORDED TRACES: {why}; these figures are of made-up ones\n"),
    ));
    let (name, nature) = NATURES[NATURES.len() - 1];
    made(name, nature, 20_110_303)
}

/// Skewed means, a busier half of the day, noise of an autoregression of the first order, bursts
/// that fade.
pub(super) fn made(name: &str, nature: Nature, seed: u64) -> Day {
    let mut chance = Random::new(seed);
    let machine = |_| {
        let mean = 0.02 + 0.35 * chance.share().powi(3);
        let (swing, begin) = (nature.swing * chance.share() * mean, chance.below(SAMPLES));
        let (mut burst, mut noise) = (0.0, 0.0);
        let sample = |at: usize| {
            burst *= nature.lasts;
            if chance.share() < nature.burst {
                burst = 0.5 * chance.share();
            }
            noise = nature.lasts * noise + (1.0 - nature.lasts) * mean * (chance.share() - 0.5);
            let hour = ((at + begin) % SAMPLES) as f64 / SAMPLES as f64;
            let daily = swing * (std::f64::consts::TAU * hour).sin();
            (mean + daily + noise + burst).clamp(0.0, 1.0)
        };
        (0..SAMPLES).map(sample).collect()
    };
    Day { name: format!("made-up, {name}"), use_of: (0..MADE_UP).map(machine).collect() }
}

/// The value that a share of the others lies below.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share) as usize).copied().unwrap_or(0.0)
}
