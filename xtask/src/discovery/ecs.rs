//! Calls of the ECS API for a large cluster, at rest and in a deploy, beside the arithmetic of another gateway's case.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use meshless_fakes::aws::{Aws, CLUSTER, Task, definition, definition_with};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::places::aws_variables;
use crate::process;

/// Services, about as many as in traefik#13884.
pub(super) const SERVICES: usize = 500;

/// Their tasks: the first 60 services have two.
pub(super) const TASKS: usize = 560;

/// How long the cluster rests; each deploy goes on for as long.
pub(super) const LENGTH: Duration = Duration::from_secs(90);

/// Longest wait until all is known.
const PATIENCE: Duration = Duration::from_mins(1);

/// Calls by action, a minute.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    pub(super) rest: BTreeMap<String, f64>,
    /// Every task is replaced, by one of a new definition.
    pub(super) deploy: BTreeMap<String, f64>,
    /// Every task is replaced, by one of the same definition.
    pub(super) again: BTreeMap<String, f64>,
    /// Tasks that a deploy replaced a minute.
    pub(super) replaced: f64,
    /// Seconds from the last replaced task of the first deploy until all were known.
    pub(super) followed: f64,
}

impl Figures {
    pub(super) fn json(&self) -> Value {
        json!({
            "rest_per_minute": self.rest,
            "deploy_per_minute": self.deploy,
            "redeploy_per_minute": self.again,
            "replaced_per_minute": self.replaced,
            "followed_seconds": self.followed,
        })
    }
}

/// What Traefik 3's code does with a cluster on Fargate, by its issue 13884: every 15 s all tasks are listed and described in
/// pages of 100; a definition is asked for once for each *task*, and again after 30 minutes.
pub(super) fn traefik(replaced: f64) -> BTreeMap<String, f64> {
    let pages = TASKS.div_ceil(100) as f64;
    let refreshes = 4.0;
    let definitions = TASKS as f64 / 30.0 + replaced;
    [("ListTasks", pages * refreshes), ("DescribeTasks", pages * refreshes), ("DescribeTaskDefinition", definitions)]
        .map(|(action, calls)| (action.to_owned(), calls))
        .into()
}

/// Measures.
pub(super) fn run(folder: &Path, meshless: &Path) -> anyhow::Result<Figures> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let aws = Aws::start();
    let mut tasks: Vec<Value> = (0..TASKS).map(|number| task(number, 1, 1)).collect();
    {
        let mut world = aws.world();
        for service in 0..SERVICES {
            world.services.insert(name(service));
            for revision in [1, 2] {
                world
                    .definitions
                    .insert(definition(&name(service), revision), definition_with("awsvpc", &[("", 8080)]));
            }
        }
        world.tasks.clone_from(&tasks);
    }
    let gateway = Gateway::start(meshless, folder, &configuration(&aws), &aws_variables())?;
    gateway.until_usable(TASKS, PATIENCE)?;

    let rest = over(&aws, || {
        process::pause(LENGTH);
        Ok(())
    })?;
    let deploy = over(&aws, || replace(&aws, &mut tasks, 2, 2))?;
    let last = Instant::now();
    let is_known = || -> anyhow::Result<Option<()>> {
        // Addresses of the second round begin with 10.40.
        Ok((gateway.endpoints()?.matches("\"10.40.").count() >= TASKS).then_some(()))
    };
    process::poll(PATIENCE * 2, is_known)?.context("the deploy was not followed")?;
    let followed = last.elapsed().as_secs_f64();
    let again = over(&aws, || replace(&aws, &mut tasks, 3, 2))?;
    Ok(Figures { rest, deploy, again, replaced: TASKS as f64 / LENGTH.as_secs_f64() * 60.0, followed })
}

/// Replaces one task after the other, as deploys do.
fn replace(aws: &Aws, tasks: &mut [Value], round: usize, revision: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    for number in 0..TASKS {
        let due = LENGTH.mul_f64(number as f64 / TASKS as f64);
        process::pause(due.saturating_sub(began.elapsed()));
        *tasks.get_mut(number).context("there are fewer tasks")? = task(number, round, revision);
        aws.world().tasks = tasks.to_vec();
    }
    Ok(())
}

fn name(service: usize) -> String {
    format!("service-{service}")
}

/// A task of a round of deploys, with an address of its own.
fn task(number: usize, round: usize, revision: usize) -> Value {
    let service = name(number % SERVICES);
    let [.., high, low] = number.to_be_bytes();
    let network = 20 + 10 * round;
    let task = Task::new(&service, number + round * 10_000).at(&format!("10.{network}.{high}.{low}"));
    task.revision(&service, revision).json()
}

fn configuration(aws: &Aws) -> String {
    let mut text = format!("[discovery.ecs]\nendpoint = \"{}\"\nregion = \"eu-west-1\"\n", aws.server.url());
    for service in 0..SERVICES {
        let name = name(service);
        let _ = write!(
            text,
            "\n[services.{name}]\nfrom = \"ecs/{CLUSTER}/{name}\"\n\n[[routes]]\nmatch = {{ host = \"{name}.test\" }}\nto = \"{name}\"\n"
        );
    }
    text
}

/// Counts calls while something is done, a minute.
fn over(aws: &Aws, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<BTreeMap<String, f64>> {
    let (before, began) = (aws.world().calls.clone(), Instant::now());
    work()?;
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    let calls = aws.world().calls.clone();
    let more = |(action, calls): (String, u64)| {
        let more = calls - before.get(&action).copied().unwrap_or_default();
        (action, more as f64 / minutes)
    };
    Ok(calls.into_iter().map(more).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_gateways_calls_are_those_of_its_issue() {
        let rest = traefik(0.0);
        assert!((rest.values().sum::<f64>() - (24.0 + 24.0 + 560.0 / 30.0)).abs() < 1e-9);
        let deploy = traefik(280.0);
        assert!((deploy.values().sum::<f64>() - rest.values().sum::<f64>() - 280.0).abs() < 1e-9);
    }

    #[test]
    fn tasks_of_all_rounds_differ() {
        let all: std::collections::BTreeSet<String> =
            [1, 2, 3].iter().flat_map(|round| (0..TASKS).map(|number| task(number, *round, 1).to_string())).collect();
        assert_eq!(all.len(), 3 * TASKS);
    }
}
