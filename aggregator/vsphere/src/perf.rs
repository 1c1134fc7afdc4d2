//! Counters of machines, as vSphere samples them.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::{
    client::Client,
    error::Error,
    xml::{Element, Moref},
};

/// Seconds between two samples of what runs; vSphere keeps an hour of them.
const INTERVAL_SECONDS: u32 = 20;

/// A counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// Its number at this vCenter.
    pub id: i32,
    /// Group, name and roll-up, such as `cpu.used.summation`.
    pub name: String,
}

/// What is asked of one machine.
#[derive(Debug, Clone)]
pub struct PerfQuery {
    /// The machine.
    pub of: Moref,
    /// Samples after this; the last one if `None`.
    pub after: Option<Timestamp>,
}

/// Samples of one machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// When each was taken, by vSphere's clock, and over how many seconds. In no order.
    pub at: Vec<(Timestamp, u32)>,
    /// Values by counter and instance, one for each moment; `None` where nothing is known.
    pub values: BTreeMap<(i32, String), Vec<Option<u64>>>,
}

impl Client {
    /// All counters that this vCenter knows.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn counters(&self) -> Result<Vec<Counter>, Error> {
        let manager = self.session().await?.content.object("perfManager")?;
        let told = self.object(&manager, &["perfCounter"]).await?;
        let told = told.and_then(|mut told| told.properties.remove("perfCounter"));
        let told = told.map(|list| list.children).unwrap_or_default();
        Ok(told.iter().filter_map(counter).collect())
    }

    /// What `counters` (with the instance of each, `*` for all) sampled.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn samples(
        &self,
        queries: &[PerfQuery],
        counters: &[(i32, &str)],
    ) -> Result<Vec<(Moref, Series)>, Error> {
        let manager = self.session().await?.content.object("perfManager")?;
        let metrics = counters.iter().map(|(id, instance)| {
            Element::new("metricId")
                .holding(Element::text("counterId", id))
                .holding(Element::text("instance", instance))
        });
        let metrics: Vec<Element> = metrics.collect();
        let spec = |query: &PerfQuery| {
            let bound = match query.after {
                Some(after) => Element::text("startTime", after),
                None => Element::text("maxSample", 1),
            };
            Element::new("querySpec")
                .holding(Element::reference("entity", &query.of))
                .holding(bound)
                .holding_all(metrics.iter().cloned())
                .holding(Element::text("intervalId", INTERVAL_SECONDS))
                .holding(Element::text("format", "csv"))
        };
        let answer = self.call("QueryPerf", &manager, queries.iter().map(spec).collect()).await?;
        Ok(answer.all("returnval").filter_map(series).collect())
    }

    /// The time by vSphere's clock.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn now(&self) -> Result<Timestamp, Error> {
        let root = Moref::new("ServiceInstance", "ServiceInstance");
        let answer = self.call("CurrentTime", &root, Vec::new()).await?;
        let told = answer.text_at("returnval").and_then(|text| text.parse().ok());
        told.ok_or(Error::Lacking { method: "CurrentTime".to_owned(), what: "time" })
    }
}

fn counter(told: &Element) -> Option<Counter> {
    let part = |path| told.text_at(path);
    let name = [part("groupInfo/key")?, part("nameInfo/key")?, part("rollupType")?].join(".");
    Some(Counter { id: told.number_at("key")?, name })
}

pub(crate) fn series(told: &Element) -> Option<(Moref, Series)> {
    let of = told.child("entity")?.moref()?;
    let mut series = Series::default();
    let parts: Vec<&str> = told.text_at("sampleInfoCSV").unwrap_or_default().split(',').collect();
    for pair in parts.chunks_exact(2) {
        // One moment that cannot be read would shift all values behind it.
        series.at.push((pair[1].trim().parse().ok()?, pair[0].trim().parse().ok()?));
    }
    for told in told.all("value") {
        let Some(id) = told.number_at("id/counterId") else { continue };
        let instance = told.text_at("id/instance").unwrap_or_default().to_owned();
        let values = told.text_at("value").unwrap_or_default().split(',');
        // vSphere writes -1 where it does not know.
        let values: Vec<Option<u64>> = values.map(|value| value.trim().parse().ok()).collect();
        if values.len() == series.at.len() {
            series.values.insert((id, instance), values);
        }
    }
    Some((of, series))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_what_is_not_known_stays_so() {
        let text = "<r><entity type='VirtualMachine'>vm-1</entity><sampleInfoCSV>20,\
            2026-11-25T11:00:00Z,20,2026-11-25T12:00:20+01:00</sampleInfoCSV><value><id>\
            <counterId>2</counterId><instance>scsi0:0</instance></id><value>7,-1</value></value>\
            <value><id><counterId>3</counterId><instance></instance></id><value>7</value></value></r>";

        let (of, series) = series(&Element::parse(text).unwrap()).unwrap();

        assert_eq!(of.value, "vm-1");
        assert_eq!(series.at[1].0.duration_since(series.at[0].0).as_secs(), 20);
        assert_eq!(series.values[&(2, "scsi0:0".to_owned())], [Some(7), None]);
        assert!(!series.values.contains_key(&(3, String::new())), "one value for two moments");
    }
}
