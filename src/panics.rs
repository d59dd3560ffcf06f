//! Panics: a bug of the program, on whatever thread, ends a run with one message, as an error does.
//!
//! Work that must come back is done in [`catch`]. While it lasts, a panic on any thread is not printed but noted, with
//! its place and with what the thread was [busy](crate::watchdog) with; the first one becomes the error.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use crate::watchdog;

/// How many calls of [`catch`] are under way.
static CATCHING: AtomicUsize = AtomicUsize::new(0);
/// What the first panic since the last one that was taken said.
static FIRST: Mutex<Option<String>> = Mutex::new(None);

/// Does `work`; a panic in it, or on a thread that it waits for, is an error. What `work` has changed by then may be
/// half done, and must not be used for results.
pub(crate) fn catch<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    install_hook();
    CATCHING.fetch_add(1, Ordering::SeqCst);
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.fetch_sub(1, Ordering::SeqCst);
    result.map_err(|payload| {
        let noted = FIRST.lock().unwrap_or_else(PoisonError::into_inner).take();
        let what = noted.unwrap_or_else(|| text(&*payload).to_owned());
        format!(
            "internal error: {what}. This is a bug in the program, please report it; the last checkpoint is untouched"
        )
    })
}

/// Whether a thread has panicked in what is being caught now. The systems after the one that panicked still run to the end
/// of the tick, so whoever writes results asks before.
pub(crate) fn have_happened() -> bool {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if CATCHING.load(Ordering::SeqCst) == 0 {
                return before(info);
            }
            let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| describe(info));
        }));
    });
}

/// What happened, where, and to whom.
fn describe(info: &PanicHookInfo) -> String {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let busy = watchdog::busy_here().map(|work| format!(", {work}"));
    format!("{} ({place}{})", text(info.payload()), busy.unwrap_or_default())
}

fn text(payload: &(dyn Any + Send)) -> &str {
    let owned = || payload.downcast_ref::<String>().map(String::as_str);
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(owned)
        .unwrap_or("a panic without a message")
}
