//! Panics without payload.
//!
//! A panic's message may quote the data at hand: slicing a string beside a character boundary prints the string. So
//! only messages that are fixed in the source are shown; of all others the place, which is enough to find the defect.

use std::{
    any::Any,
    io::Write,
    panic::{self, PanicHookInfo},
    thread,
};

/// Replaces the process's panic hook by one that logs place and thread, and the message only if it is fixed in the
/// source. Before logging is set up the same goes to stderr.
pub fn install() {
    panic::set_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    let current = thread::current();
    let thread = current.name().unwrap_or("unnamed");
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let message = fixed_message(info.payload());
    if tracing::dispatcher::has_been_set() {
        tracing::error!(target: "tracegate", place, thread, panic = message, "a defect in tracegate: panicked");
    } else {
        let _ = writeln!(std::io::stderr().lock(), "a defect in tracegate: {thread} panicked at {place}: {message}");
    }
}

/// A message without arguments is a `&'static str`; one with arguments is a `String`, and may carry anything.
fn fixed_message(payload: &(dyn Any + Send)) -> &'static str {
    payload.downcast_ref::<&'static str>().copied().unwrap_or("the message is withheld, it may quote payload")
}
