//! The bound of warnings.

use super::*;

#[test]
fn a_subject_is_logged_once_in_a_minute_and_their_number_is_bounded() {
    let (warnings, now) = (Warnings::default(), Instant::now());
    let admit = |subject: usize, at| warnings.admit(subject.to_string(), at);
    assert!(admit(0, now) && admit(1, now) && !admit(0, now + INTERVAL / 2));
    assert!(admit(0, now + INTERVAL));
    let admitted = (0..10 * MAX_SUBJECTS).filter(|subject| admit(*subject, now + INTERVAL)).count();
    assert_eq!(admitted, MAX_SUBJECTS - 1);
}
