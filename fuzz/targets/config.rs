//! Whatever the text, a configuration loads or is refused in one line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracegate::{config::Source, service::Blueprint};

fuzz_target!(|text: &str| {
    if let Err(error) = Blueprint::read(&[Source::Yaml(text.to_owned())], &[]) {
        assert_eq!(error.to_string().lines().count(), 1);
    }
});
