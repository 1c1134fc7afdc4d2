//! The columns of every table: the one place where they are defined and documented. Columns are only
//! ever added, at the end of their table and optional, so that what was exported before is read.

use super::cell::{
    Column,
    Kind::{self, Count, Flag, Json, Real, Text, Time},
};

/// A column that is never empty.
const fn always(name: &'static str, kind: Kind, meaning: &'static str) -> Column {
    Column { name, kind, optional: false, meaning }
}

/// A column that is empty where nothing is known.
const fn maybe(name: &'static str, kind: Kind, meaning: &'static str) -> Column {
    Column { name, kind, optional: true, meaning }
}

pub(super) const WINDOWS: &[Column] = &[
    always("window", Text, "the window; its key"),
    always("opened_at", Time, "when it opened"),
    always("closed_at", Time, "when it closed"),
    always(
        "sampled_every_ns",
        Count,
        "time between two samples of an agent, in nanoseconds; 0 if there is none",
    ),
    always("machines", Count, "its rows in machines"),
    always("applications", Count, "its rows in applications"),
    always("edges", Count, "its rows in edges"),
    always("records", Count, "its rows in records"),
    always("remarks", Json, "disagreements and oddities: a list of texts"),
];

pub(super) const MACHINES: &[Column] = &[
    always("window", Text, "the window"),
    always("vm", Text, "the machine; key within the window"),
    always("name", Text, "its name"),
    maybe("host", Text, "where it runs"),
    maybe("power", Text, "`on` or `off`; empty if the hypervisor does not know it"),
    maybe("given_cpu_millicores", Count, "CPU it may use"),
    maybe("given_memory_bytes", Count, "memory it may use"),
    maybe("given_storage_bytes", Count, "storage it may use"),
    always("pools", Json, "pools its disks lie in: a list"),
    always("labels", Json, "labels at the vendor's: a list"),
    always("addresses", Json, "its addresses: a list"),
    always("on_trial", Flag, "it is a clone beside its running source"),
    always("has_agent", Flag, "an agent reports from it, or should"),
    always("coverage", Real, "share of the samples due that came"),
    always(
        "guest_watched_ns",
        Count,
        "time over which it was watched, in nanoseconds, as the guest says",
    ),
    maybe("guest_cpu_mean_millicores", Count, "CPU on average, as the guest says"),
    maybe("guest_cpu_peak_millicores", Count, "CPU at its peak, as the guest says"),
    maybe("guest_memory_peak_bytes", Count, "memory at its peak, as the guest says"),
    maybe("guest_received_per_second", Real, "bytes received per second, as the guest says"),
    maybe("guest_sent_per_second", Real, "bytes sent per second, as the guest says"),
    maybe("guest_written_per_second", Real, "bytes written to disk per second, as the guest says"),
    always(
        "outside_watched_ns",
        Count,
        "time over which it was watched, in nanoseconds, as the hypervisor says",
    ),
    maybe("outside_cpu_mean_millicores", Count, "CPU on average, as the hypervisor says"),
    maybe("outside_cpu_peak_millicores", Count, "CPU at its peak, as the hypervisor says"),
    maybe("outside_memory_peak_bytes", Count, "memory at its peak, as the hypervisor says"),
    maybe("outside_received_per_second", Real, "bytes received per second, as the hypervisor says"),
    maybe("outside_sent_per_second", Real, "bytes sent per second, as the hypervisor says"),
    maybe(
        "outside_written_per_second",
        Real,
        "bytes written to disk per second, as the hypervisor says",
    ),
    maybe("out_of_memory", Count, "times the kernel killed something for want of memory"),
    maybe("mix", Json, "what it runs: generation, attempted_generation, applications, healthy"),
    always("half_closed", Count, "connections that only wait to be closed"),
    always(
        "contradictions",
        Json,
        "why guest and hypervisor do not agree about who it is: a list of texts",
    ),
    maybe("records", Json, "keys of the records of what the hypervisor counted of it: a list"),
    maybe(
        "counted",
        Json,
        "what its agent's count of its edges comes to: complete, received_per_second, sent_per_second; \
         empty if it does not count",
    ),
    maybe("cpu_looks", Text, "CPU in millicores from look to look of the hypervisor, as a sketch"),
    maybe("operating_system", Text, "the operating system, as it names itself"),
    maybe("architecture", Text, "the instruction set"),
];

pub(super) const APPLICATIONS: &[Column] = &[
    always("window", Text, "the window"),
    always("vm", Text, "the machine"),
    always("application", Text, "the application; with the machine key within the window"),
    always("listed", Flag, "the catalogue lists it"),
    always("seen", Count, "samples that show it with a process"),
    maybe("cpu_mean_millicores", Count, "CPU on average"),
    always("cpu_peak_millicores", Count, "CPU at its peak"),
    always("memory_peak_bytes", Count, "resident memory at its peak"),
    always(
        "cpu_quantiles",
        Text,
        "CPU in millicores as a sketch: how many were nought, then bin:count for each bin",
    ),
    always("memory_quantiles", Text, "memory in bytes as a sketch, likewise"),
    maybe("written_per_second", Real, "bytes written to storage per second"),
    always("listens", Json, "ports it listened on: a list"),
    always("records", Json, "keys of its records: a list"),
];

pub(super) const EDGES: &[Column] = &[
    always("window", Text, "the window"),
    maybe("client_vm", Text, "the machine that called; empty if it is none of the inventory"),
    maybe("client_application", Text, "its application; empty if it is not known"),
    maybe("client_address", Text, "the address that called, if no machine of the inventory has it"),
    maybe("server_vm", Text, "the machine that answered"),
    maybe("server_application", Text, "its application"),
    maybe(
        "server_address",
        Text,
        "the address that answered, if no machine of the inventory has it",
    ),
    always("port", Count, "the port that answered; with both ends key within the window"),
    always("opened", Count, "connections that came to be"),
    always("failed", Count, "attempts that never became a connection"),
    always("reset", Count, "connections that were reset; 0 where nobody counts"),
    maybe("exchanges", Count, "requests and answers; empty where nobody counts"),
    always("starts", Json, "when connections came to be, in milliseconds since 1970: a list"),
    always("starts_missing", Count, "connections that came to be at a moment nobody knows"),
    maybe("detected", Real, "share of the connections that came to be that were seen"),
    always("seen", Count, "connections seen"),
    always("alive", Count, "those of them that were open both ways, or had been"),
    always("open_mean", Real, "connections open on average"),
    always("both_ends", Flag, "both ends reported it"),
    always("coverage", Real, "coverage of the end that saw more"),
    always("watched_ns", Count, "time over which it was watched, in nanoseconds"),
    maybe("bytes", Count, "bytes both ways"),
    always("answered_at", Json, "where it was answered: a list of addresses with ports"),
    always("records", Json, "keys of its records: a list"),
    maybe(
        "told",
        Json,
        "what either end told by itself: by_client, by_server, each opened and bytes",
    ),
];

pub(super) const RECORDS: &[Column] = &[
    always("window", Text, "the window"),
    always("key", Text, "what evidence calls it by; its key"),
    always("vm", Text, "the machine"),
    maybe("application", Text, "the application"),
    always(
        "operation",
        Text,
        "connect, answer, exchange, read, write, discard, compute, read or write",
    ),
    always("target", Text, "to what"),
    maybe("size_class", Count, "floor(log2(bytes per operation))"),
    always("outcome", Text, "`ok`, `failed` or `unknown`"),
    always("count", Count, "how often; for compute, milliseconds"),
    maybe("bytes", Count, "how many bytes"),
    always("source", Text, "who says so: agent, both agents or hypervisor"),
];
