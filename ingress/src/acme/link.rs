//! What passes between the control loop and whoever looks after certificates.

use std::sync::Arc;

use landfall_ingress_model::acme::ask::Asked;
use landfall_ingress_model::input::Input;
use landfall_model::Problem;
use tokio::sync::{mpsc, watch};

/// What the control loop tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// A change of Secrets or `ConfigMap`s.
    Changed(Input),
    /// What is asked for.
    Asked(Arc<[Asked]>),
    /// Everything was listed once, so what is not known is not there.
    Complete,
}

/// The control loop's end.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where to tell.
    pub(super) told: mpsc::UnboundedSender<Told>,
    /// What is wrong with certificates.
    pub(super) problems: watch::Receiver<Arc<[Problem]>>,
    /// Secrets from the state folder.
    pub(super) secrets: mpsc::UnboundedReceiver<Input>,
    pub(super) asked: Option<Arc<[Asked]>>,
    pub(super) is_complete: bool,
}

impl Link {
    /// Passes on a change that is on its way to the compiler.
    pub(crate) fn changed(&self, input: &Input) {
        if matches!(input, Input::Secret(_) | Input::ConfigMap(_)) {
            // Whoever listened has ended with the program.
            let _ = self.told.send(Told::Changed(input.clone()));
        }
    }

    /// Tells what a build has found to be asked for.
    pub(crate) fn built(&mut self, asked: &Arc<[Asked]>) {
        if self.asked.as_ref().is_none_or(|last| !Arc::ptr_eq(last, asked)) {
            self.asked = Some(asked.clone());
            let _ = self.told.send(Told::Asked(asked.clone()));
        }
        if !self.is_complete {
            self.is_complete = true;
            let _ = self.told.send(Told::Complete);
        }
    }

    /// What is wrong now.
    pub(crate) fn problems(&self) -> Arc<[Problem]> {
        self.problems.borrow().clone()
    }

    /// Waits for news; a Secret is one for the compiler.
    pub(crate) async fn news(&mut self) -> Option<Input> {
        tokio::select! {
            Some(secret) = self.secrets.recv() => Some(secret),
            Ok(()) = self.problems.changed() => None,
            else => std::future::pending().await,
        }
    }
}
