//! `import`: the connection table of a machine without an agent, from the text that `netstat` or
//! `ss` printed there. Needs no aggregator and sends nothing.

use std::{
    io::{self, Read as _, Write as _},
    path::Path,
};

use common::netstat::{self, BadLine, End, Host, Listed, Listing};
use serde_json::{Value, json};

use crate::{
    arguments::{Global, Import, Output, Program},
    failure::Failure,
    print::{Printer, safe, table},
};

/// Largest text that is read: some half a million rows.
const LARGEST_TEXT: u64 = 64 << 20;

/// Columns of the delimited form, one record per line. What is not known is empty.
const COLUMNS: [&str; 16] = [
    "vm",
    "protocol",
    "local",
    "local_port",
    "remote",
    "remote_port",
    "state",
    "direction",
    "live",
    "process",
    "program",
    "user",
    "inode",
    "sent_bytes",
    "received_bytes",
    "line",
];

/// Reads, prints, and names what is no row.
///
/// # Errors
///
/// [`Failure::BadLines`] if some lines were none or no row was there; what was good is printed
/// first.
pub(crate) fn import(global: &Global, import: &Import) -> Result<(), Failure> {
    let listing = netstat::read(&text_of(&import.file)?);
    let printer = Printer::new(global);
    let vm = import.vm.as_deref().unwrap_or_default();
    let text = match global.output {
        Output::Table => people(&printer, vm, &listing),
        Output::Json => serde_json::to_string_pretty(&document(vm, &listing))
            .map_err(crate::print::PrintError::Json)?,
        Output::Csv => delimited(vm, &listing),
    };
    printer.line(text.trim_end())?;
    let mut err = io::stderr().lock();
    for BadLine { line, text, why } in &listing.bad {
        // Nobody is left to tell when standard error is closed; the exit code tells it too.
        drop(writeln!(err, "sinterctl: line {line}: {}: {}", safe(why), safe(text)));
    }
    if listing.bad.is_empty() && !listing.rows.is_empty() {
        return Ok(());
    }
    let program = match import.program {
        Program::Netstat => "netstat",
        Program::Ss => "ss",
    };
    Err(Failure::BadLines { program, bad: listing.bad.len(), good: listing.rows.len() })
}

fn text_of(file: &Path) -> Result<String, Failure> {
    let unread = |cause| Failure::File { path: file.to_owned(), cause };
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        io::stdin().lock().take(LARGEST_TEXT + 1).read_to_end(&mut bytes)
    } else {
        let file = std::fs::File::open(file).map_err(unread)?;
        file.take(LARGEST_TEXT + 1).read_to_end(&mut bytes)
    };
    read.map_err(unread)?;
    if bytes.len() as u64 > LARGEST_TEXT {
        return Err(Failure::Words("the text has more than 64 MiB; import it in parts".into()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn host(end: &End) -> String {
    match &end.host {
        Host::Any => "*".to_owned(),
        Host::Address(address) => address.to_string(),
        Host::Name(name) => name.clone(),
    }
}

fn known<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A value of an enum as stored rows have it, such as `CLOSE_WAIT`.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

fn fields(vm: &str, row: &Listed) -> [String; COLUMNS.len()] {
    let remote = row.remote.as_ref();
    [
        vm.to_owned(),
        word(&row.protocol),
        host(&row.local),
        known(row.local.port),
        remote.map(host).unwrap_or_default(),
        known(remote.and_then(|end| end.port)),
        word(&row.state),
        word(&row.direction),
        if row.is_live() { "yes" } else { "no" }.to_owned(),
        known(row.process),
        row.program.clone().unwrap_or_default(),
        known(row.user),
        known(row.inode),
        known(row.sent.map(|bytes| bytes.0)),
        known(row.received.map(|bytes| bytes.0)),
        row.line.to_string(),
    ]
}

fn delimited(vm: &str, listing: &Listing) -> String {
    let mut text = COLUMNS.join(",") + "\n";
    for row in &listing.rows {
        let fields: Vec<_> = fields(vm, row).iter().map(|field| quoted(field)).collect();
        text += &(fields.join(",") + "\n");
    }
    text
}

/// A field as RFC 4180 has it. One that a spreadsheet would take for a formula is put behind an
/// apostrophe, which spreadsheets do not show.
fn quoted(field: &str) -> String {
    let field = safe(field);
    let is_formula = field.starts_with(['=', '+', '-', '@']);
    let field = if is_formula { format!("'{field}") } else { field };
    if field.contains([',', '"']) {
        return format!("\"{}\"", field.replace('"', "\"\""));
    }
    field
}

fn document(vm: &str, listing: &Listing) -> Value {
    let end = |end: &End| {
        let (name, address) = match &end.host {
            Host::Any => (None, None),
            Host::Address(address) => (None, Some(address.to_string())),
            Host::Name(name) => (Some(name.clone()), None),
        };
        json!({ "address": address, "name": name, "port": end.port })
    };
    let rows: Vec<_> = listing
        .rows
        .iter()
        .map(|row| {
            json!({
                "line": row.line,
                "protocol": row.protocol,
                "local": end(&row.local),
                "remote": row.remote.as_ref().map(end),
                "state": row.state,
                "direction": row.direction,
                "live": row.is_live(),
                "process": row.process,
                "program": row.program,
                "user": row.user,
                "inode": row.inode,
                "sent_bytes": row.sent.map(|bytes| bytes.0),
                "received_bytes": row.received.map(|bytes| bytes.0),
                "transport": row.transport,
            })
        })
        .collect();
    let bad = listing.bad.iter();
    let bad = bad.map(|bad| json!({ "line": bad.line, "text": bad.text, "why": bad.why }));
    json!({
        "vm": Some(vm).filter(|vm| !vm.is_empty()),
        "connections": rows,
        "live": live(listing),
        "left_out": listing.left_out,
        "bad": bad.collect::<Vec<_>>(),
    })
}

fn live(listing: &Listing) -> usize {
    listing.rows.iter().filter(|row| row.is_live()).count()
}

fn people(printer: &Printer, vm: &str, listing: &Listing) -> String {
    let end = |end: Option<&End>| {
        end.map_or_else(
            || "-".to_owned(),
            |end| {
                let port = end.port.map_or_else(|| "*".to_owned(), |port| port.to_string());
                let is_six = matches!(end.host, Host::Address(address) if address.is_ipv6());
                let host = host(end);
                if is_six { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
            },
        )
    };
    let text = table(
        ["protocol", "local", "remote", "state", "direction", "live", "process", "program"],
        listing.rows.iter().map(|row| {
            [
                word(&row.protocol),
                safe(&end(Some(&row.local))),
                safe(&end(row.remote.as_ref())),
                word(&row.state),
                word(&row.direction),
                printer.claim(row.is_live()),
                row.process.map_or_else(|| "-".to_owned(), |process| process.to_string()),
                row.program.as_deref().map_or_else(|| "-".to_owned(), safe),
            ]
        }),
    );
    let of = if vm.is_empty() { String::new() } else { format!("{}: ", safe(vm)) };
    format!(
        "{text}{of}{} connections, {} live; {} other sockets left out; {} bad lines\n",
        listing.rows.len(),
        live(listing),
        listing.left_out,
        listing.bad.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "TCP hope www.computerhope.com:telnet ESTABLISHED\n\
                           TCP hope multicity.com:90 CLOSE_WAIT\n";

    #[test]
    fn the_example_rows_are_one_record_per_line() {
        let text = delimited("hope", &netstat::read(EXAMPLE));
        let lines: Vec<_> = text.lines().skip(1).collect();
        let expected = [
            "hope,tcp,hope,,www.computerhope.com,23,ESTABLISHED,unknown,yes,,,,,,,1",
            "hope,tcp,hope,,multicity.com,90,CLOSE_WAIT,unknown,no,,,,,,,2",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn people_are_told_which_are_live() {
        let text = people(&Printer::plain(), "", &netstat::read(EXAMPLE));
        assert!(text.ends_with("2 connections, 1 live; 0 other sockets left out; 0 bad lines\n"));
        let document = document("", &netstat::read(EXAMPLE));
        assert_eq!((&document["live"], &document["vm"]), (&json!(1), &Value::Null));
        assert_eq!(document["connections"][0]["remote"]["name"], "www.computerhope.com");
    }

    #[test]
    fn a_field_is_no_formula_and_no_second_field() {
        assert_eq!(quoted("=cmd()"), "'=cmd()");
        assert_eq!(quoted("a,\"b"), "\"a,\"\"b\"");
        assert_eq!(quoted("plain"), "plain");
    }
}
