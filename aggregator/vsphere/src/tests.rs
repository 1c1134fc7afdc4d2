//! Answers as a simulated vCenter gave them, another maker's program, and what is read of them.

use crate::{
    error::{Error, Fault},
    perf, property, watch,
    watch::Change,
    xml::{Element, Moref},
};

/// What the body of an answer holds.
fn body(text: &str) -> Element {
    let mut answer = Element::parse(text).unwrap();
    answer.children.remove(0).children.remove(0)
}

#[test]
fn a_fault_is_known_by_its_type() {
    let fault = Fault::of_envelope(&body(include_str!("answers/not_authenticated.xml")));
    assert_eq!(fault.kind, "NotAuthenticated");
    assert!(fault.to_string().contains("privilegeId System.View"), "{fault}");
    let error = Error::Fault { method: "CurrentTime".to_owned(), fault };
    assert!(error.is(&["NotAuthenticated"]) && error.may_pass());

    let fault = Fault { kind: "NoPermission".to_owned(), message: String::new() };
    assert!(!Error::Fault { method: "Destroy_Task".to_owned(), fault }.may_pass());
}

#[test]
fn who_is_not_logged_in_lacks_no_property_but_is_not_logged_in() {
    let answer = body(include_str!("answers/missing.xml"));
    let told = answer.at("returnval/objects").unwrap();
    let error = property::not_logged_in("RetrievePropertiesEx", told).unwrap();
    assert!(error.is(&["NotAuthenticated"]), "{error}");
}

#[test]
fn a_task_that_failed_says_why() {
    let answer = body(include_str!("answers/task.xml"));
    let told = property::object(answer.at("returnval/objects").unwrap()).unwrap();
    assert_eq!(told.text("info.state"), Some("error"));
    let fault = Fault::of_localized(&told.properties["info.error"]);
    assert_eq!(fault.kind, "InvalidPowerState");
    assert!(fault.message.contains("existingState poweredOff"), "{fault}");
}

#[test]
fn what_comes_and_changes_is_told_by_object_and_property() {
    let answer = body(include_str!("answers/enter.xml"));
    let told = answer.at("returnval/filterSet/objectSet").unwrap();
    let update = watch::update(told).unwrap();
    assert_eq!((update.change, update.of), (Change::Enter, Moref::new("VirtualMachine", "vm-29")));
    let (path, value) = &update.properties[2];
    let host = value.as_ref().and_then(Element::moref);
    assert_eq!((path.as_str(), host), ("runtime.host", Some(Moref::new("HostSystem", "host-24"))));

    let answer = body(include_str!("answers/modify.xml"));
    let told = answer.at("returnval/filterSet/objectSet").unwrap();
    let update = watch::update(told).unwrap();
    let (path, value) = &update.properties[0];
    let value = value.as_ref().map(|value| value.text.as_str());
    assert_eq!((update.change, path.as_str()), (Change::Modify, "runtime.powerState"));
    assert_eq!(value, Some("poweredOff"));
}

#[test]
fn samples_come_in_no_order() {
    let answer = body(include_str!("answers/samples.xml"));
    let (of, series) = perf::series(answer.child("returnval").unwrap()).unwrap();
    assert_eq!(of.value, "vm-29");
    assert!(series.at[0].0 > series.at[1].0 && series.at[0].1 == 20);
    assert_eq!(series.values[&(2, String::new())], [Some(552), Some(355)]);
}

#[test]
fn an_answer_that_is_cut_anywhere_is_an_error_and_no_panic() {
    let text = include_str!("answers/enter.xml").trim_end();
    for end in (0..text.len()).step_by(7) {
        assert!(Element::parse(&text[..end]).is_err(), "{end}");
    }
}
