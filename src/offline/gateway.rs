//! What a gateway knows, without the tasks that keep it up to date: plan, table, and the lists that it was built from.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshless_discovery::{Address, Config as BackendConfig, Endpoint, Snapshot, Target};

use super::Micros;
use crate::config::Config;
use crate::follow::removals::{Removals, Standing};
use crate::upstream::Table;
use crate::upstream::plan::Plan;
use crate::upstream::reconcile::{Catalog, Reconciler};

/// A gateway that only decides.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) table: Table,
    plan: Arc<Plan>,
    reconciler: Reconciler,
    catalog: Catalog,
    removals: HashMap<Target, Removals>,
    /// Where virtual time begins; only differences to it matter.
    origin: Instant,
}

impl Gateway {
    /// Builds it from a configuration and what its targets list. The error names a target of which nothing is known.
    pub(crate) fn new(config: &Config, lists: &BTreeMap<Target, Arc<Snapshot>>) -> Result<Self, String> {
        // What is virtual sends nothing: it needs no TLS.
        let plan = Arc::new(Plan::new(config, &mut |_| None));
        let mut gateway = Self {
            table: Table::default(),
            reconciler: Reconciler::default(),
            catalog: Catalog::new(),
            removals: HashMap::new(),
            origin: Instant::now(),
            plan,
        };
        for target in gateway.plan.targets() {
            let snapshot = match lists.get(&target) {
                Some(snapshot) => snapshot.clone(),
                None if target.backend == "static" => {
                    let written = meshless_discovery::written(&BackendConfig::Static, &target);
                    let written = written.ok_or_else(|| format!("target `{target}` has no endpoints"))?;
                    Arc::new(written.map_err(|error| error.to_string())?)
                }
                None => {
                    return Err(format!(
                        "nothing says which endpoints `{target}` has; add [[catalog.\"{target}\"]] with an address each, or \
                         `catalog.\"{target}\" = []`"
                    ));
                }
            };
            gateway.take(&target, &snapshot, 0);
        }
        gateway.reconcile();
        Ok(gateway)
    }

    /// Returns every target.
    pub(crate) fn targets(&self) -> Vec<Target> {
        self.plan.targets()
    }

    /// A backend lists something else from now on.
    pub(crate) fn list(&mut self, target: &Target, snapshot: &Arc<Snapshot>, now: Micros) {
        self.take(target, snapshot, now);
        self.reconcile();
    }

    /// Changes what targets list of an endpoint; `None` takes it away. Returns how many targets list it.
    pub(crate) fn relist_with(
        &mut self,
        address: &Address,
        change: impl Fn(Endpoint) -> Option<Endpoint>,
        now: Micros,
    ) -> usize {
        let mut found = 0;
        for target in self.plan.targets() {
            let Some(removals) = self.removals.get(&target) else { continue };
            let listed = removals.endpoints().filter(|(_, standing)| *standing == Standing::Listed);
            let listed: Vec<Endpoint> = listed.map(|(endpoint, _)| endpoint.clone()).collect();
            if listed.iter().any(|endpoint| endpoint.address == *address) {
                found += 1;
                let one =
                    |endpoint: Endpoint| if endpoint.address == *address { change(endpoint) } else { Some(endpoint) };
                // A part of a snapshot, in its order, is one too.
                let snapshot = Snapshot::new(listed.into_iter().filter_map(one).collect()).unwrap_or_default();
                self.take(&target, &Arc::new(snapshot), now);
            }
        }
        self.reconcile();
        found
    }

    /// No connection could be made to an endpoint: held over its removal, it may go.
    pub(crate) fn failed(&mut self, address: &Address) {
        let mut dropped: Vec<Target> = Vec::new();
        for (target, removals) in &mut self.removals {
            if removals.failed(address) {
                dropped.push(target.clone());
            }
        }
        if !dropped.is_empty() {
            for target in &dropped {
                self.relist(target);
            }
            self.reconcile();
        }
    }

    /// Drops endpoints that were held long enough.
    pub(crate) fn expire(&mut self, now: Micros) {
        let instant = self.instant(now);
        let due: Vec<Target> = self
            .removals
            .iter_mut()
            .filter_map(|(target, removals)| removals.expire(instant).then(|| target.clone()))
            .collect();
        if !due.is_empty() {
            for target in &due {
                self.relist(target);
            }
            self.reconcile();
        }
    }

    /// Returns a virtual time as the core takes some of its times.
    pub(crate) fn instant(&self, now: Micros) -> Instant {
        self.origin + Duration::from_micros(now)
    }

    /// Returns such a time as a virtual one.
    pub(crate) fn time(&self, instant: Instant) -> Micros {
        super::micros(instant.saturating_duration_since(self.origin))
    }

    /// Returns when [`Gateway::expire`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Micros> {
        let next = self.removals.values().filter_map(Removals::deadline).min();
        next.map(|deadline| self.time(deadline))
    }

    fn take(&mut self, target: &Target, snapshot: &Arc<Snapshot>, now: Micros) {
        let instant = self.instant(now);
        self.removals.entry(target.clone()).or_default().answered(snapshot, instant);
        self.relist(target);
    }

    fn relist(&mut self, target: &Target) {
        if let Some(removals) = self.removals.get(target) {
            let list = removals.endpoints().map(|(endpoint, standing)| (endpoint.clone(), standing)).collect();
            self.catalog.insert(target.clone(), list);
        }
    }

    fn reconcile(&mut self) {
        self.table = self.reconciler.reconcile(&self.table, self.plan.clone(), &self.catalog);
    }
}
