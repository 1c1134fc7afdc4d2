//! What an application needs, as it is told.

use common::wire::admin::v1;

use crate::inference::{Bounded, ConfigurationMix, Corrected, Optimum, Profile};

pub(super) fn mix(mix: &ConfigurationMix) -> v1::ConfigurationMix {
    v1::ConfigurationMix {
        cpu_millicores: Some(bounded(mix.cpu)),
        memory_bytes: Some(bounded(mix.memory)),
        memory_floor_bytes: mix.memory_floor,
        cpu_corrected: corrected(mix.cpu_corrected),
        memory_corrected: corrected(mix.memory_corrected),
    }
}

pub(super) const fn bounded(Bounded { value, lower, upper }: Bounded) -> v1::Bounded {
    v1::Bounded { value, lower, upper }
}

fn corrected(Corrected { trials, factor }: Corrected) -> Option<v1::Corrected> {
    (trials > 0).then_some(v1::Corrected { trials, factor })
}

pub(super) fn optimum(optimum: &Optimum) -> v1::Optimum {
    v1::Optimum {
        operation: optimum.operation.clone(),
        size_class: optimum.size_class,
        succeeded: optimum.succeeded,
        failed: optimum.failed,
        certainty: optimum.certainty,
        per_second: optimum.per_second,
        cost: optimum.cost,
        utility: optimum.utility,
    }
}

pub(super) fn profile(profile: &Profile) -> impl Iterator<Item = v1::Demand> + use<> {
    profile
        .hours
        .into_iter()
        .map(|demand| v1::Demand { cpu_millicores: demand.cpu.0, memory_bytes: demand.memory.0 })
}
