//! Hosts with labels: graph g21 of "A Dataset of Networks of Computing Hosts" (Madani, Averineni,
//! Gandham, IWSPA 2022), whose hosts are grouped by hand, by what they do.
//!
//! What they do is a role, not a business: hosts of one role seldom call each other. So the same
//! method is told of twice, on who calls whom and on how alike their calls are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read as _,
    path::Path,
};

use algorithms::{
    leiden::{self, Settings, Wishes},
    partition::adjusted_rand,
};
use flate2::read::GzDecoder;

use crate::figure::{Failure, Row};

/// The hosts that each host is most like and is tied to.
const MOST_LIKE: usize = 3;

type Calls = BTreeMap<(usize, usize), BTreeSet<String>>;

/// The rows; one that says so where there is no data.
///
/// # Errors
///
/// If data is there and cannot be read.
pub(super) fn measure() -> Result<Vec<Row>, Failure> {
    let Some(folder) = std::env::var_os("SINTER_DATA") else {
        return Ok(vec![Row::new("hosts of g21: not taken, SINTER_DATA is not set", 0.0, "files")]);
    };
    let folder = Path::new(&folder).join("computing-hosts/g21");
    let labels = labels(&fs::read_to_string(folder.join("groupings.gt.txt"))?)?;
    let calls = calls(&folder.join("dir_includes_packets_and_other_nodes"))?;
    let row = |how: &str, ties: &[(usize, usize, f64)]| -> Result<Row, Failure> {
        let nodes = ties.iter().flat_map(|(a, b, _)| [*a, *b]).chain(labels.keys().copied());
        let count = nodes.max().map_or(0, |most| most + 1);
        let found = leiden::communities(count, ties, &Wishes::default(), &Settings::default())?;
        let (ours, theirs): (Vec<usize>, Vec<usize>) =
            labels.iter().map(|(host, label)| (found[*host], *label)).unzip();
        let index = adjusted_rand(&ours, &theirs).ok_or("too few hosts have labels")?;
        Ok(Row::new(format!("hosts of g21 by function, Leiden on {how}: ARI"), index, "index"))
    };
    let by_calls: Vec<_> =
        calls.iter().map(|((from, to), ports)| (*from, *to, ports.len() as f64)).collect();
    Ok(vec![row("who calls whom", &by_calls)?, row("how alike their calls are", &alike(&calls))?])
}

fn labels(text: &str) -> Result<BTreeMap<usize, usize>, Failure> {
    let mut labels = BTreeMap::new();
    for (label, line) in text.lines().enumerate() {
        for host in line.split(',').filter(|host| !host.trim().is_empty()) {
            labels.insert(host.trim().parse()?, label);
        }
    }
    Ok(labels)
}

fn calls(folder: &Path) -> Result<Calls, Failure> {
    let mut calls = Calls::new();
    for file in fs::read_dir(folder)? {
        let mut text = String::new();
        GzDecoder::new(fs::File::open(file?.path())?).read_to_string(&mut text)?;
        for line in text.lines().filter(|line| line.starts_with("g21")) {
            let mut columns = line.split_whitespace().skip(1);
            let (Some(from), Some(to), Some(ports)) =
                (columns.next(), columns.next(), columns.next())
            else {
                return Err(format!("{line:?} has too few columns").into());
            };
            let known = calls.entry((from.parse()?, to.parse()?)).or_default();
            known.extend(
                ports
                    .split(',')
                    .map(|port| port.split_once('-').map_or(port, |(port, _)| port).to_owned()),
            );
        }
    }
    Ok(calls)
}

/// Each host tied to those whose calls are most like its own: the cosine of what they serve, call and
/// talk to, each weighed by how few hosts do (tf-idf).
fn alike(calls: &Calls) -> Vec<(usize, usize, f64)> {
    let mut traits: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for ((from, to), ports) in calls.iter().filter(|((from, to), _)| from != to) {
        for port in ports {
            traits.entry(*from).or_default().insert(format!("calls {port}"));
            traits.entry(*to).or_default().insert(format!("serves {port}"));
        }
        traits.entry(*from).or_default().insert(format!("calls host {to}"));
        traits.entry(*to).or_default().insert(format!("serves host {from}"));
    }
    let mut holders: BTreeMap<&str, f64> = BTreeMap::new();
    for each in traits.values().flatten() {
        *holders.entry(each).or_default() += 1.0;
    }
    let hosts = traits.len() as f64;
    let weight = |name: &str| (hosts / holders.get(name).copied().unwrap_or(1.0)).ln().powi(2);
    let length = |of: &BTreeSet<String>| of.iter().map(|name| weight(name)).sum::<f64>().sqrt();
    let mut ties = Vec::new();
    for (one, own) in &traits {
        let mut near: Vec<(f64, usize)> = Vec::new();
        for (other, their) in traits.iter().filter(|(other, _)| *other != one) {
            let common: f64 = own.intersection(their).map(|name| weight(name)).sum();
            let lengths = length(own) * length(their);
            if lengths > 0.0 {
                near.push((common / lengths, *other));
            }
        }
        near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        ties.extend(near.into_iter().take(MOST_LIKE).map(|(cosine, other)| (*one, other, cosine)));
    }
    ties
}
