//! From snapshots to the next table (pure): what stays keeps its state, what did not change is taken over whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use meshless_discovery::{Address, Endpoint, Target};

use super::plan::{Plan, UpstreamPlan};
use super::tree::Tree;
use super::{Member, MemberState, Table, TargetSet, Upstream, UpstreamState};
use crate::config::{Policies, UpstreamProtocol, UpstreamTls};
use crate::follow::removals::Standing;

/// What is known of each target. A list is replaced when it changes, so the pointer tells whether it did.
pub(crate) type Catalog = HashMap<Target, Arc<[(Endpoint, Standing)]>>;

/// Builds tables; remembers only which ids were given out.
#[derive(Debug, Default)]
pub(crate) struct Reconciler {
    next_id: u64,
    /// Lists that the last table was built from.
    last: HashMap<Target, Arc<[(Endpoint, Standing)]>>,
}

/// What was learnt of the endpoints that an upstream had.
#[derive(Debug, Default)]
struct Known {
    by_target: HashMap<(Target, Address, Option<String>), Arc<MemberState>>,
    /// Of targets that are gone: an address that was added to a static list makes another target of it.
    orphans: HashMap<(Address, Option<String>), Arc<MemberState>>,
}

impl Known {
    fn take(&mut self, target: &Target, endpoint: &Endpoint) -> Option<Arc<MemberState>> {
        let (address, id) = (endpoint.address.clone(), endpoint.id.clone());
        let key = (target.clone(), address.clone(), id.clone());
        self.by_target.get(&key).cloned().or_else(|| self.orphans.remove(&(address, id)))
    }
}

impl Reconciler {
    /// Builds the next table.
    pub(crate) fn reconcile(&mut self, old: &Table, plan: Arc<Plan>, catalog: &Catalog) -> Table {
        let by_name: HashMap<&str, &Arc<Upstream>> = old.upstreams.iter().map(|one| (&*one.name, one)).collect();
        let same_plan = Arc::ptr_eq(&old.plan, &plan);
        let mut upstreams = Vec::with_capacity(plan.upstreams.len());
        for planned in &plan.upstreams {
            let before = by_name.get(&*planned.name).copied();
            match before {
                Some(before) if same_plan && self.is_unchanged(planned, catalog) => upstreams.push(before.clone()),
                _ => upstreams.push(Arc::new(self.build(planned, before, catalog))),
            }
        }
        let kept: HashMap<&str, &Arc<Upstream>> =
            upstreams.iter().map(|one: &Arc<Upstream>| (&*one.name, one)).collect();
        for before in &old.upstreams {
            mark_gone(before, kept.get(&*before.name).copied());
        }
        drop(kept);
        self.last.clone_from(catalog);
        Table { plan, upstreams }
    }

    fn is_unchanged(&self, planned: &UpstreamPlan, catalog: &Catalog) -> bool {
        let mut unchanged = true;
        planned.from.for_each(&mut |target| {
            unchanged &= match (self.last.get(target), catalog.get(target)) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (None, None) => true,
                _ => false,
            };
        });
        unchanged
    }

    fn build(&mut self, planned: &UpstreamPlan, before: Option<&Arc<Upstream>>, catalog: &Catalog) -> Upstream {
        let policies = planned.policies.clone();
        // A connection that was opened under other rules must not serve under these: members begin anew.
        let keeps_members = before.is_some_and(|before| same_connections(&before.policies, &policies));
        let mut known = Known::default();
        if let Some(before) = before
            && keeps_members
        {
            let mut targets = HashSet::new();
            planned.from.for_each(&mut |target| {
                targets.insert(target.clone());
            });
            before.endpoints.for_each(&mut |set| {
                for member in &set.members {
                    let (address, id) = (member.endpoint.address.clone(), member.endpoint.id.clone());
                    if targets.contains(&set.target) {
                        known.by_target.insert((set.target.clone(), address, id), member.state.clone());
                    } else {
                        known.orphans.insert((address, id), member.state.clone());
                    }
                }
            });
        }
        let state = before.map_or_else(
            || Arc::new(UpstreamState::new(self.id(), &policies)),
            |before| {
                before.state.limit_connections(policies.limits.connections);
                before.state.clone()
            },
        );
        let mut members = HashMap::new();
        let endpoints = self.sets(&planned.from, &policies, catalog, &mut known, &mut members);
        Upstream { name: planned.name.clone(), policies, tls: planned.tls.clone(), state, endpoints, members }
    }

    fn sets(
        &mut self,
        from: &Tree<Target>,
        policies: &Policies,
        catalog: &Catalog,
        known: &mut Known,
        members: &mut HashMap<u64, Arc<Member>>,
    ) -> Tree<Arc<TargetSet>> {
        match from {
            Tree::Leaf(target) => {
                let listed = catalog.get(target).map(|endpoints| &**endpoints).unwrap_or_default();
                let set: Vec<Arc<Member>> = listed
                    .iter()
                    .map(|(endpoint, standing)| {
                        let state = known
                            .take(target, endpoint)
                            .unwrap_or_else(|| Arc::new(MemberState { id: self.id(), ..MemberState::default() }));
                        Arc::new(Member { endpoint: endpoint.clone(), standing: *standing, state })
                    })
                    .collect();
                members.extend(set.iter().map(|member| (member.state.id, member.clone())));
                Tree::Leaf(Arc::new(TargetSet::new(target.clone(), policies, set)))
            }
            Tree::Split(entries) => Tree::Split(
                entries
                    .iter()
                    .map(|(weight, entry)| (*weight, self.sets(entry, policies, catalog, known, members)))
                    .collect(),
            ),
            Tree::Tiers(tiers) => {
                Tree::Tiers(tiers.iter().map(|tier| self.sets(tier, policies, catalog, known, members)).collect())
            }
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// Marks the members that an upstream had and has no more.
fn mark_gone(before: &Arc<Upstream>, now: Option<&Arc<Upstream>>) {
    if now.is_some_and(|now| Arc::ptr_eq(before, now)) {
        return;
    }
    for member in before.members.values() {
        if now.is_none_or(|now| !now.members.contains_key(&member.state.id)) {
            member.state.gone.store(true, Ordering::Relaxed);
        }
    }
}

/// Tells whether connections made under one policy may serve under another.
fn same_connections(before: &Policies, now: &Policies) -> bool {
    fn key(policies: &Policies) -> (&UpstreamTls, UpstreamProtocol) {
        (&policies.tls, policies.protocol)
    }
    key(before) == key(now)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::balance::Pick;
    use crate::config::Balance;

    fn target(path: &str) -> Target {
        Target { backend: "file".to_owned(), path: path.to_owned(), options: BTreeMap::default() }
    }

    fn plan(policies: Policies) -> Arc<Plan> {
        let upstream = UpstreamPlan {
            name: "api".into(),
            policies: Arc::new(policies),
            tls: None,
            from: Tree::Tiers(vec![Tree::Leaf(target("a")), Tree::Leaf(target("b"))]),
        };
        Arc::new(Plan { upstreams: vec![upstream], listeners: HashMap::new() })
    }

    fn endpoints(ports: &[u16]) -> Arc<[(Endpoint, Standing)]> {
        ports
            .iter()
            .map(|&port| (Endpoint::new(Address::Tcp(([127, 0, 0, 1], port).into())), Standing::Listed))
            .collect()
    }

    fn ids(table: &Table) -> Vec<(u16, u64)> {
        let mut ids: Vec<_> = table.upstreams[0]
            .members
            .values()
            .map(|member| match member.endpoint.address {
                Address::Tcp(address) => (address.port(), member.state.id),
                Address::Unix(_) => (0, member.state.id),
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_state_and_one_that_comes_back_begins_anew() {
        let mut reconciler = Reconciler::default();
        let plan = plan(Policies::default());
        let first = reconciler.reconcile(&Table::default(), plan.clone(), &[(target("a"), endpoints(&[1, 2]))].into());
        let second = reconciler.reconcile(&first, plan.clone(), &[(target("a"), endpoints(&[2, 3]))].into());
        let third = reconciler.reconcile(&second, plan, &[(target("a"), endpoints(&[1, 2, 3]))].into());
        assert_eq!(ids(&first)[1], ids(&second)[0]);
        assert_ne!(ids(&first)[0].1, ids(&third)[0].1);
        assert_eq!(ids(&second)[..], ids(&third)[1..]);
        assert!(Arc::ptr_eq(&first.upstreams[0].state, &third.upstreams[0].state));
    }

    #[test]
    fn an_endpoint_that_another_target_lists_now_keeps_its_state_once() {
        let mut reconciler = Reconciler::default();
        let from = |targets: &[&str]| {
            let leaves = targets.iter().map(|name| Tree::Leaf(target(name))).collect();
            let upstream =
                UpstreamPlan { name: "api".into(), policies: Arc::default(), tls: None, from: Tree::Tiers(leaves) };
            Arc::new(Plan { upstreams: vec![upstream], listeners: HashMap::new() })
        };
        let catalog: Catalog =
            [(target("1"), endpoints(&[1])), (target("1,2"), endpoints(&[1, 2])), (target("1,3"), endpoints(&[1, 3]))]
                .into();
        let first = reconciler.reconcile(&Table::default(), from(&["1"]), &catalog);
        let second = reconciler.reconcile(&first, from(&["1,2", "1,3"]), &catalog);
        let ids = ids(&second);
        assert_eq!(ids.len(), 4, "no two members share a state: {ids:?}");
        assert!(ids.iter().any(|&(port, id)| port == 1 && id == self::ids(&first)[0].1), "{ids:?}");
    }

    #[test]
    fn an_upstream_that_did_not_change_is_taken_over_whole() {
        let mut reconciler = Reconciler::default();
        let plan = plan(Policies::default());
        let catalog: Catalog = [(target("a"), endpoints(&[1]))].into();
        let first = reconciler.reconcile(&Table::default(), plan.clone(), &catalog);
        let second = reconciler.reconcile(&first, plan, &catalog);
        assert!(Arc::ptr_eq(&first.upstreams[0], &second.upstreams[0]));
    }

    #[test]
    fn other_policies_keep_the_state_but_other_tls_or_protocol_does_not() {
        let mut reconciler = Reconciler::default();
        let catalog: Catalog = [(target("a"), endpoints(&[1]))].into();
        let first = reconciler.reconcile(&Table::default(), plan(Policies::default()), &catalog);
        let balanced = plan(Policies { balance: Balance::Random, ..Policies::default() });
        let second = reconciler.reconcile(&first, balanced, &catalog);
        assert_eq!(ids(&first), ids(&second));
        let http2 = plan(Policies { protocol: UpstreamProtocol::Http2, ..Policies::default() });
        let third = reconciler.reconcile(&second, http2, &catalog);
        assert_ne!(ids(&first), ids(&third));
    }

    #[test]
    fn held_and_unhealthy_endpoints_serve_only_when_no_listed_one_is_left_in_any_tier() {
        let mut reconciler = Reconciler::default();
        let mut held = endpoints(&[1]).to_vec();
        held[0].1 = Standing::Held;
        let mut sick = endpoints(&[2]).to_vec();
        sick[0].0.health = meshless_discovery::Health::Unhealthy;
        let only = |table: &Table, tried: &[u64]| {
            let mut random = fastrand::Rng::with_seed(1);
            let picked = table.pick(&Tree::Leaf(0), &mut Pick { now: 0, random: &mut random, tried });
            picked.map(|(_, member)| member.endpoint.address.to_string())
        };
        let plan = plan(Policies::default());
        let catalog: Catalog = [(target("a"), held.clone().into()), (target("b"), endpoints(&[3]))].into();
        let table = reconciler.reconcile(&Table::default(), plan.clone(), &catalog);
        assert_eq!(only(&table, &[]).as_deref(), Some("127.0.0.1:3"));
        let catalog: Catalog = [(target("a"), held.into()), (target("b"), sick.into())].into();
        let table = reconciler.reconcile(&table, plan.clone(), &catalog);
        assert_eq!(only(&table, &[]).as_deref(), Some("127.0.0.1:1"));
        let first = table.upstreams[0].members.values().find(|member| member.standing == Standing::Held).unwrap();
        assert_eq!(only(&table, &[first.state.id]).as_deref(), Some("127.0.0.1:2"));
        let table = reconciler.reconcile(&table, plan, &Catalog::new());
        assert_eq!(only(&table, &[]), None);
    }
}
