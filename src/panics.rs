//! Panics: a bug of the program, on whatever thread, ends a run with one message, as an error does.
//!
//! Work that must come back is done in [`catch`]. While it lasts, a panic on any thread is not printed but noted, with
//! its place and with what the thread was [busy](crate::watchdog) with; the first one becomes the error. Where the work
//! comes to its end all the same, because the thread was nobody's it waits for, the note is logged.

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
    // Before this work counts as ended, so that nobody else tells of it.
    let ended = result.map_err(|payload| take().unwrap_or_else(|| text(&*payload).to_owned()));
    let was_last = CATCHING.fetch_sub(1, Ordering::SeqCst) == 1;
    // Other work that is under way may still end with it.
    if ended.is_ok()
        && was_last
        && let Some(what) = take()
    {
        bevy::log::error!("internal error: {what}. This is a bug in the program, please report it");
    }
    ended.map_err(|what| {
        format!(
            "internal error: {what}. This is a bug in the program, please report it; the last checkpoint is untouched"
        )
    })
}

/// What the first panic said, which counts as told from now on.
fn take() -> Option<String> {
    FIRST.lock().unwrap_or_else(PoisonError::into_inner).take()
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::process::Command;

    use super::*;

    /// In a process of its own: what is noted belongs to the whole process, and other tests panic as well.
    #[test]
    #[allow(clippy::panic, reason = "that is the fault")]
    fn a_panic_that_nobody_waits_for_is_told_and_forgotten() {
        const ALONE: &str = "APPRENTICE_TEST_OF_PANICS";
        if std::env::var_os(ALONE).is_none() {
            let name = "panics::tests::a_panic_that_nobody_waits_for_is_told_and_forgotten";
            let mut command = Command::new(std::env::current_exe().unwrap());
            let ran = command.args(["--exact", name]).env(ALONE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(ran.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        let panics = || std::thread::spawn::<_, ()>(|| panic!("elsewhere")).join().is_err();
        let done = catch(|| {
            assert!(panics() && have_happened());
            3
        });
        assert_eq!(done, Ok(3));
        assert!(!have_happened(), "it counts as told");
        let error = catch::<()>(|| panic!("here")).unwrap_err();
        assert!(error.starts_with("internal error: here (src/panics.rs:"), "{error}");
        assert!(!have_happened());
        // The one that ends last tells.
        let done = catch(|| catch(panics).unwrap() && have_happened());
        assert_eq!((done, have_happened()), (Ok(true), false));
    }
}
