//! Folds a window into what is remembered. Both stand in the order of their keys, so they are walked
//! side by side instead of looked up; and as no edge or application knows of another, the cores share
//! them.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use common::id::{AppName, VmId};
use rayon::prelude::*;

use super::{History, recurring::look, slots::Span};
use crate::join::{EdgeKey, Joined, Party, Record, Traffic, Used};

/// What a window shows of one application.
struct Seen<'a> {
    key: (&'a VmId, &'a AppName),
    used: &'a Used,
    records: Vec<&'a Record>,
}

impl History {
    pub(super) fn take_applications(&mut self, joined: &Joined, span: &Span) {
        let (seen, others) = seen(joined);
        let order = |(vm, name): &(VmId, AppName), seen: &Seen<'_>| (vm, name).cmp(&seen.key);
        let new: Vec<_> = missing(&self.applications, seen.iter(), |key, seen| order(key, seen))
            .into_iter()
            .map(|seen| (seen.key.0.clone(), seen.key.1.clone()))
            .collect();
        insert(&mut self.applications, new);
        let each = beside(&mut self.applications, seen.into_iter(), order);
        each.into_par_iter().for_each(|(_, known, seen)| {
            known.take(seen.used, span);
            seen.records.into_iter().for_each(|record| known.count(record, span));
        });
        for (key, record) in others {
            if let Some(known) = self.applications.get_mut(&key) {
                known.count(record, span);
            }
        }
    }

    pub(super) fn take_edges(&mut self, joined: &Joined, span: &Span) {
        self.watch_ends(joined, span);
        let order = |key: &EdgeKey, (shown, _): &(&EdgeKey, &Traffic)| key.cmp(shown);
        let mut new = missing(&self.edges, joined.edges.iter(), order);
        if self.make_room(span.to, new.len()) {
            // One that was to wake may be among those forgotten.
            new = missing(&self.edges, joined.edges.iter(), order);
        }
        let room = self.limits.edges.saturating_sub(self.edges.len());
        self.left_out.edges += new.len().saturating_sub(room) as u64;
        new.truncate(room);
        insert(&mut self.edges, new.into_iter().map(|(key, _)| key.clone()).collect());
        let (machines, length) = (&self.machines, self.limits.window);
        let each = beside(&mut self.edges, joined.edges.iter(), order);
        each.into_par_iter().for_each(|(key, rings, (_, traffic))| {
            rings.take(traffic, span);
            look((key, rings), (machines, length), span);
        });
    }

    /// An edge may have been watched for longer than its machine's agent: by one sample, or by the
    /// other end.
    fn watch_ends(&mut self, joined: &Joined, span: &Span) {
        let mut longest: HashMap<&VmId, Duration> = HashMap::new();
        for (key, traffic) in &joined.edges {
            for vm in [&key.client, &key.server].into_iter().filter_map(Party::vm) {
                let known = longest.entry(vm).or_default();
                *known = traffic.watched.max(*known);
            }
        }
        for (vm, machine) in &mut self.machines {
            if let Some(watched) = longest.get(vm) {
                machine.was_watched_by_edge(*watched, span);
            }
        }
    }
}

/// The records of applications that the window does not show otherwise.
type Others<'a> = Vec<((VmId, AppName), &'a Record)>;

/// The applications of a window in the order of their keys.
fn seen(joined: &Joined) -> (Vec<Seen<'_>>, Others<'_>) {
    let each = joined.machines.iter().flat_map(|(vm, machine)| {
        let used = machine.applications.iter();
        used.map(move |(name, used)| Seen { key: (vm, name), used, records: Vec::new() })
    });
    let mut seen: Vec<Seen<'_>> = each.collect();
    let places: HashMap<_, _> = seen.iter().enumerate().map(|(at, seen)| (seen.key, at)).collect();
    let mut others = Vec::new();
    for record in &joined.records {
        let Some(name) = &record.application else { continue };
        match places.get(&(&record.vm, name)).and_then(|at| seen.get_mut(*at)) {
            Some(seen) => seen.records.push(record),
            None => others.push(((record.vm.clone(), name.clone()), record)),
        }
    }
    (seen, others)
}

/// What is shown and not known yet.
fn missing<K, V, S>(
    known: &BTreeMap<K, V>,
    shown: impl Iterator<Item = S>,
    order: impl Fn(&K, &S) -> Ordering,
) -> Vec<S> {
    let mut known = known.keys().peekable();
    let is_new = |next: &S| {
        while known.next_if(|key| order(key, next).is_lt()).is_some() {}
        known.peek().is_none_or(|key| order(key, next).is_gt())
    };
    shown.filter(is_new).collect()
}

/// Makes room for keys that are in order. All at once, they need not be looked up.
fn insert<K: Ord, V: Default>(known: &mut BTreeMap<K, V>, new: Vec<K>) {
    let new = new.into_iter().map(|key| (key, V::default()));
    if known.is_empty() {
        *known = new.collect();
    } else {
        known.extend(new);
    }
}

/// What is known beside what is shown of it.
fn beside<K, V, S>(
    known: &mut BTreeMap<K, V>,
    shown: impl Iterator<Item = S>,
    order: impl Fn(&K, &S) -> Ordering,
) -> Vec<(&K, &mut V, S)> {
    let mut shown = shown.peekable();
    let mut pairs = Vec::new();
    for (key, value) in known {
        while shown.next_if(|next| order(key, next).is_gt()).is_some() {}
        if let Some(next) = shown.next_if(|next| order(key, next).is_eq()) {
            pairs.push((key, value, next));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_stands_beside_what_is_shown_and_what_is_new_is_missing() {
        let mut known: BTreeMap<u32, u32> = [(2, 20), (4, 40), (5, 50), (9, 90)].into();
        let shown = [1, 2, 3, 5, 10];
        let order = |known: &u32, shown: &u32| known.cmp(shown);
        assert_eq!(missing(&known, shown.into_iter(), order), [1, 3, 10]);
        let pairs = beside(&mut known, shown.into_iter(), order);
        assert_eq!(pairs, [(&2, &mut 20, 2), (&5, &mut 50, 5)]);
        insert(&mut known, vec![1, 3, 10]);
        assert_eq!(known.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 9, 10]);
        assert_eq!((known[&1], known[&2]), (0, 20));
    }
}
