//! A task that is another one, or from elsewhere.

use super::*;

#[derive(Debug)]
struct Known(Result<Option<Task>, TasksError>);

#[async_trait]
impl Tasks for Known {
    async fn describe(&self, region: &str, cluster: &str, _: &str) -> Result<Option<Task>, TasksError> {
        assert_eq!((region, cluster), ("eu-west-1", "prod"));
        self.0.clone()
    }
}

const ARN: &str = "arn:aws:ecs:eu-west-1:123456789012:task/prod/0af1";

fn task() -> Task {
    Task {
        arn: ARN.to_owned(),
        last_status: "RUNNING".to_owned(),
        desired_status: "RUNNING".to_owned(),
        group: "service:web".to_owned(),
        definition: "arn:aws:ecs:eu-west-1:123456789012:task-definition/web:7".to_owned(),
        role: Some("arn:aws:iam::123456789012:role/web".to_owned()),
        addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
    }
}

fn caller() -> Caller {
    Caller {
        partition: "aws".to_owned(),
        account: "123456789012".to_owned(),
        role: "web".to_owned(),
        session: "0af1".to_owned(),
    }
}

/// `source`: `any` where it is not looked at, `unknown` where nobody knows it.
async fn ask(
    arn: &str,
    found: Result<Option<Task>, TasksError>,
    caller: &Caller,
    source: &str,
) -> Result<usize, &'static str> {
    let source = match source {
        "any" => None,
        "unknown" => Some(None),
        address => Some(Some(address.parse().unwrap())),
    };
    let regions = BTreeSet::from([Region::parse("eu-west-1").unwrap()]);
    let facts = facts(&Known(found), arn, caller, &regions, source).await;
    facts.map(|facts| facts.len()).map_err(|rejected| match rejected {
        Rejected::Refused { reason, .. } => reason,
        Rejected::Unavailable(_) => "unavailable",
    })
}

#[tokio::test]
async fn a_task_comes_from_its_own_address() {
    for source in ["10.0.0.7", "::ffff:10.0.0.7", "fd00::7", "any"] {
        assert_eq!(ask(ARN, Ok(Some(task())), &caller(), source).await, Ok(4), "{source}");
    }
    for source in ["10.0.0.8", "unknown"] {
        assert_eq!(ask(ARN, Ok(Some(task())), &caller(), source).await, Err("address"), "{source}");
    }
    let without = Task { addresses: Vec::new(), ..task() };
    assert_eq!(ask(ARN, Ok(Some(without)), &caller(), "10.0.0.7").await, Err("address"));
}

#[tokio::test]
async fn a_task_that_starts_may_prove_itself_and_one_that_stops_may_not() {
    for (last, desired, expected) in [
        ("RUNNING", "RUNNING", Ok(4)),
        ("PENDING", "RUNNING", Ok(4)),
        ("ACTIVATING", "RUNNING", Ok(4)),
        ("PROVISIONING", "RUNNING", Err("task_not_running")),
        ("RUNNING", "STOPPED", Err("task_not_running")),
        ("DEACTIVATING", "STOPPED", Err("task_not_running")),
        ("STOPPED", "STOPPED", Err("task_not_running")),
        ("", "", Err("task_not_running")),
    ] {
        let task = Task { last_status: last.to_owned(), desired_status: desired.to_owned(), ..task() };
        assert_eq!(ask(ARN, Ok(Some(task)), &caller(), "any").await, expected, "{last} {desired}");
    }
}

#[tokio::test]
async fn another_task_role_account_or_region_is_refused() {
    let other = |change: fn(&mut Caller)| {
        let mut caller = caller();
        change(&mut caller);
        caller
    };
    for (caller, reason) in [
        (other(|caller| caller.session = "0af2".to_owned()), "task"),
        (other(|caller| caller.session = "meshless".to_owned()), "task"),
        (other(|caller| caller.role = "admin".to_owned()), "task"),
        (other(|caller| caller.account = "210987654321".to_owned()), "task"),
        (other(|caller| caller.partition = "aws-cn".to_owned()), "task"),
    ] {
        assert_eq!(ask(ARN, Ok(Some(task())), &caller, "any").await, Err(reason), "{caller:?}");
    }
    for (arn, reason) in [
        ("arn:aws:ecs:us-east-1:123456789012:task/prod/0af1", "region"),
        ("arn:aws:ecs:eu-west-1:123456789012:task/0af1", "malformed"),
        ("arn:aws:ecs:eu-west-1:123456789012:service/prod/0af1", "malformed"),
        ("arn:aws:ecs:eu-west-1:123456789012:task/prod/0af1/more", "malformed"),
        ("arn:aws:ecs:eu-west-1:123456789012:task/../0af1", "malformed"),
        ("", "malformed"),
    ] {
        assert_eq!(ask(arn, Ok(Some(task())), &caller(), "any").await, Err(reason), "{arn}");
    }
    for role in
        [None, Some("arn:aws:iam::210987654321:role/web"), Some("web"), Some("arn:aws:iam::123456789012:role/web2")]
    {
        let task = Task { role: role.map(ToOwned::to_owned), ..task() };
        assert_eq!(ask(ARN, Ok(Some(task)), &caller(), "any").await, Err("task"), "{role:?}");
    }
    let elsewhere = Task { arn: ARN.replace("0af1", "0af2"), ..task() };
    assert_eq!(ask(ARN, Ok(Some(elsewhere)), &caller(), "any").await, Err("task"), "an answer about another task");
    assert_eq!(ask(ARN, Ok(None), &caller(), "any").await, Err("task"));
    assert_eq!(ask(ARN, Err(TasksError("throttled".to_owned())), &caller(), "any").await, Err("unavailable"));
}

#[tokio::test]
async fn a_task_of_no_service_has_none_among_its_facts() {
    let task = Task { group: "family:web".to_owned(), ..task() };
    assert_eq!(ask(ARN, Ok(Some(task)), &caller(), "any").await, Ok(3));
}
