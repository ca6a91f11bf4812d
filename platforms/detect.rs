//! Finds out where this process runs.
//!
//! What started this process wins over what lies beneath it: a task of ECS or Nomad and a pod run on machines of EC2, and are known
//! by variables that only their own agent sets. Among those, too, the inner one is asked first
//! (docs/decisions/0140-the-innermost-platform-is-ours.md).

use crate::surroundings::Surroundings;
use crate::whereabouts::{Platform, Whereabouts};
use crate::{ec2, ecs, kubernetes, nomad, vm};

impl Whereabouts {
    /// Asks the platform that was named, or the one that this looks like. Takes 4 s at most (ECS: two documents, each asked for
    /// twice, 1 s each), 1 s on EC2, no time elsewhere. A platform that does not answer is not an error here:
    /// [`Whereabouts::unanswered`] says so.
    pub async fn find(named: Option<Platform>, surroundings: &dyn Surroundings) -> Self {
        let (platform, because) = match named {
            Some(platform) => (platform, "node.platform says so".to_owned()),
            None => guess(surroundings),
        };
        let mut place = match platform {
            Platform::Ec2 => ec2::ask(because, surroundings).await,
            Platform::Ecs => ecs::ask(because, surroundings).await,
            Platform::Kubernetes => kubernetes::read(because, surroundings),
            Platform::Nomad => nomad::read(because, surroundings),
            Platform::Vm => vm::read(because, surroundings),
        };
        place.put("node.platform", Some(platform.as_str()), "node.platform");
        vm::hostname(&mut place, surroundings);
        place
    }
}

/// Says which platform this looks like, and why; asks nobody.
fn guess(surroundings: &dyn Surroundings) -> (Platform, String) {
    for (platform, variable) in
        [(Platform::Ecs, ecs::URI), (Platform::Nomad, nomad::ALLOCATION), (Platform::Kubernetes, kubernetes::HOST)]
    {
        if surroundings.variable(variable).is_some_and(|value| !value.is_empty()) {
            return (platform, format!("{variable} is set"));
        }
    }
    match ec2::hint(surroundings) {
        Some(because) => (Platform::Ec2, because),
        None => (Platform::Vm, "nothing says that it is another one".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::Scripted;

    const EC2: (&str, &str) = ("/sys/class/dmi/id/sys_vendor", "Amazon EC2\n");
    const POD: (&str, &str) = (kubernetes::HOST, "10.96.0.1");
    const NOMAD: (&str, &str) = (nomad::ALLOCATION, "5f1b");

    fn scripted(given: &[(&str, &str)]) -> Scripted {
        Scripted(given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn what_started_the_process_wins_over_what_lies_beneath() {
        let task = (ecs::URI, "http://169.254.170.2/v4/x");
        for (given, expected) in [
            (&[EC2, task][..], Platform::Ecs),
            (&[EC2, NOMAD], Platform::Nomad),
            (&[EC2, POD], Platform::Kubernetes),
            (&[POD, NOMAD], Platform::Nomad),
            (&[EC2], Platform::Ec2),
            (&[(kubernetes::HOST, "")], Platform::Vm),
            (&[], Platform::Vm),
        ] {
            assert_eq!(guess(&scripted(given)).0, expected, "{given:?}");
        }
    }

    #[tokio::test]
    async fn a_platform_that_is_named_is_asked_whatever_it_looks_like() {
        let place = Whereabouts::find(Some(Platform::Nomad), &scripted(&[POD])).await;
        assert_eq!((place.platform, place.because.as_str()), (Platform::Nomad, "node.platform says so"));
        assert!(place.unanswered.is_some());
        assert_eq!(Whereabouts::find(None, &scripted(&[NOMAD])).await.value("node.platform"), Some("nomad"));
    }
}
