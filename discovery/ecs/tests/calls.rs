//! How many calls it takes.

use super::*;

#[tokio::test]
async fn five_hundred_targets_share_one_poll() {
    let aws = Aws::start();
    aws.world().tasks = (0..560)
        .map(|n| Task::new(&format!("s{}", n % 500), n).at(&format!("10.0.{}.{}", n / 250, n % 250 + 1)).json())
        .collect();
    let mut config = config(&aws);
    (config.min_interval, config.max_interval) = (Duration::from_secs(30), Duration::from_mins(1));
    let backend = Ecs::new(&config);
    let mut sources: Vec<_> = (0..500).map(|n| source(&backend, &format!("prod/s{n}:80"))).collect();
    for source in &mut sources {
        assert!(!next(source).await.unwrap().is_empty());
    }
    let world = aws.world();
    assert_eq!((world.calls["ListTasks"], world.calls["DescribeTasks"], world.total()), (6, 6, 12));
    assert_eq!(backend.calls().totals(), [("DescribeTasks", 6), ("ListTasks", 6)].into());
}

#[tokio::test]
async fn a_sidecar_lists_its_few_peers_alone() {
    let aws = Aws::start();
    aws.world().tasks = (0..560).map(|n| Task::new(&format!("s{}", n % 500), n).at("10.0.0.1").json()).collect();
    let backend = backend(&aws);
    let mut peer = source(&backend, "prod/s499:80");
    assert_eq!(next(&mut peer).await.unwrap().endpoints().len(), 1);
    assert_eq!(aws.world().total(), 2);
}

#[tokio::test]
async fn a_definition_is_asked_for_once_however_often_tasks_are_replaced_traefik_13884() {
    let aws = Aws::start();
    let task = |n: usize| Task::new("web", n).at(&format!("10.0.0.{n}")).json();
    aws.world().definitions.insert(definition("web", 1), definition_with("awsvpc", &[("http", 8080)]));
    aws.world().tasks = vec![task(1), task(2)];
    let mut source = source(&backend(&aws), "prod/web:http");
    for number in 3..8 {
        next(&mut source).await.unwrap();
        aws.world().tasks = vec![task(number), task(number + 1)];
    }
    assert_eq!(aws.world().calls["DescribeTaskDefinition"], 1);
}

#[tokio::test]
async fn definitions_that_were_had_before_a_throttle_are_not_asked_for_again() {
    let aws = Aws::start();
    for number in 1..=4 {
        let service = format!("s{number}");
        aws.world().definitions.insert(definition(&service, 1), definition_with("awsvpc", &[("http", 8080)]));
        aws.world().tasks.push(Task::new(&service, number).at(&format!("10.0.0.{number}")).json());
    }
    // Four lists, one description, two definitions.
    aws.world().budget = Some(7);
    let backend = backend(&aws);
    let mut sources: Vec<_> = (1..=4).map(|n| source(&backend, &format!("prod/s{n}:http"))).collect();
    assert!(next(&mut sources[0]).await.is_ok());
    assert!(matches!(next(&mut sources[3]).await, Err(Error::Throttled { .. })));
    aws.world().budget = None;
    assert!(next(&mut sources[3]).await.is_ok());
    assert_eq!(aws.world().calls["DescribeTaskDefinition"], 2 + 1 + 2);
}

#[tokio::test]
async fn an_address_of_an_instance_is_asked_for_once() {
    let aws = Aws::start();
    aws.change(|world| {
        world.instances.insert("ci/1".to_owned(), "i-0a".to_owned());
        world.addresses.insert("i-0a".to_owned(), "10.0.1.1".to_owned());
        world.tasks = vec![Task::new("web", 1).on("ci/1", &[(80, 32768)]).json()];
    });
    let mut source = source(&backend(&aws), "prod/web:80");
    for number in 2..6 {
        next(&mut source).await.unwrap();
        aws.world().tasks =
            vec![Task::new("web", number).on("ci/1", &[(80, 32768 + u16::try_from(number).unwrap())]).json()];
    }
    let world = aws.world();
    assert_eq!((world.calls["DescribeInstances"], world.calls["DescribeContainerInstances"]), (1, 1));
}

#[tokio::test]
async fn who_drops_a_source_in_the_middle_of_a_look_costs_the_others_nothing() {
    let aws = Aws::start();
    aws.world().tasks = vec![Task::new("web", 1).at("10.0.0.1").json()];
    aws.server.set(Mode::Slow(150));
    let backend = backend(&aws);
    let (mut one, mut two) = (source(&backend, "prod/web:80"), source(&backend, "prod/web:80"));
    // `ListTasks` is answered by then and `DescribeTasks` is under way.
    assert!(tokio::time::timeout(Duration::from_millis(260), one.next()).await.is_err());
    drop(one);
    assert_eq!(next(&mut two).await.unwrap().endpoints().len(), 1);
    assert_eq!(aws.world().calls["ListTasks"], 1);
}

#[tokio::test]
async fn a_target_that_is_added_later_waits_for_no_interval() {
    let aws = Aws::start();
    aws.world().tasks = vec![Task::new("web", 1).at("10.0.0.1").json(), Task::new("api", 2).at("10.0.0.2").json()];
    let mut config = config(&aws);
    (config.min_interval, config.max_interval) = (Duration::from_mins(1), Duration::from_mins(1));
    let backend = Ecs::new(&config);
    let mut one = source(&backend, "prod/web:80");
    next(&mut one).await.unwrap();
    let mut two = source(&backend, "prod/api:80");
    let began = std::time::Instant::now();
    assert_eq!(addresses(&next(&mut two).await.unwrap()), ["10.0.0.2:80"]);
    assert!(began.elapsed() < Duration::from_secs(10));
}
