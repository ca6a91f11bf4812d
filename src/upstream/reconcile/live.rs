//! The part of a table that requests asked for: upstreams of live names, behind those of the plan (pure).

use std::sync::Arc;

use super::{Catalog, Reconciler, mark_gone};
use crate::upstream::live::{Live, is_forbidden, key};
use crate::upstream::plan::UpstreamPlan;
use crate::upstream::{Table, Upstream};

impl Reconciler {
    /// Adds the upstreams of live names to those of a plan.
    pub(super) fn add_live(
        &mut self,
        upstreams: &mut Vec<Arc<Upstream>>,
        old: &Table,
        live: &Live,
        zone: Option<&str>,
        catalog: &Catalog,
    ) {
        let before = old.live_upstreams();
        for planned in &live.upstreams {
            match key(planned).and_then(|key| before.get(&key)) {
                Some((same, upstream)) if Arc::ptr_eq(same, planned) && self.is_unchanged(planned, catalog) => {
                    upstreams.push(Arc::clone(upstream));
                }
                found => {
                    let found = found.map(|(_, upstream)| *upstream);
                    let upstream = match without_forbidden(planned, catalog) {
                        Some(catalog) => self.build(planned, zone, found, &catalog),
                        None => self.build(planned, zone, found, catalog),
                    };
                    upstreams.push(Arc::new(upstream));
                }
            }
        }
    }
}

/// Marks the members of live upstreams that are gone.
pub(super) fn mark_live_gone(old: &Table, new: &Table) {
    let now = new.live_upstreams();
    for (key, (_, before)) in old.live_upstreams() {
        mark_gone(before, now.get(&key).map(|(_, upstream)| *upstream));
    }
}

/// Leaves out endpoints that an upstream chosen by a request may not have; `None` where there are none.
fn without_forbidden(planned: &UpstreamPlan, catalog: &Catalog) -> Option<Catalog> {
    let (_, target) = key(planned)?;
    let listed = catalog.get(target)?;
    if !listed.iter().any(|(endpoint, _)| is_forbidden(&endpoint.address)) {
        return None;
    }
    let kept = listed.iter().filter(|(endpoint, _)| !is_forbidden(&endpoint.address)).cloned().collect();
    Some(Catalog::from([(target.clone(), kept)]))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use meshless_discovery::{Address, Endpoint, Target};

    use super::*;
    use crate::follow::removals::Standing;
    use crate::upstream::plan::Plan;
    use crate::upstream::tree::Tree;

    fn target(path: &str) -> Target {
        Target { backend: "file".to_owned(), path: path.to_owned(), options: BTreeMap::default() }
    }

    fn planned(name: &str, path: &str) -> Arc<UpstreamPlan> {
        let from = Tree::Leaf(target(path));
        Arc::new(UpstreamPlan { name: name.into(), policies: Arc::default(), tls: None, from })
    }

    fn live(upstreams: &[&Arc<UpstreamPlan>]) -> Arc<Live> {
        Arc::new(Live { upstreams: upstreams.iter().copied().cloned().collect(), ..Live::default() })
    }

    fn endpoints(addresses: &[&str]) -> Arc<[(Endpoint, Standing)]> {
        let listed = |address: &&str| (Endpoint::new(Address::Tcp(address.parse().unwrap())), Standing::Listed);
        addresses.iter().map(listed).collect()
    }

    #[test]
    fn names_of_one_rule_are_upstreams_of_their_own_and_keep_their_state_whatever_comes_and_goes_around_them() {
        let catalog: Catalog =
            [(target("a"), endpoints(&["127.0.0.1:1"])), (target("b"), endpoints(&["127.0.0.1:2"]))].into();
        let (a, b) = (planned("{x}", "a"), planned("{x}", "b"));
        let mut reconciler = Reconciler { live: live(&[&a]), ..Reconciler::default() };
        let first = reconciler.reconcile(&Table::default(), Arc::default(), &catalog);
        reconciler.live = live(&[&b, &a]);
        let second = reconciler.reconcile(&first, Arc::default(), &catalog);
        assert!(Arc::ptr_eq(&first.upstreams[0], &second.upstreams[1]), "taken over whole");
        assert_ne!(first.upstreams[0].state.id, second.upstreams[0].state.id);
        // Another plan moves them and may bring other policies.
        let service =
            UpstreamPlan { name: "{x}".into(), policies: Arc::default(), tls: None, from: Tree::Leaf(target("b")) };
        let plan = Arc::new(Plan { upstreams: vec![service], ..Plan::default() });
        let anew = planned("{x}", "a");
        reconciler.live = live(&[&anew]);
        let third = reconciler.reconcile(&second, plan, &catalog);
        assert!(Arc::ptr_eq(&third.upstreams[1].state, &first.upstreams[0].state));
        assert_ne!(third.upstreams[0].state.id, second.upstreams[0].state.id, "a service is no live name");
        let gone = |table: &Table, at: usize| {
            table.upstreams[at]
                .members
                .values()
                .all(|member| member.state.gone.load(std::sync::atomic::Ordering::Relaxed))
        };
        assert!(gone(&second, 0) && !gone(&third, 1));
    }

    #[test]
    fn endpoints_that_a_request_may_not_choose_are_left_out() {
        let catalog: Catalog = [(target("a"), endpoints(&["127.0.0.1:1", "169.254.169.254:80"]))].into();
        let mut reconciler = Reconciler { live: live(&[&planned("{x}", "a")]), ..Reconciler::default() };
        let table = reconciler.reconcile(&Table::default(), Arc::default(), &catalog);
        let addresses: Vec<_> =
            table.upstreams[0].members.values().map(|member| member.endpoint.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:1"]);
        assert!(!table.is_empty(&Tree::Leaf(0)) && table.is_empty(&Tree::Leaf(1)));
    }
}
