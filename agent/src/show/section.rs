//! The parts of what was seen, one under the other; on a screen of a fixed height each gets its share.

use super::{Section, Seen, paper::Paper};

mod guest;
mod traffic;
mod usage;

/// All parts in the order in which they are shown.
const ALL: [Section; 9] = [
    Section::Facts,
    Section::Counters,
    Section::Applications,
    Section::Flows,
    Section::Connections,
    Section::Coverage,
    Section::Services,
    Section::Processes,
    Section::Software,
];
/// What is shown on a screen of a fixed height if nothing else is asked for: what changes.
const MOVING: [Section; 5] = [
    Section::Applications,
    Section::Flows,
    Section::Connections,
    Section::Coverage,
    Section::Processes,
];
/// Lines that are shown of what is missing on a screen of a fixed height.
const MOST_CAUTIONS: usize = 4;

/// One part: its heading, and its lines.
struct Part {
    heading: String,
    lines: Vec<String>,
}

/// What was seen, as text. `most` is the height of the screen in lines; `None` if it has no end.
pub(super) fn text(paper: &Paper, seen: &Seen, only: &[Section], most: Option<usize>) -> String {
    let only = match only {
        [] if most.is_some() => MOVING.as_slice(),
        [] => ALL.as_slice(),
        only => only,
    };
    let wanted = ALL.into_iter().filter(|section| only.contains(section));
    let mut parts: Vec<Part> = wanted.map(|section| part(paper, seen, section)).collect();
    let mut lines = vec![paper.heading(&guest::title(seen))];
    let cautions = seen.missing.iter().map(|line| paper.caution(&format!("! {line}")));
    lines.extend(cautions.take(most.map_or(usize::MAX, |_| MOST_CAUTIONS)));
    if let Some(most) = most {
        fit(&mut parts, most.saturating_sub(lines.len()));
    }
    for part in parts {
        lines.extend([String::new(), part.heading]);
        lines.extend(part.lines);
    }
    lines.truncate(most.unwrap_or(usize::MAX));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn part(paper: &Paper, seen: &Seen, section: Section) -> Part {
    let it = &seen.observation;
    let (name, count, body) = match section {
        Section::Facts => ("facts", None, guest::facts(paper, it)),
        Section::Counters => ("counters", None, guest::counters(paper, &it.counters)),
        Section::Services => {
            ("services", Some(it.services.len()), guest::services(paper, &it.services))
        }
        Section::Software => ("software", None, guest::software(paper, seen.software.as_deref())),
        Section::Applications => {
            let body = usage::applications(paper, &it.applications, seen.over);
            ("applications", Some(it.applications.len()), body)
        }
        Section::Processes => {
            ("processes", Some(it.processes.len()), usage::processes(paper, &it.processes))
        }
        Section::Flows => ("flows", Some(it.flows.len()), traffic::flows(paper, &it.flows)),
        Section::Connections => {
            let body = traffic::connections(paper, &it.connections, seen.taken_at);
            ("connections", Some(it.connections.len()), body)
        }
        Section::Coverage => ("coverage", None, traffic::coverage(paper, it.coverage.as_ref())),
    };
    let heading = count.map_or_else(|| name.to_owned(), |count| format!("{name} ({count})"));
    // A head without rows says nothing.
    let lines =
        if count == Some(0) { Vec::new() } else { body.lines().map(str::to_owned).collect() };
    Part { heading: paper.heading(&heading), lines }
}

/// Cuts the longest parts until all of them, each with its heading and the line above it, have room.
fn fit(parts: &mut [Part], room: usize) {
    let mut room = room.saturating_sub(parts.len() * 2);
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|at| parts[*at].lines.len());
    for (done, at) in order.iter().enumerate() {
        let share = room / (order.len() - done);
        let lines = &mut parts[*at].lines;
        if lines.len() > share {
            let left_out = lines.len() - share.saturating_sub(1);
            lines.truncate(share.saturating_sub(1));
            lines.push(format!("  … {left_out} more"));
        }
        room = room.saturating_sub(lines.len());
    }
}

#[cfg(test)]
mod tests {
    use common::{clock::Timestamp, sample::Observation};

    use super::*;

    fn part_of(lines: usize) -> Part {
        Part { heading: "h".into(), lines: vec!["x".into(); lines] }
    }

    #[test]
    fn short_parts_are_shown_whole_and_long_ones_share_the_rest() {
        let mut parts = [part_of(3), part_of(100), part_of(50)];
        fit(&mut parts, 29);
        let lengths: Vec<usize> = parts.iter().map(|part| part.lines.len()).collect();
        assert_eq!(lengths, [3, 10, 10]);
        assert_eq!(parts[1].lines[9], "  … 91 more");
    }

    #[test]
    fn a_screen_is_never_overrun() {
        let seen = Seen {
            taken_at: Timestamp::default(),
            over: None,
            observation: Observation::default(),
            software: None,
            missing: vec!["m".into(); 40],
        };
        let paper = Paper { columns: Some(80), coloured: false };
        for most in [1, 5, 24, 50] {
            assert!(text(&paper, &seen, &[], Some(most)).lines().count() <= most);
        }
        let whole = text(&paper, &seen, &[Section::Coverage], None);
        assert!(whole.contains("coverage") && !whole.contains("processes"));
    }
}
