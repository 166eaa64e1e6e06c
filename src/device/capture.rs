//! Counting on the host what captured graphs repeat on the device.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count of events. An event that is captured in a graph counts again whenever the graph is replayed.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

thread_local! {
    /// The counters that advanced since the capture on this thread began, once per event.
    static CAPTURED: RefCell<Option<Vec<Counter>>> = const { RefCell::new(None) };
}

impl Counter {
    /// The count.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the count.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// Counts an event.
    pub fn advance(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        CAPTURED.with_borrow_mut(|captured| {
            if let Some(counters) = captured {
                counters.push(self.clone());
            }
        });
    }
}

/// Whether a capture is under way on this thread.
pub(crate) fn is_capturing() -> bool {
    CAPTURED.with_borrow(Option::is_some)
}

/// The events of this thread from its making on. If it is dropped before [`Events::finish`], they did not happen.
pub(crate) struct Events(());

impl Events {
    /// Begins to note the events of this thread.
    pub(crate) fn note() -> Events {
        CAPTURED.set(Some(Vec::new()));
        Events(())
    }

    /// Ends; one counter for each event, which happens again with each replay.
    pub(crate) fn finish(self) -> Vec<Counter> {
        CAPTURED.take().unwrap_or_default()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        for counter in CAPTURED.take().unwrap_or_default() {
            counter.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
