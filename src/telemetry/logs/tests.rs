//! What lines look like and which are written.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::telemetry::attacks;
use std::sync::Arc;
use tracing::{debug, error, info, trace, warn};

fn settings(text: &str) -> Result<Logs, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// What is written for the events of a closure.
fn written(logs: &Logs, events: impl FnOnce()) -> String {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let subscriber = subscriber(logs, Output(vec![Sink::Memory(Arc::clone(&bytes))]));
    tracing::subscriber::with_default(subscriber, events);
    let bytes = bytes.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn without_times(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_once('\t').unwrap().1.to_owned()).collect()
}

#[test]
fn console_lines() {
    let text = written(&settings(r#"{"initial_fields": {"pod": "a"}}"#).unwrap(), || {
        info!(target: "tracegate::service", endpoint = "127.0.0.1:4317", count = 3u64, ok = true, ratio = 0.5,
            kind = ?Some(1), neg = -1, "Everything is ready. Begin running and processing data.");
        warn!(target: "tracegate", "plain");
    });
    assert_eq!(
        without_times(&text),
        [
            "info\tEverything is ready. Begin running and processing data.\t{\"count\":3,\"endpoint\":\
             \"127.0.0.1:4317\",\"kind\":\"Some(1)\",\"neg\":-1,\"ok\":true,\"pod\":\"a\",\"ratio\":0.5}",
            "warn\tplain\t{\"pod\":\"a\"}",
        ]
    );
    let time = text.split('\t').next().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
}

#[test]
fn json_lines() {
    let text = written(&settings(r#"{"encoding": "json"}"#).unwrap(), || {
        error!(target: "tracegate", path = "a\"b", "it broke");
    });
    let mut line: Value = serde_json::from_str(&text).unwrap();
    assert!(line.as_object_mut().unwrap().remove("ts").unwrap().as_str().unwrap().ends_with('Z'));
    assert_eq!(line, serde_json::json!({"level": "error", "msg": "it broke", "path": "a\"b"}));
    assert_eq!(text.matches('\n').count(), 1);
}

#[test]
fn an_event_is_one_line_and_harmless_in_a_terminal() {
    for encoding in ["console", "json"] {
        let logs = settings(&format!(r#"{{"encoding": "{encoding}"}}"#)).unwrap();
        let text = written(&logs, || {
            let failure = io::Error::other("bad\n\u{1b}[2J\u{202e}");
            error!(target: "tracegate", error = &failure as &(dyn std::error::Error + 'static), text = "a\n\u{200b}b",
                debug = ?"c\nd", "m\n\u{1b}[31mx");
        });
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(
            !text.trim_end().contains(|c: char| (c.is_control() && c != '\t') || c == '\u{202e}' || c == '\u{200b}')
        );
    }
}

/// The libraries that carry payload print it at debug and trace; their targets are what they use today.
#[test]
fn libraries_stop_at_warn_whatever_is_configured() {
    const SECRET: &str = "hunter2";
    let logs = settings(r#"{"level": "debug"}"#).unwrap();
    let text = written(&logs, || {
        macro_rules! chatter {
            ($($target:literal)*) => {$(
                trace!(target: $target, "{SECRET}");
                debug!(target: $target, payload = SECRET, "frame");
                info!(target: $target, "{SECRET}");
                warn!(target: $target, "connection closed");
            )*};
        }
        chatter!("h2::codec::framed_read" "hyper::proto::h1::io" "hyper_util::client" "tonic::transport" "rustls::conn"
            "tower::buffer" "somebody_new" "tracegatekeeper" "");
        debug!(target: "tracegate::pipeline", "ours");
    });
    assert!(!text.contains(SECRET), "{text}");
    assert_eq!(text.matches("connection closed").count(), 9);
    assert!(text.contains("debug\tours"));
}

#[test]
fn levels() {
    let lines = |level: &str| {
        let logs = settings(&format!(r#"{{"level": "{level}"}}"#)).unwrap();
        written(&logs, || {
            trace!(target: "tracegate", "t");
            debug!(target: "tracegate", "d");
            info!(target: "tracegate", "i");
            warn!(target: "tracegate", "w");
            error!(target: "tracegate", "e");
            warn!(target: "h2", "w");
            error!(target: "h2", "e");
        })
        .lines()
        .count()
    };
    assert_eq!([lines("debug"), lines("info"), lines("warn"), lines("error")], [6, 5, 4, 2]);
    assert_eq!(lines("INFO"), 5);
}

#[test]
fn repeated_messages_are_thinned_out() {
    let logs = settings(r#"{"sampling": {"initial": 2, "thereafter": 3}}"#).unwrap();
    let text = written(&logs, || {
        for n in 1..=10 {
            info!(target: "tracegate", n, "repeated");
        }
        info!(target: "tracegate", "repeated");
        for n in 1..=10 {
            info!(target: "tracegate", "different {n}");
        }
    });
    let fields: Vec<&str> = text.lines().filter_map(|line| line.split('\t').nth(3)).collect();
    assert_eq!(fields, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"left_out":2,"n":5}"#, r#"{"left_out":2,"n":8}"#]);
    assert_eq!(text.matches("\trepeated").count(), 5, "another place has a count of its own");
    assert_eq!(text.matches("different").count(), 10, "so has another message");

    let all = settings(r#"{"sampling": {"enabled": false}}"#).unwrap();
    let none_after = settings(r#"{"sampling": {"initial": 4, "thereafter": 0}}"#).unwrap();
    for (logs, want) in [(all, 300), (none_after, 4), (Logs::default(), 12)] {
        let text = written(&logs, || (0..300).for_each(|_| info!(target: "tracegate", "x")));
        assert_eq!(text.lines().count(), want);
    }
}

#[test]
fn a_window_ends_with_its_tick() {
    let sampling = Sampling { enabled: true, tick: Duration::from_secs(10), initial: 1, thereafter: 0 };
    let sampler = Sampler::new(sampling);
    static METADATA: std::sync::OnceLock<&'static Metadata<'static>> = std::sync::OnceLock::new();
    struct Capture;
    impl<S: Subscriber> Layer<S> for Capture {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let _ = METADATA.set(event.metadata());
        }
    }
    tracing::subscriber::with_default(Registry::default().with(Capture), || info!("any"));
    let metadata = METADATA.get().unwrap();
    let start = Instant::now();
    let keeps = |seconds| sampler.keeps(metadata, "m", start + Duration::from_secs(seconds));
    assert_eq!([keeps(0), keeps(0), keeps(9), keeps(10), keeps(11)], [Some(0), None, None, Some(2), None]);
}

#[test]
fn reads_settings() {
    let default = settings("{}").unwrap();
    assert_eq!(default, Logs::default());
    assert_eq!((default.level, default.encoding), (Level::Info, Encoding::Console));
    assert_eq!(default.output_paths, ["stderr"]);
    let tick = |text: &str| settings(&format!(r#"{{"sampling": {{"tick": {text}}}}}"#)).map(|logs| logs.sampling.tick);
    assert_eq!(tick("\"5s\"").unwrap(), Duration::from_secs(5));
    assert_eq!(tick("\"500ms\"").unwrap(), Duration::from_millis(500));
    assert_eq!(tick("\"2m\"").unwrap(), Duration::from_secs(120));
    assert_eq!(tick("\"1h0m1.5s\"").unwrap(), Duration::from_millis(3_601_500));
    assert!(tick("1000").is_err(), "a number without a unit is no duration");
    for bad in ["\"\"", "\"s\"", "\"-1s\"", "-1", "[]", "\"1 h\""] {
        assert!(tick(bad).is_err(), "{bad}");
    }
    assert!(settings(r#"{"level": "loud"}"#).is_err());
    assert!(settings(r#"{"encoding": "xml"}"#).is_err());
    assert!(settings(r#"{"colour": true}"#).is_err());
    let collector = r#"{"disable_caller": true, "disable_stacktrace": true, "error_output_paths": ["stderr"],
        "processors": []}"#;
    assert!(settings(collector).unwrap().warnings().is_empty());
    assert_eq!(
        settings(r#"{"development": true, "error_output_paths": ["stdout"]}"#).unwrap().warnings(),
        [
            "service::telemetry::logs::development: has no effect, log lines are the same everywhere",
            "service::telemetry::logs::error_output_paths: has no effect, errors of logging itself are not written",
        ]
    );
    let error = settings(r#"{"processors": [{"batch": {}}]}"#).unwrap_err();
    assert!(error.starts_with("exporting tracegate's own logs is not supported: remove 'processors'"), "{error}");
}

#[test]
fn writes_to_files() {
    let path = std::env::temp_dir().join(format!("tracegate-logs-{}.log", std::process::id()));
    let name = path.display().to_string();
    let output = Output::open(std::slice::from_ref(&name)).unwrap();
    tracing::subscriber::with_default(subscriber(&Logs::default(), output), || {
        info!(target: "tracegate", "to a file");
    });
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(text.ends_with("info\tto a file\n"));
    let error = Output::open(&["/nonexistent/dir/log".to_owned()]).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("service::telemetry::logs::output_paths: cannot open /nonexistent/dir/log: "), "{error}");
}

/// The counters are the process's, so other tests may add to them too: what is asserted is a difference at least.
#[test]
fn lines_that_are_left_out_are_counted_by_level() {
    let count = |level: &str| dropped().into_iter().find(|(name, _)| *name == level).unwrap().1;
    let before = (count("error"), count("warn"));
    let logs = settings(r#"{"sampling": {"initial": 1, "thereafter": 0}}"#).unwrap();
    written(&logs, || {
        (0..8).for_each(|_| error!(target: "tracegate", "it broke"));
        (0..3).for_each(|_| warn!(target: "tracegate", "it creaks"));
    });
    assert!(count("error") >= before.0 + 7 && count("warn") >= before.1 + 2);
}

#[test]
fn no_attack_leaves_its_line_or_acts() {
    for (attack, encoding) in attacks::all().iter().flat_map(|attack| [(attack, "console"), (attack, "json")]) {
        let mut logs = settings(&format!(r#"{{"encoding": "{encoding}"}}"#)).unwrap();
        logs.initial_fields = [(attack.clone(), serde_json::json!([{ attack.as_str(): attack }]))].into();
        let text = written(&logs, || {
            let failure = io::Error::other(attack.clone());
            error!(target: "tracegate", error = &failure as &(dyn std::error::Error + 'static), text = attack.as_str(),
                debug = ?attack, display = %attack, "{attack}");
        });
        assert_eq!(text.lines().count(), 1, "{text:?}");
        attacks::assert_harmless(&text, &['\n', '\t']);
        let fields = text.trim_end().rsplit('\t').next().unwrap();
        let fields: Value = serde_json::from_str(fields).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(fields["level"].as_str(), (encoding == "json").then_some("error"), "{text}");
    }
}
