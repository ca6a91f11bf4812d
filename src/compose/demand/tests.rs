use std::sync::atomic::Ordering;

use meshless_platforms::Scripted;
use tokio::sync::mpsc;

use super::*;
use crate::compose::Event;
use crate::compose::targets::can_open;
use crate::config::{self, Config};
use crate::telemetry::metrics::Registry;
use crate::upstream::live::Sought;
use crate::upstream::reconcile::Reconciler;

/// Control without its loop: what it owns, and a clock that only the test moves.
struct World {
    config: Config,
    plan: Arc<Plan>,
    targets: Targets,
    demand: Demand,
    inbox: mpsc::UnboundedReceiver<Event>,
    reconciler: Reconciler,
    table: Table,
    metrics: ControlMetrics,
    registry: Arc<Registry>,
}

fn read(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    std::fs::write(&file, format!("[[listeners]]\nlisten = \"127.0.0.1:1\"\n{text}")).unwrap();
    let loaded = config::load(&[file], &Scripted::default(), &std::collections::BTreeMap::new());
    loaded.unwrap_or_else(|problems| panic!("{problems}")).config
}

/// `static` answers at once, from memory.
const NAMES: &str = "[[names]]\nmatch = \"{x}.mesh\"\ntarget = \"static/127.0.0.1:1\"\n\
                     [[names]]\nmatch = \"{x}.empty\"\ntarget = \"file/{x}\"\n\
                     [[names]]\nmatch = \"{x}.svc\"\ntarget = \"{x}\"\n\
                     [discovery.file]\npath = \"/nowhere/at/all\"\n\
                     [services.web]\nfrom = \"static/127.0.0.1:2\"\n";

impl World {
    fn new() -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        let epoch = Instant::now();
        let registry = Registry::new(epoch.into_std());
        let metrics = ControlMetrics::new(&registry);
        let config = read(NAMES);
        let mut world = Self {
            plan: Arc::new(Plan::new(&config, &mut |_| None)),
            config,
            targets: Targets::new(events, None, 1),
            demand: Demand::new(epoch, metrics.clone()),
            inbox,
            reconciler: Reconciler::default(),
            table: Table::default(),
            metrics,
            registry,
        };
        world.apply(read(NAMES));
        world
    }

    /// What a reload does.
    fn apply(&mut self, config: Config) {
        let plan = Arc::new(Plan::new(&config, &mut |_| None));
        let kept = self.demand.keep(&plan, |target| can_open(&config, target).is_ok());
        let live = kept.targets().cloned().collect();
        let backends = self.targets.backends(&config).unwrap();
        let mut opened = self.targets.open(&config, plan.targets(), live, &backends).unwrap();
        opened.spawn();
        self.targets.commit(opened, &self.metrics);
        self.demand.take_over(kept);
        (self.plan, self.config) = (plan, config);
        self.publish();
    }

    fn want(&mut self, host: &str) -> bool {
        let wanted = Wanted::Name(host.into());
        self.demand.want(&wanted, &self.plan, &mut self.targets, Instant::now())
    }

    fn publish(&mut self) {
        self.reconciler.live = self.demand.live(&self.plan, &self.targets);
        self.table = self.reconciler.reconcile(&self.table, self.plan.clone(), &self.targets.catalog);
    }

    /// Lets sources answer, and takes what they said.
    async fn answers(&mut self) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        while let Ok(event) = self.inbox.try_recv() {
            if let Event::Snapshot(target, generation) = event {
                self.targets.take(&target, generation);
            }
        }
        self.demand.settle(&self.targets, Instant::now());
        self.publish();
    }

    fn sweep(&mut self) -> bool {
        let changed = self.demand.sweep(&self.table, &mut self.targets, Instant::now());
        self.publish();
        changed
    }

    fn is_live(&self, host: &str) -> bool {
        matches!(self.table.name(host), Some(Sought::Found(_)))
    }

    fn refusal(&self, host: &str) -> Option<Refusal> {
        match self.table.name(host) {
            Some(Sought::Refused(refusal)) => Some(refusal.clone()),
            _ => None,
        }
    }

    fn upstream(&self, host: &str) -> &Arc<crate::upstream::Upstream> {
        let Some(Sought::Found(name)) = self.table.name(host) else { panic!("{host} is not live") };
        let Tree::Leaf(position) = name.to else { panic!("{:?}", name.to) };
        &self.table.upstreams[position]
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_opened_once_and_is_in_the_table_when_its_target_has_answered() {
    let mut world = World::new();
    assert!(matches!(world.table.name("a.mesh"), Some(Sought::Wanted)));
    assert!(world.table.name("a.other").is_none());
    world.want("a.mesh");
    assert!(!world.want("a.mesh"));
    world.publish();
    assert!(!world.is_live("a.mesh"), "nothing has answered yet");
    world.answers().await;
    assert!(world.is_live("a.mesh"));
    assert_eq!(world.upstream("a.mesh").members.len(), 1);
    assert_eq!(&*world.upstream("a.mesh").name, "{x}.mesh", "a host is never a label");
    assert!(!world.want("a.mesh"));
    assert_eq!(world.targets.on_demand().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_answer_comes_into_the_table_before_requests_give_up_and_says_what_is_missing() {
    let mut world = World::new();
    world.want("a.empty");
    // The file is not there: its source fails, and that is an answer.
    tokio::time::sleep(FIRST_ANSWERS).await;
    assert!(world.demand.look(Instant::now()).is_some());
    world.answers().await;
    let Some(Sought::Found(name)) = world.table.name("a.empty") else { panic!("not live") };
    assert!(name.waits_for.as_ref().unwrap().starts_with("file/a: "), "{:?}", name.waits_for);
    assert!(world.table.is_empty(&name.to));
    assert!(world.demand.look(Instant::now()).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_full_table_refuses_the_next_name_and_keeps_every_other() {
    let mut world = World::new();
    for number in 0..MOST {
        world.want(&format!("n{number}.mesh"));
    }
    assert!(world.want("more.mesh"));
    world.answers().await;
    assert_eq!(world.refusal("more.mesh"), Some(Refusal::Full));
    assert!((0..MOST).all(|number| world.is_live(&format!("n{number}.mesh"))));
    let samples = crate::telemetry::exposition::render(&world.registry.gather(std::time::Instant::now()));
    assert!(samples.contains("\nmeshless_live_names 1000\n"), "{samples}");
    assert!(samples.contains("\nmeshless_live_names_refused_total{reason=\"full\"} 1\n"), "{samples}");
    tokio::time::sleep(REFUSED_FULL).await;
    assert!(world.sweep());
    assert_eq!(world.refusal("more.mesh"), None);
    assert!(world.want("more.mesh"), "and it is refused again");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_uses_goes_after_ten_minutes_and_a_busy_or_used_one_stays() {
    let mut world = World::new();
    for host in ["idle.mesh", "busy.mesh", "used.mesh"] {
        world.want(host);
    }
    world.answers().await;
    // All names of one rule and one target are one upstream here, so the busy one gets a target of its own.
    world.want("web.svc");
    world.answers().await;
    tokio::time::sleep(IDLE.saturating_sub(Duration::from_secs(1))).await;
    assert!(!world.sweep());
    let now = world.demand.millis(Instant::now());
    let Some(Sought::Found(used)) = world.table.name("used.mesh") else { panic!("not live") };
    used.used.touch(now);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let state = world.upstream("busy.mesh").state.clone();
    state.in_flight.fetch_add(1, Ordering::Relaxed);
    assert!(world.sweep(), "the name of a service is idle");
    assert!(world.is_live("busy.mesh") && !world.is_live("web.svc"));
    state.in_flight.fetch_sub(1, Ordering::Relaxed);
    assert!(world.sweep());
    assert!(world.is_live("used.mesh") && !world.is_live("busy.mesh") && !world.is_live("idle.mesh"));
    assert_eq!(world.targets.on_demand().len(), 1);
    tokio::time::sleep(IDLE).await;
    assert!(world.sweep());
    assert_eq!(world.targets.on_demand().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_has_takes_no_place_for_long() {
    let mut world = World::new();
    world.want("nonsense.empty");
    tokio::time::sleep(FIRST_ANSWERS).await;
    world.answers().await;
    assert!(world.is_live("nonsense.empty"));
    tokio::time::sleep(IDLE_WITHOUT_ENDPOINTS).await;
    assert!(world.sweep());
    assert!(!world.is_live("nonsense.empty"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_had_is_remembered_for_a_short_time_and_the_memory_is_bounded() {
    let mut world = World::new();
    assert!(world.want("nobody.svc"));
    assert!(!world.want("nobody.svc"), "it is remembered");
    world.publish();
    assert_eq!(world.refusal("nobody.svc"), Some(Refusal::Unusable("there is no service `nobody`".into())));
    for number in 0..2 * MOST_REFUSED {
        world.want(&format!("n{number}.svc"));
    }
    assert_eq!((world.demand.refused.len(), world.demand.refused_order.len()), (MOST_REFUSED, MOST_REFUSED));
    world.publish();
    assert_eq!(world.refusal("nobody.svc"), None, "the oldest is forgotten first");
    tokio::time::sleep(REFUSED).await;
    assert!(world.sweep());
    assert!(world.demand.refused.is_empty() && world.demand.refused_order.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reload_binds_names_anew_and_lets_go_of_those_that_it_does_not_know() {
    let mut world = World::new();
    for host in ["a.mesh", "web.svc"] {
        world.want(host);
    }
    world.answers().await;
    let state = world.upstream("a.mesh").state.id;
    world.apply(read(NAMES));
    assert_eq!(world.upstream("a.mesh").state.id, state, "what did not change keeps its state");
    // The service is gone, and the other name stands for something else.
    let other = NAMES.replace("127.0.0.1:1", "127.0.0.1:3").replace("services.web", "services.other");
    world.apply(read(&other));
    world.answers().await;
    assert!(world.is_live("a.mesh") && !world.is_live("web.svc"));
    let addresses: Vec<_> =
        world.upstream("a.mesh").members.values().map(|member| member.endpoint.address.to_string()).collect();
    assert_eq!(addresses, ["127.0.0.1:3"]);
    world.apply(read("[[names]]\nmatch = \"{x}.elsewhere\"\ntarget = \"static/127.0.0.1:1\"\n"));
    assert!(world.table.live.names.is_empty() && world.targets.on_demand().is_empty());
}
