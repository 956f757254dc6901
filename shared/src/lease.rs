//! Leader election by a `coordination.k8s.io/v1` Lease, with client-go's rules.
//!
//! A candidate takes the lease when it is free, or when its record has not changed for the record's own duration as
//! seen on the candidate's clock: clocks of nodes are never compared. It looks again at that very moment, where
//! client-go may look a pause later. Every write carries the resource version that was read, so of two candidates one
//! fails.
//!
//! **Invariant:** a leader calls itself one no longer than [`Timing::renew_deadline`] after the last renewal it
//! began with success, and the others wait [`Timing::duration`] after they saw it. The first being shorter, two are
//! never leaders at once, unless a clock stands still while its machine runs.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::api_error;

#[cfg(test)]
mod tests;

/// How long a leader leads and how often it says so; client-go's figures by default.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long a record must be unchanged before another may take the lease. Whole seconds.
    pub duration: Duration,
    /// How long a leader goes on without a successful renewal. Must be shorter than `duration`.
    pub renew_deadline: Duration,
    /// Pause between tries.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        // Whoever still looks at the receiver must not take the last word for a standing one.
        self.set(false);
    }
}

/// The resolution of timers: what is left of a deadline below this can't be waited for.
const TICK: Duration = Duration::from_millis(1);

/// A running candidate. Dropping it ends the candidacy without giving the lease back.
#[derive(Debug)]
pub struct Elector {
    leader: watch::Receiver<bool>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Elector {
    /// Stands for the lease `name` in `namespace` as `identity`, which must be unique: the pod's name.
    pub fn start(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self::start_with(client, namespace, name, identity, Timing::default())
    }

    /// [`Elector::start`], with other times.
    pub fn start_with(client: Client, namespace: &str, name: &str, identity: &str, timing: Timing) -> Self {
        let (leads, leader) = watch::channel(false);
        let (stop, stopped) = oneshot::channel();
        let candidate = Candidate {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            timing,
            leads,
            observed: None,
            renewed: None,
            free: None,
        };
        Self { leader, stop: Some(stop), task: tokio::spawn(candidate.run(stopped)) }
    }

    /// Whether this candidate leads, as it changes.
    pub fn leader(&self) -> watch::Receiver<bool> {
        self.leader.clone()
    }

    /// Ends the candidacy; a leader empties the lease, so that another takes over at once.
    pub async fn release(mut self) {
        if let Some(stop) = self.stop.take() {
            // The task may have ended already; there is nothing to release then.
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for Elector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    timing: Timing,
    leads: watch::Sender<bool>,
    /// The record as last seen, and since when it has been that.
    observed: Option<(Lease, Instant)>,
    /// When the last successful renewal began.
    renewed: Option<Instant>,
    /// When the record that another holds has stood still for its duration, unless it changes before.
    free: Option<Instant>,
}

impl Candidate {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        loop {
            let pause = tokio::select! {
                pause = self.step() => pause,
                released = &mut stopped => return self.leave(released.is_ok()).await,
            };
            tokio::select! {
                () = sleep(pause) => {}
                released = &mut stopped => return self.leave(released.is_ok()).await,
            }
        }
    }

    /// One try; returns the pause before the next.
    async fn step(&mut self) -> Duration {
        let began = Instant::now();
        self.free = None;
        // A leader's try must end when its time does.
        let left = self.renewed.map_or(self.timing.renew_deadline, |renewed| {
            (renewed + self.timing.renew_deadline).saturating_duration_since(began)
        });
        match timeout(left, self.try_hold()).await {
            Ok(Ok(true)) => {
                self.renewed = Some(began);
                self.set(true);
            }
            // Somebody else holds it. For a leader this means that it has lost it.
            Ok(Ok(false)) => {
                self.renewed = None;
                self.set(false);
            }
            Ok(Err(error)) => {
                tracing::debug!(lease = self.name, error = api_error::text(&error), "cannot hold the lease");
            }
            Err(_) => tracing::debug!(lease = self.name, "no answer about the lease"),
        }
        let Some(renewed) = self.renewed else {
            // Not a look later than the lease is free: until then nobody leads.
            let pause = self.jittered();
            return self.free.map_or(pause, |free| pause.min(free.saturating_duration_since(Instant::now())));
        };
        let left = (renewed + self.timing.renew_deadline).saturating_duration_since(Instant::now());
        if left < TICK {
            self.renewed = None;
            self.set(false);
            return self.jittered();
        }
        // Awake at the deadline at the latest, to step down in time.
        self.timing.retry.min(left)
    }

    /// Takes or renews the lease; says whether it is ours now.
    async fn try_hold(&mut self) -> kube::Result<bool> {
        let found = match self.api.get(&self.name).await {
            Err(error) if api_error::code(&error) == 404 => None,
            found => Some(found?),
        };
        let Some(lease) = found else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None)),
            };
            let created = self.api.create(&PostParams::default(), &lease).await;
            return self.accept(created);
        };
        let now = Instant::now();
        let since = match &self.observed {
            Some((seen, since)) if seen.spec == lease.spec => *since,
            _ => now,
        };
        self.observed = Some((lease.clone(), since));
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        if !holder.is_empty() && holder != self.identity {
            let duration =
                spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
            let duration = duration.map_or(self.timing.duration, Duration::from_secs);
            if now < since + duration {
                self.free = Some(since + duration);
                return Ok(false);
            }
        }
        let next = Lease { spec: Some(self.spec(spec)), ..lease };
        let written = self.api.replace(&self.name, &PostParams::default(), &next).await;
        self.accept(written)
    }

    /// The record that makes or keeps the lease ours.
    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let seconds = i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX);
        let ours = before.filter(|spec| spec.holder_identity.as_deref() == Some(self.identity.as_str()));
        let transitions = before.map_or(0, |spec| spec.lease_transitions.unwrap_or(0) + i32::from(ours.is_none()));
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds),
            acquire_time: ours.and_then(|spec| spec.acquire_time.clone()).or_else(|| now.clone()),
            renew_time: now,
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    fn accept(&mut self, answer: kube::Result<Lease>) -> kube::Result<bool> {
        match answer {
            Ok(lease) => {
                self.observed = Some((lease, Instant::now()));
                Ok(true)
            }
            // Another was faster; the next look shows who.
            Err(error) if api_error::code(&error) == 409 && self.renewed.is_none() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn leave(mut self, release: bool) {
        let held = self.renewed.take().is_some();
        self.set(false);
        let Some((lease, _)) = self.observed.take().filter(|_| held && release) else { return };
        // client-go empties the holder and sets one second, for candidates that don't look at the holder.
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            ..lease.spec.clone().unwrap_or_default()
        };
        let next = Lease { spec: Some(spec), ..lease };
        let released = timeout(self.timing.retry, self.api.replace(&self.name, &PostParams::default(), &next)).await;
        match released {
            Ok(Ok(_)) => tracing::info!(lease = self.name, "released the lease"),
            Ok(Err(error)) => tracing::debug!(lease = self.name, error = api_error::text(&error), "cannot release"),
            Err(_) => tracing::debug!(lease = self.name, "no answer to releasing the lease"),
        }
    }

    fn set(&self, leads: bool) {
        let changed = self.leads.send_if_modified(|now| std::mem::replace(now, leads) != leads);
        if changed {
            let holder = self.observed.as_ref().and_then(|(lease, _)| lease.spec.as_ref()?.holder_identity.clone());
            tracing::info!(lease = self.name, leads, holder, "leadership changed");
        }
    }

    /// A pause that keeps candidates from asking in step.
    fn jittered(&self) -> Duration {
        self.timing.retry.mul_f64(rand::random_range(1.0..=1.2))
    }
}
