//! Readiness as a set of handles: whoever is not ready yet holds a [`Block`] and drops it when it is.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What is awaited before traffic may come. Clones share one set.
#[derive(Clone, Default)]
pub struct Readiness {
    inner: Arc<Inner>,
}

/// Asks a part of the program what it awaits.
type Provider = Box<dyn Fn() -> Vec<String> + Send + Sync>;

#[derive(Default)]
struct Inner {
    blocks: Mutex<Vec<(u64, String)>>,
    providers: Mutex<Vec<Provider>>,
}

impl Readiness {
    /// Nothing is awaited yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Awaits `what` until the handle is dropped.
    pub fn block(&self, what: impl Into<String>) -> Block {
        let mut blocks = self.inner.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let id = blocks.last().map_or(0, |(id, _)| id + 1);
        blocks.push((id, what.into()));
        Block { readiness: self.clone(), id }
    }

    /// Also awaits whatever `provider` names, each time readiness is asked for.
    pub fn provider(&self, provider: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        self.inner.providers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(provider));
    }

    /// What is awaited; empty means ready.
    pub fn awaited(&self) -> Vec<String> {
        let blocks = self.inner.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut awaited: Vec<_> = blocks.iter().map(|(_, what)| what.clone()).collect();
        drop(blocks);
        for provider in self.inner.providers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            awaited.extend(provider());
        }
        awaited
    }

    /// Whether nothing is awaited.
    pub fn is_ready(&self) -> bool {
        self.awaited().is_empty()
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Readiness").field(&self.awaited()).finish()
    }
}

/// Something that is awaited; dropping it says that it has come.
#[derive(Debug)]
pub struct Block {
    readiness: Readiness,
    id: u64,
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut blocks = self.readiness.inner.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_every_handle_is_dropped() {
        let readiness = Readiness::new();
        let table = readiness.block("ingress table");
        let listener = readiness.block("listeners");
        assert_eq!(readiness.awaited(), ["ingress table", "listeners"]);
        drop(table);
        assert_eq!(readiness.awaited(), ["listeners"]);
        drop(listener);
        assert!(readiness.is_ready());
        readiness.provider(|| vec!["Secret".into()]);
        assert_eq!(readiness.awaited(), ["Secret"]);
    }
}
