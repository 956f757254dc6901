//! What all orders share: the store, what is known, and the board of challenges.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landfall_ingress_model::acme::challenges::{Board, Challenge, Challenges};
use landfall_ingress_model::acme::world::World;
use landfall_model::ObjectKey;

use super::account::Accounts;
use super::authority::Roots;
use super::names::Names;
use super::proofs;
use super::settings::SelfCheck;
use super::store::{Shared, Store, StoreError};

/// What is known, and what is answered.
pub(super) struct Memory {
    pub(super) world: World,
    pub(super) board: Board,
}

/// What all orders share.
pub(super) struct Edge {
    pub(super) store: Store,
    pub(super) names: Names,
    pub(super) self_check: SelfCheck,
    /// How long other replicas may take to hear of a challenge.
    pub(super) spread: Duration,
    pub(super) accounts: Accounts,
    /// Held while a CA of our own is opened or changed.
    pub(super) authorities: tokio::sync::Mutex<()>,
    pub(super) roots: Arc<Roots>,
    /// Held while a set of TXT records is changed: some providers replace it whole.
    pub(super) zones: tokio::sync::Mutex<()>,
    /// Held while a host is proven by the one record that a provider can hold.
    pub(super) turns: tokio::sync::Mutex<()>,
    challenges: Arc<Challenges>,
    memory: Mutex<Memory>,
    /// What was written last; held while it is.
    saved: tokio::sync::Mutex<Option<Shared>>,
}

impl Edge {
    pub(super) fn new(
        store: Store,
        names: Names,
        self_check: SelfCheck,
        challenges: Arc<Challenges>,
        roots: Arc<Roots>,
        world: World,
    ) -> Self {
        let spread = store.spread();
        let memory = Mutex::new(Memory { world, board: Board::new() });
        Self {
            store,
            names,
            self_check,
            spread,
            accounts: Accounts::default(),
            authorities: tokio::sync::Mutex::default(),
            roots,
            zones: tokio::sync::Mutex::default(),
            turns: tokio::sync::Mutex::default(),
            challenges,
            memory,
            saved: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        // Every change of it is whole before anything can fail.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what the leader shares.
    pub(super) fn follow(&self, shared: Shared) {
        let mut memory = self.memory();
        memory.world.load(shared.state);
        let is_news = memory.board != shared.challenges;
        memory.board = shared.challenges;
        if is_news {
            self.challenges.publish(proofs::answers(&memory.board));
        }
    }

    /// Forgets what was written last, since somebody else may have written meanwhile.
    pub(super) async fn begin_to_lead(&self) {
        *self.saved.lock().await = None;
    }

    /// Shares what is known now, if that is news.
    pub(super) async fn save(&self) -> Result<(), StoreError> {
        let mut saved = self.saved.lock().await;
        let shared = {
            let memory = self.memory();
            Shared { challenges: memory.board.clone(), state: memory.world.state().clone() }
        };
        if saved.as_ref() != Some(&shared) {
            self.store.save(&shared).await?;
            *saved = Some(shared);
        }
        Ok(())
    }

    /// Answers challenges from now on, at all replicas.
    pub(super) async fn show(&self, name: &str, challenges: Vec<Challenge>) -> Result<(), StoreError> {
        self.change_board(|board| drop(board.insert(name.to_owned(), challenges)));
        self.save().await?;
        tokio::time::sleep(self.spread).await;
        Ok(())
    }

    /// Answers them no more. The others hear of it with the next change.
    pub(super) fn withdraw(&self, name: &str) {
        self.change_board(|board| drop(board.remove(name)));
    }

    /// Forgets challenges of orders that are neither under way nor to be gone on with.
    pub(super) fn tidy(&self, running: &BTreeSet<ObjectKey>) {
        let known: BTreeSet<String> = {
            let mut memory = self.memory();
            memory.world.tidy(running);
            let certificates = memory.world.state().certificates.iter();
            let open = certificates.filter(|(_, state)| state.order.is_some()).map(|(name, _)| name.clone());
            open.chain(running.iter().map(ToString::to_string)).collect()
        };
        self.change_board(|board| board.retain(|name, _| known.contains(name.trim_end_matches(PROBE))));
    }

    fn change_board(&self, change: impl FnOnce(&mut Board)) {
        let mut memory = self.memory();
        let before = memory.board.clone();
        change(&mut memory.board);
        if memory.board != before {
            self.challenges.publish(proofs::answers(&memory.board));
        }
    }
}

/// Marks the challenges of our own check on the board.
pub(super) const PROBE: &str = "?";
