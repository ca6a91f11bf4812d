//! From snapshots to the next table (pure): what stays keeps its state, what did not change is taken over whole.

mod live;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use meshless_discovery::{Address, Endpoint, Target};

use super::live::Live;
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
    /// What requests asked for; goes into the next table.
    pub(crate) live: Arc<Live>,
    /// Lists that the last table was built from.
    last: HashMap<Target, Arc<[(Endpoint, Standing)]>>,
}

/// What was learnt of the endpoints that an upstream had.
#[derive(Debug, Default)]
struct Known {
    by_target: HashMap<(Target, Address, Option<String>), Arc<MemberState>>,
    /// Of targets that are gone: an address that was added to a static list makes another target of it.
    orphans: HashMap<(Address, Option<String>), Arc<MemberState>>,
    /// Whose turns were next, where there are turns.
    lines: HashMap<Target, Vec<u64>>,
}

/// What all sets of an upstream are built with.
struct Place<'a> {
    policies: &'a Policies,
    /// The gateway's own.
    zone: Option<&'a str>,
    catalog: &'a Catalog,
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
        let planned_before = old.upstreams.get(..old.plan.upstreams.len()).unwrap_or_default();
        let by_name: HashMap<&str, &Arc<Upstream>> = planned_before.iter().map(|one| (&*one.name, one)).collect();
        let same_plan = Arc::ptr_eq(&old.plan, &plan);
        let mut upstreams = Vec::with_capacity(plan.upstreams.len());
        for planned in &plan.upstreams {
            let before = by_name.get(&*planned.name).copied();
            match before {
                Some(before) if same_plan && self.is_unchanged(planned, catalog) => upstreams.push(before.clone()),
                _ => upstreams.push(Arc::new(self.build(planned, plan.zone.as_deref(), before, catalog))),
            }
        }
        let kept: HashMap<&str, &Arc<Upstream>> =
            upstreams.iter().map(|one: &Arc<Upstream>| (&*one.name, one)).collect();
        for before in planned_before {
            mark_gone(before, kept.get(&*before.name).copied());
        }
        drop(kept);
        let live = self.live.clone();
        self.add_live(&mut upstreams, old, &live, plan.zone.as_deref(), catalog);
        self.last.clone_from(catalog);
        let table = Table { plan, live, upstreams };
        live::mark_live_gone(old, &table);
        table
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

    fn build(
        &mut self,
        planned: &UpstreamPlan,
        zone: Option<&str>,
        before: Option<&Arc<Upstream>>,
        catalog: &Catalog,
    ) -> Upstream {
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
            let began_slowly = before.policies.slow_start.is_some();
            before.endpoints.for_each(&mut |set| {
                known.lines.entry(set.target.clone()).or_default().extend(set.line());
                for member in &set.members {
                    // What happened while nobody was slow-started is no news when somebody is.
                    if !began_slowly {
                        member.state.warmth.finish();
                    }
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
        let place = Place { policies: &policies, zone, catalog };
        let endpoints = self.sets(&planned.from, &place, &mut known, &mut members);
        Upstream { name: planned.name.clone(), policies, tls: planned.tls.clone(), state, endpoints, members }
    }

    fn sets(
        &mut self,
        from: &Tree<Target>,
        place: &Place<'_>,
        known: &mut Known,
        members: &mut HashMap<u64, Arc<Member>>,
    ) -> Tree<Arc<TargetSet>> {
        match from {
            Tree::Leaf(target) => {
                let listed = place.catalog.get(target).map(|endpoints| &**endpoints).unwrap_or_default();
                let last_old = self.next_id;
                let mut by_priority: BTreeMap<u16, Vec<Arc<Member>>> = BTreeMap::new();
                for (endpoint, standing) in listed {
                    let state = known
                        .take(target, endpoint)
                        .unwrap_or_else(|| Arc::new(MemberState { id: self.id(), ..MemberState::default() }));
                    let member = Arc::new(Member { endpoint: endpoint.clone(), standing: *standing, state });
                    members.insert(member.state.id, member.clone());
                    by_priority.entry(endpoint.priority).or_default().push(member);
                }
                for members in by_priority.values() {
                    begin_slowly(members, last_old);
                }
                in_tiers(target, place, by_priority, known.lines.get(target).map(Vec::as_slice).unwrap_or_default())
            }
            Tree::Split(entries) => Tree::Split(
                entries.iter().map(|(weight, entry)| (*weight, self.sets(entry, place, known, members))).collect(),
            ),
            Tree::Tiers(tiers) => {
                Tree::Tiers(tiers.iter().map(|tier| self.sets(tier, place, known, members)).collect())
            }
        }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}

/// Begins the slow start of members that come beside established ones; where all are new, nobody could serve for them.
fn begin_slowly(set: &[Arc<Member>], last_old: u64) {
    let is_new = |member: &&Arc<Member>| member.state.id > last_old;
    if !set.iter().all(|member| is_new(&member)) {
        set.iter().filter(is_new).for_each(|member| member.state.warmth.begin());
    }
}

/// A target whose endpoints have priorities is a failover list by itself; any other is one set.
fn in_tiers(
    target: &Target,
    place: &Place<'_>,
    by_priority: BTreeMap<u16, Vec<Arc<Member>>>,
    line: &[u64],
) -> Tree<Arc<TargetSet>> {
    let set = |members| Tree::Leaf(Arc::new(TargetSet::new(target.clone(), place.policies, place.zone, members, line)));
    let mut tiers: Vec<Tree<_>> = by_priority.into_values().map(set).collect();
    match (tiers.pop(), tiers.is_empty()) {
        (None, _) => set(Vec::new()),
        (Some(only), true) => only,
        (Some(last), false) => {
            tiers.push(last);
            Tree::Tiers(tiers)
        }
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
            member.state.breaker.retire(&before.state.ejected);
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
        Arc::new(Plan { upstreams: vec![upstream], ..Plan::default() })
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
            Arc::new(Plan { upstreams: vec![upstream], ..Plan::default() })
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

    /// Ports of endpoints that are in their slow start.
    fn slow(table: &Table) -> Vec<u16> {
        let is_slow = |id: &u64| table.upstreams[0].members[id].state.warmth.share(0, 1000) < 1.0;
        ids(table).into_iter().filter(|(_, id)| is_slow(id)).map(|(port, _)| port).collect()
    }

    #[test]
    fn an_endpoint_starts_slowly_beside_established_ones_and_nowhere_else() {
        let mut reconciler = Reconciler::default();
        let plan = plan(Policies { slow_start: Some(std::time::Duration::from_secs(1)), ..Policies::default() });
        let catalog = |a: &[u16], b: &[u16]| [(target("a"), endpoints(a)), (target("b"), endpoints(b))].into();
        let first = reconciler.reconcile(&Table::default(), plan.clone(), &catalog(&[1, 2], &[]));
        assert!(slow(&first).is_empty(), "all are new");
        let second = reconciler.reconcile(&first, plan.clone(), &catalog(&[1, 2, 3], &[11, 12]));
        assert_eq!(slow(&second), [3], "in the other target all are new");
        let third = reconciler.reconcile(&second, plan.clone(), &catalog(&[1, 2, 3, 4], &[11, 12]));
        assert_eq!(slow(&third), [3, 4], "a snapshot ends no slow start");
        let fourth = reconciler.reconcile(&third, plan, &catalog(&[5, 6], &[11, 12]));
        assert!(slow(&fourth).is_empty(), "nobody is left who was there before");
    }

    #[test]
    fn who_came_while_there_was_no_slow_start_is_not_slowed_by_one_that_is_switched_on() {
        let mut reconciler = Reconciler::default();
        let catalog = |ports: &[u16]| [(target("a"), endpoints(ports))].into();
        let (fast, slowed) = (
            plan(Policies::default()),
            plan(Policies { slow_start: Some(std::time::Duration::from_secs(1)), ..Policies::default() }),
        );
        let first = reconciler.reconcile(&Table::default(), fast.clone(), &catalog(&[1]));
        let second = reconciler.reconcile(&first, fast, &catalog(&[1, 2]));
        let third = reconciler.reconcile(&second, slowed, &catalog(&[1, 2, 3]));
        assert_eq!(slow(&third), [3]);
    }

    #[test]
    fn turns_go_on_where_they_were_over_a_snapshot() {
        let mut reconciler = Reconciler::default();
        let plan = plan(Policies { balance: Balance::RoundRobin, ..Policies::default() });
        let mut random = fastrand::Rng::with_seed(1);
        let mut next = |table: &Table| {
            let choice = table.pick(&Tree::Leaf(0), false, &mut Pick::new(0, &mut random, &[])).unwrap();
            choice.member.endpoint.address.to_string().replace("127.0.0.1:", "")
        };
        let first =
            reconciler.reconcile(&Table::default(), plan.clone(), &[(target("a"), endpoints(&[1, 2, 3]))].into());
        assert_eq!([next(&first), next(&first)], ["1", "2"]);
        let second = reconciler.reconcile(&first, plan, &[(target("a"), endpoints(&[1, 2, 3, 4]))].into());
        assert_eq!([next(&second), next(&second), next(&second)], ["3", "4", "1"]);
    }

    #[test]
    fn a_target_with_priorities_is_a_failover_list_by_itself() {
        let mut reconciler = Reconciler::default();
        let endpoint = |port: u16, priority| {
            let address = Address::Tcp(([127, 0, 0, 1], port).into());
            (Endpoint { priority, ..Endpoint::new(address) }, Standing::Listed)
        };
        let catalog: Catalog = [(target("a"), [endpoint(1, 20), endpoint(2, 10), endpoint(3, 10)].into())].into();
        let first = reconciler.reconcile(&Table::default(), plan(Policies::default()), &catalog);
        let ports = |tree: &Tree<Arc<TargetSet>>| {
            let mut ports = Vec::new();
            tree.for_each(&mut |set| {
                let of = |member: &Arc<Member>| member.endpoint.address.to_string().replace("127.0.0.1:", "");
                ports.push(set.members.iter().map(of).collect::<Vec<_>>().join(","));
            });
            ports
        };
        // Below the tiers of the expression: `b` comes last, and has nothing.
        let Tree::Tiers(tiers) = &first.upstreams[0].endpoints else { panic!("{:?}", first.upstreams[0].endpoints) };
        assert!(matches!(tiers[..], [Tree::Tiers(_), Tree::Leaf(_)]), "{tiers:?}");
        assert_eq!(ports(&first.upstreams[0].endpoints), ["2,3", "1", ""]);
        // Another priority is no other endpoint.
        let catalog: Catalog = [(target("a"), [endpoint(1, 0), endpoint(2, 10), endpoint(3, 10)].into())].into();
        let second = reconciler.reconcile(&first, plan(Policies::default()), &catalog);
        assert_eq!(ids(&second), ids(&first));
        assert_eq!(ports(&second.upstreams[0].endpoints), ["1", "2,3", ""]);
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
}
