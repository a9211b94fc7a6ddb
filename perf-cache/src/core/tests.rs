use std::sync::Arc;

use super::versions::{PRUNE_AT, Versions};

#[test]
fn what_began_before_an_invalidation_is_not_current_after_it() {
    let versions = Versions::new();
    let (red, blue) = (versions.tag("red"), versions.tag("blue"));
    let before = versions.now();
    versions.invalidate_tag("red");
    assert!(!versions.are_current(before, &[Arc::clone(&blue), Arc::clone(&red)]));
    assert!(versions.are_current(before, &[Arc::clone(&blue)]));
    assert!(versions.are_current(versions.now(), &[red]));
    versions.invalidate_all();
    assert!(!versions.is_current(before) && versions.is_current(versions.now()));
    assert!(!versions.are_current(before, &[blue]));
}

#[test]
fn a_load_that_comes_up_with_a_tag_invalidated_meanwhile_is_not_current() {
    let versions = Versions::new();
    let began = versions.now();
    versions.invalidate_tag("new");
    assert!(!versions.are_current(began, &[versions.tag("new")]));
}

#[test]
fn unused_tags_are_forgotten_and_their_invalidations_are_not() {
    let versions = Versions::new();
    let used = versions.tag("used");
    let began = versions.now();
    versions.invalidate_tag("early");
    for n in 0..10 * PRUNE_AT {
        versions.tag(&n.to_string());
    }
    assert!(versions.known_tags() <= PRUNE_AT);
    assert!(!versions.are_current(began, &[versions.tag("early")]));
    assert!(versions.are_current(began, &[used]));
    assert!(versions.are_current(versions.now(), &[versions.tag("early")]));
}
