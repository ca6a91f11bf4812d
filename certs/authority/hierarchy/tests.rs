use super::*;

const DAY: u64 = 86_400;
const TIMING: Timing = Timing { leaf: DAY, overlap: 2 * DAY };

fn new(name: &str, now: u64, days: u64) -> New {
    New {
        name: name.to_owned(),
        certificate: name.as_bytes().to_vec(),
        key: format!("key of {name}"),
        key_here: true,
        made: now,
        not_after: now + days * DAY,
    }
}

fn hierarchy() -> Hierarchy {
    let trust_domain = "example.org".parse().unwrap();
    Hierarchy::new(&trust_domain, new("r1", 0, 3650), new("i1", 0, 60), 0)
}

/// Makes the step that comes next, as the authority would; returns when.
fn go(hierarchy: &mut Hierarchy, name: &str) -> (u64, Step) {
    let Planned { at, step } = hierarchy.plan(TIMING)[0];
    match step {
        Step::PrepareIntermediate => {
            hierarchy.prepare_intermediate(new(name, at, 60), at).unwrap();
        }
        // A leaf was signed just before.
        Step::ActivateIntermediate => {
            hierarchy.activate_intermediate(at, at + DAY).unwrap();
        }
        Step::ActivateRoot => {
            hierarchy.activate_root(at, at + DAY).unwrap();
        }
        Step::Retire => {
            hierarchy.retire(at);
        }
    }
    (at / DAY, step)
}

fn shape(of: &[Authority]) -> Vec<(&str, char)> {
    let letter = |one: &Authority| match one.phase {
        Phase::Prepared { .. } => 'p',
        Phase::Active { .. } => 'a',
        Phase::Retiring { .. } => 'r',
    };
    of.iter().map(|one| (one.name.as_str(), letter(one))).collect()
}

#[test]
fn an_intermediate_lives_its_whole_life_by_itself() {
    let mut hierarchy = hierarchy();
    assert_eq!(go(&mut hierarchy, "i2"), (30, Step::PrepareIntermediate));
    assert_eq!(shape(&hierarchy.intermediates), [("i1", 'a'), ("i2", 'p')]);
    assert_eq!(hierarchy.signer().unwrap().name, "i1", "the new one does not sign yet");
    assert_eq!(go(&mut hierarchy, ""), (45, Step::ActivateIntermediate));
    assert_eq!(shape(&hierarchy.intermediates), [("i1", 'r'), ("i2", 'a')]);
    assert!(!hierarchy.intermediates[0].key_here, "what retires has no key any more");
    assert_eq!(go(&mut hierarchy, ""), (46, Step::Retire));
    assert_eq!(shape(&hierarchy.intermediates), [("i2", 'a')]);
    assert_eq!(go(&mut hierarchy, "i3"), (60, Step::PrepareIntermediate), "half of the life of i2, made on day 30");
    assert_eq!(hierarchy.sequence, 1, "no root changed");
    assert_eq!(hierarchy.intermediates[1].number, 4, "numbers never come again");
}

#[test]
fn the_prepared_one_takes_over_before_a_leaf_would_be_cut_short() {
    let mut hierarchy = hierarchy();
    hierarchy.intermediates[0].not_after = 4 * DAY;
    assert_eq!(go(&mut hierarchy, "i2"), (2, Step::PrepareIntermediate));
    assert_eq!(go(&mut hierarchy, ""), (2, Step::ActivateIntermediate));
}

#[test]
fn a_root_lives_its_whole_life() {
    let mut hierarchy = hierarchy();
    let now = 10 * DAY;
    hierarchy.prepare_root(new("r2", now, 3650), new("i2", now, 60), now).unwrap();
    assert_eq!((shape(&hierarchy.roots), hierarchy.sequence), (vec![("r1", 'a'), ("r2", 'p')], 2));
    assert_eq!(hierarchy.signer().unwrap().name, "i1", "published before it signs");
    assert_eq!(go(&mut hierarchy, ""), (12, Step::ActivateRoot));
    assert_eq!(shape(&hierarchy.roots), [("r1", 'r'), ("r2", 'a')]);
    assert_eq!(shape(&hierarchy.intermediates), [("i1", 'r'), ("i2", 'a')]);
    assert_eq!(hierarchy.sequence, 2, "the bundle has both");
    assert_eq!(go(&mut hierarchy, ""), (13, Step::Retire), "the last leaf has expired");
    assert_eq!((shape(&hierarchy.roots), hierarchy.sequence), (vec![("r2", 'a')], 3));
    assert_eq!(shape(&hierarchy.intermediates), [("i2", 'a')]);
    assert_eq!(go(&mut hierarchy, "i3"), (40, Step::PrepareIntermediate));
    assert_eq!(hierarchy.intermediates[1].parent, hierarchy.roots[0].number);
}

#[test]
fn an_intermediate_that_was_prepared_under_the_old_root_goes_with_it() {
    let mut hierarchy = hierarchy();
    go(&mut hierarchy, "i2");
    let now = 31 * DAY;
    hierarchy.prepare_root(new("r2", now, 3650), new("i3", now, 60), now).unwrap();
    assert_eq!(hierarchy.signer().unwrap().name, "i1");
    let gone = hierarchy.activate_root(33 * DAY, 34 * DAY).unwrap();
    assert_eq!(shape(&hierarchy.intermediates), [("i1", 'r'), ("i3", 'a')]);
    assert_eq!(gone, [2, 1, 3], "i1 and r1 retire, i2 never signed: no key is left");
    assert!(!hierarchy.has_key("key of i2") && hierarchy.has_key("key of i1"));
}

#[test]
fn the_intermediate_rotates_while_a_root_is_prepared() {
    let mut hierarchy = hierarchy();
    hierarchy.prepare_root(new("r2", 29 * DAY, 3650), new("i2", 29 * DAY, 60), 29 * DAY).unwrap();
    hierarchy.prepare_intermediate(new("i3", 30 * DAY, 60), 30 * DAY).unwrap();
    hierarchy.activate_intermediate(30 * DAY, 31 * DAY).unwrap();
    assert_eq!(shape(&hierarchy.intermediates), [("i1", 'r'), ("i2", 'p'), ("i3", 'a')]);
    assert_eq!(hierarchy.next_root().unwrap().name, "r2");
}

#[test]
fn steps_out_of_turn_are_refused() {
    let mut hierarchy = hierarchy();
    assert_eq!(hierarchy.activate_intermediate(1, 1), Err(StepError::NonePrepared));
    assert_eq!(hierarchy.activate_root(1, 1), Err(StepError::NonePrepared));
    hierarchy.prepare_intermediate(new("i2", 1, 60), 1).unwrap();
    assert!(
        matches!(hierarchy.prepare_intermediate(new("i3", 1, 60), 1), Err(StepError::Prepared(name)) if name == "i2")
    );
    hierarchy.prepare_root(new("r2", 1, 60), new("i3", 1, 60), 1).unwrap();
    assert!(matches!(hierarchy.may_prepare_root(), Err(StepError::Prepared(name)) if name == "r2"));
    hierarchy.activate_root(2, 100).unwrap();
    assert!(matches!(hierarchy.may_prepare_root(), Err(StepError::Retiring(name)) if name == "r1"));
    assert!(!hierarchy.retire(99), "a leaf is alive");
    assert!(hierarchy.retire(100));
    hierarchy.may_prepare_root().unwrap();
}

#[test]
fn it_is_stored_as_it_is() {
    let mut hierarchy = hierarchy();
    hierarchy.prepare_root(new("r2", 1, 60), new("i2", 1, 60), 1).unwrap();
    hierarchy.activate_root(2, 100).unwrap();
    let json = serde_json::to_string(&hierarchy).unwrap();
    assert_eq!(serde_json::from_str::<Hierarchy>(&json).unwrap(), hierarchy);
    assert_eq!(hierarchy.trust_domain().unwrap().as_str(), "example.org");
}
