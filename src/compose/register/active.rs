//! One entry while it is wanted: its course, the exchange that is under way, the checks of the application.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use meshless_discovery::{Condition, Error, Registration};
use tokio::time::{Instant, sleep_until, timeout};

use super::perform::perform;
use super::{Plan, Tools, entry};
use crate::admin::RegistrationView;
use crate::compose::health::ask::{Place, ask};
use crate::compose::status::Registered;
use crate::config::units::Period;
use crate::config::{CheckedBy, RegisterCheck, UpstreamProtocol};
use crate::register::{Course, Next, State, Write};
use crate::telemetry::metrics::RegisterSeries;
use crate::upstream::health::{Condition as Checked, Rounds, next_wait};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// Returns the leftovers that were removed.
type Exchange = Boxed<Result<Vec<String>, Error>>;

/// The output of the check while the application is well: none, as after an announcement. The agent passes a changed
/// output on, later, and then each entry would be written twice.
const WELL: &str = "";

pub(super) struct Active {
    plan: Plan,
    registration: Arc<Registration>,
    course: Course,
    application: Option<Application>,
    /// What the registry shows with the condition it was told last.
    note: Arc<str>,
    under_way: Option<(Write, Exchange)>,
    /// Since when it does not take what it is told, and why.
    failing: Option<(Instant, String)>,
    is_ready: bool,
    series: RegisterSeries,
}

/// The application, where we check it.
struct Application {
    check: RegisterCheck,
    rounds: Rounds,
    condition: Checked,
    /// Why the last check was bad.
    why: Option<String>,
    due: Instant,
    under_way: Option<Boxed<Result<(), String>>>,
}

impl std::fmt::Debug for Active {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Active").field("plan", &self.plan).field("course", &self.course).finish_non_exhaustive()
    }
}

impl Active {
    pub(super) fn new(plan: Plan, tools: &Tools) -> Self {
        let bound = entry::bound_address(plan.bound);
        let is_open = plan.config.address.is_none() && bound.is_none();
        let found = if is_open { plan.address } else { bound };
        let registration =
            entry::registration(&plan.config, plan.bound, found, tools.mark.as_ref(), plan.zone.as_deref());
        if is_open {
            match found {
                Some(address) => {
                    tracing::info!(%address, listener = plan.config.listener, "The listener binds all addresses; that of this node is registered.");
                }
                None => {
                    tracing::warn!(
                        listener = plan.config.listener,
                        "The address of this node is not known; that of the registry's node is registered."
                    );
                }
            }
        }
        let application =
            plan.config.check.clone().filter(|check| check.by == CheckedBy::Gateway).map(Application::new);
        Self {
            course: Course::new(plan.config.ttl, application.is_some()),
            registration: Arc::new(registration),
            application,
            note: WELL.into(),
            under_way: None,
            failing: None,
            is_ready: false,
            series: tools.metrics.registration(&plan.config.service),
            plan,
        }
    }

    /// Whether the other one writes the same entry at the same place.
    pub(super) fn is_same_entry(&self, other: &Self) -> bool {
        self.registration.id == other.registration.id && self.plan.backend == other.plan.backend
    }

    /// Goes on as another definition of the same entry.
    pub(super) fn replace(&mut self, other: Self) {
        let is_written_anew = self.registration != other.registration;
        let is_checked_anew =
            self.application.as_ref().map(|one| &one.check) != other.application.as_ref().map(|one| &one.check);
        if is_checked_anew {
            self.application = other.application;
        }
        if is_written_anew || is_checked_anew || self.plan.config.ttl != other.plan.config.ttl {
            self.course.redefine(other.plan.config.ttl, self.application.is_some(), is_written_anew);
        }
        self.registration = other.registration;
        self.plan = other.plan;
    }

    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    pub(super) fn ready(&mut self) {
        self.is_ready = true;
        self.course.ready();
    }

    /// Begins what is due; returns when something will be.
    pub(super) fn step(&mut self, tools: &mut Tools) -> Option<Instant> {
        let now = Instant::now();
        if let Some(application) = &mut self.application
            && application.under_way.is_none()
            && application.due <= now
        {
            application.begin(now, &mut tools.random);
        }
        let wait = match self.course.next(now.into_std()) {
            Next::Write(write) => {
                self.begin(write, tools);
                None
            }
            Next::Wait(until) => until.map(Instant::from_std),
            Next::Left => None,
        };
        self.show(tools);
        let due = self.application.as_ref().filter(|one| one.under_way.is_none()).map(|one| one.due);
        wait.into_iter().chain(due).min()
    }

    fn begin(&mut self, write: Write, tools: &Tools) {
        if let Write::Announce(condition) | Write::Report(condition) = write {
            let why = self.application.as_ref().and_then(|one| one.why.clone());
            self.note = match condition {
                Condition::Passing => WELL.into(),
                Condition::Critical => why.map_or_else(|| "ill".into(), Into::into),
            };
        }
        let own = tools.mark.clone().map(|mark| (mark, tools.surroundings.clone()));
        let exchange = perform(self.plan.registrar.clone(), self.registration.clone(), write, self.note.clone(), own);
        self.under_way = Some((write, Box::pin(exchange)));
    }

    /// Waits until an exchange or a check ends, and takes it in. Cancel-safe.
    pub(super) async fn event(&mut self, tools: &mut Tools) {
        let exchange = async {
            match &mut self.under_way {
                Some((write, exchange)) => (*write, exchange.await),
                None => pending().await,
            }
        };
        let check = async {
            match self.application.as_mut().and_then(|one| one.under_way.as_mut()) {
                Some(check) => check.await,
                None => pending().await,
            }
        };
        tokio::select! {
            (write, result) = exchange => {
                self.under_way = None;
                self.exchanged(write, result, tools);
            }
            result = check => {
                if let Some(application) = &mut self.application {
                    self.series.checked(result.is_ok());
                    application.note(result);
                    self.course.checked(application.condition);
                }
            }
        }
    }

    fn exchanged(&mut self, write: Write, result: Result<Vec<String>, Error>, tools: &mut Tools) {
        let now = Instant::now();
        let before = self.course.state();
        self.course.done(result.as_ref().map(|_| ()), now.into_std(), &mut tools.random);
        let (service, id) = (&*self.registration.service, &*self.registration.id);
        self.series.wrote(write.label());
        match result {
            Ok(removed) => {
                self.series.answered();
                if self.failing.take().is_some() {
                    tracing::info!(service, id, "The registry takes what we tell it again.");
                }
                for leftover in removed {
                    tracing::info!(
                        service,
                        leftover,
                        "Removed from the registry what a process that is gone had left."
                    );
                }
                match write {
                    Write::Announce(_) if before == State::Absent => {
                        tracing::info!(service, id, backend = self.plan.config.backend, "Registered.");
                    }
                    Write::Announce(_) => tracing::info!(service, id, "The entry in the registry was renewed."),
                    Write::Report(Condition::Critical) => {
                        tracing::warn!(
                            service,
                            id,
                            why = &*self.note,
                            "The application fails its checks; the registry was told."
                        );
                    }
                    Write::Report(Condition::Passing) => {
                        tracing::info!(service, id, "The application passes its checks again; the registry was told.");
                    }
                    Write::Withdraw => tracing::info!(service, id, "Taken out of the registry."),
                    Write::Clean | Write::Heartbeat(_) => {}
                }
            }
            Err(Error::Gone(_)) if matches!(write, Write::Report(_) | Write::Heartbeat(_)) => {
                self.series.answered();
                self.series.failed(write.label(), "gone");
                tracing::warn!(service, id, "The registry had forgotten us.");
            }
            Err(error) => {
                self.series.failed(write.label(), error.label());
                // What a predecessor left is a nicety; it does not make us unconfirmed.
                if write != Write::Clean {
                    self.series.unconfirmed(now.into_std());
                    if self.failing.is_none() {
                        tracing::warn!(service, id, during = write.label(), %error, "The registry does not take what we tell it.");
                    }
                    let since = self.failing.take().map_or(now, |(since, _)| since);
                    self.failing = Some((since, error.to_string()));
                }
            }
        }
    }

    /// Takes the entry out; returns whether it was there. Cancel-safe in that what is written stays written.
    pub(super) async fn retire(mut self, tools: &mut Tools) -> bool {
        let mut was_there = self.course.state() != State::Absent || self.under_way.is_some();
        self.application = None;
        self.course.leave();
        while !self.course.is_left() {
            let wait = self.step(tools);
            tokio::select! {
                () = self.event(tools) => was_there |= self.course.state() == State::Passing,
                () = sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => {}
            }
        }
        self.show(tools);
        self.series.left();
        was_there
    }

    fn show(&self, tools: &Tools) {
        let state = self.course.state();
        self.series.state(state.label());
        let place = self.registration.address.map_or_else(|| "the registry's node".to_owned(), |one| one.to_string());
        let waits_for = match (&self.application, state) {
            (_, State::Absent) if !self.is_ready => Some("the gateway to be ready".to_owned()),
            (Some(Application { condition: Checked::Unknown, .. }), State::Absent) => {
                Some("the first check of the application".to_owned())
            }
            (Some(Application { condition: Checked::Bad, why, .. }), State::Absent) => {
                Some(format!("the application to be well: {}", why.as_deref().unwrap_or("not well enough yet")))
            }
            _ => None,
        };
        let view = RegistrationView {
            backend: self.plan.config.backend.clone(),
            service: self.registration.service.clone(),
            id: self.registration.id.clone(),
            address: place,
            port: self.registration.port,
            state: state.label().to_owned(),
            waits_for,
            check: self.application.as_ref().map(|one| one.condition.label().to_owned()),
            check_failure: self.application.as_ref().and_then(|one| one.why.clone()),
            unconfirmed_seconds: 0.0,
            failure: self.failing.as_ref().map(|(_, why)| why.clone()),
        };
        tools
            .status
            .registered(Some(Registered { view, failing_since: self.failing.as_ref().map(|(since, _)| *since) }));
    }
}

impl Application {
    fn new(check: RegisterCheck) -> Self {
        Self {
            check,
            rounds: Rounds::resume(Checked::Unknown),
            condition: Checked::Unknown,
            why: None,
            due: Instant::now(),
            under_way: None,
        }
    }

    fn begin(&mut self, now: Instant, random: &mut fastrand::Rng) {
        self.due = now + next_wait(&self.check.health, random.f64());
        let RegisterCheck { address, health, .. } = self.check.clone();
        self.under_way = Some(Box::pin(async move {
            let place = Place { address: &address, tls: None, protocol: UpstreamProtocol::Auto, app: None };
            let asked = timeout(health.timeout, ask(&place, &health.ask)).await;
            asked.unwrap_or_else(|_| Err(format!("no answer within {}", Period(health.timeout))))
        }));
    }

    fn note(&mut self, result: Result<(), String>) {
        self.under_way = None;
        self.condition = self.rounds.note(result.is_ok(), &self.check.health);
        self.why = result.err();
    }
}
