//! The process-wide parts of telemetry, in a process of their own: logging to a file, and panics that quote payload.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{panic, thread};
use tracegate::telemetry::{
    logs::{self, Logs},
    panics,
};

/// Not const, so that the message is made when the panic happens.
fn payload() -> String {
    "é hunter2 payload".to_owned()
}

#[test]
fn a_panic_is_logged_with_its_place_and_without_payload() {
    let path = std::env::temp_dir().join(format!("tracegate-panics-{}.log", std::process::id()));
    let logs = Logs { output_paths: vec![path.display().to_string()], ..Logs::default() };
    logs::init(&logs).unwrap();
    assert_eq!(logs::init(&logs).unwrap_err().to_string(), "logging is already set up in this process");
    panics::install();

    let in_thread = |name: &str, work: fn()| {
        let worker = thread::Builder::new().name(name.to_owned()).spawn(move || panic::catch_unwind(work).is_err());
        assert!(worker.unwrap().join().unwrap(), "{name} did not panic");
    };
    in_thread("slices", || drop(payload()[1..].to_owned()));
    in_thread("formats", || panic!("no room for {}", payload()));
    in_thread("fixed", || panic!("this text is in the source"));
    in_thread("unwraps", || assert_eq!(payload().parse::<u8>().map_err(|_| payload()).unwrap(), 0));
    drop(panic::take_hook());

    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
    for (line, thread) in text.lines().zip(["slices", "formats", "fixed", "unwraps"]) {
        assert!(line.contains("\terror\ta defect in tracegate: panicked\t"), "{line}");
        assert!(line.contains(&format!("\"thread\":\"{thread}\"")) && line.contains("panics.rs:"), "{line}");
        assert_eq!(line.contains("this text is in the source"), thread == "fixed", "{line}");
    }
}
