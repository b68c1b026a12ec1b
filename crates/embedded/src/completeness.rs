//! Whether all committed transactions are in the database. The decision uses the content of the database and not the presence of files,
//! because another program may have written the log back and removed it. Pure; called at start and by `check`.

use crate::{
    lock_record::LockRecord,
    state::{Opening, State},
};

/// Why a store that was not closed cannot be opened without its log. `None` when all transactions are in the database.
pub fn missing_without_log(record: &LockRecord, found: &State) -> Option<String> {
    let mark = found.open.as_ref()?;
    match &record.opening {
        Some(opening) if opening.id == *mark => match missing(opening, found) {
            Some(lost) => Some(format!("its log is missing or empty, and {lost}")),
            None if record.same_boot => None,
            None => Some(
                "its log is missing, and the machine was started since, so what the log contained is unknown"
                    .to_owned(),
            ),
        },
        _ => {
            Some("the log of the store is missing: the file was copied or moved without its -wal".to_owned())
        }
    }
}

/// The transactions that are missing in a store with a log. `file` is the state in the database file without the log. `None` when no
/// transaction is missing.
pub fn missing_with_log(record: &LockRecord, file: Option<&State>, found: &State) -> Option<String> {
    let counted = file.and_then(|file| file.commits.as_ref());
    [record.opening.as_ref(), counted]
        .into_iter()
        .flatten()
        .filter(|opening| found.open.as_ref() == Some(&opening.id))
        .find_map(|opening| missing(opening, found))
}

/// Whether the log belongs to another database file, which is open. `opening` is from the lock file or from the log, and `file` is the
/// state in the database file without the log.
pub fn is_foreign(opening: Option<&Opening>, file: Option<&State>) -> bool {
    matches!((opening, file), (Some(opening), Some(file)) if file.open.as_ref().is_some_and(|open| *open != opening.id))
}

/// Whether the log belongs to another database file than the closed one beside it. `found` is the state with the log. A process that
/// closes the store writes the log back into the file before it empties the log. If it is killed in between, both states are equal.
pub fn is_foreign_to_closed(record: &LockRecord, file: Option<&State>, found: &State) -> bool {
    let is_counted = record.opening.is_some() || found.commits.is_some();
    is_counted && file.is_some_and(|file| file.open.is_none() && file != found)
}

fn missing(opening: &Opening, found: &State) -> Option<String> {
    let of_opening = found.commits.as_ref().filter(|commits| commits.id == opening.id);
    let present = of_opening.map_or(0, |commits| commits.commits);
    let all = opening.commits;
    (present < all)
        .then(|| format!("{} of {all} transactions since the last start are missing", all - present))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(id: &str, commits: u64) -> Opening {
        Opening { id: id.to_owned(), commits }
    }

    fn state(open: Option<&str>, commits: Option<Opening>) -> State {
        State { open: open.map(str::to_owned), commits, files: Some("1".to_owned()) }
    }

    #[test]
    fn a_store_without_its_log_is_complete_only_when_all_commits_are_in_the_database() {
        let record = |same_boot, opening| LockRecord { same_boot, opening };
        let counted = |commits| state(Some("a"), Some(opening("a", commits)));
        let cases = [
            ("closed", record(true, Some(opening("a", 9))), state(None, None), None),
            ("all present", record(true, Some(opening("a", 9))), counted(9), None),
            ("more than recorded", record(true, Some(opening("a", 9))), counted(11), None),
            ("nothing was written", record(true, Some(opening("a", 0))), state(Some("a"), None), None),
            ("one is missing", record(true, Some(opening("a", 9))), counted(8), Some("1 of 9")),
            ("all are missing", record(true, Some(opening("a", 9))), state(Some("a"), None), Some("9 of 9")),
            ("missing, another boot", record(false, Some(opening("a", 9))), counted(8), Some("1 of 9")),
            ("another boot", record(false, Some(opening("a", 9))), counted(9), Some("unknown")),
            ("no record", record(true, None), counted(9), Some("without its -wal")),
            ("another opening", record(true, Some(opening("b", 9))), counted(9), Some("without its -wal")),
        ];
        for (what, record, found, expected) in cases {
            let lost = missing_without_log(&record, &found);
            assert_eq!(lost.is_some(), expected.is_some(), "{what}: {lost:?}");
            assert!(lost.unwrap_or_default().contains(expected.unwrap_or_default()), "{what}");
        }
    }

    #[test]
    fn an_older_log_and_the_log_of_another_database_are_detected() {
        let record = LockRecord { same_boot: false, opening: None };
        let (file, found) =
            (state(Some("a"), Some(opening("a", 9))), state(Some("a"), Some(opening("a", 7))));
        assert!(missing_with_log(&record, Some(&file), &found).is_some(), "an older log");
        assert!(missing_with_log(&record, Some(&found), &file).is_none(), "a newer log");
        assert!(is_foreign(Some(&opening("b", 1)), Some(&file)));
        let closed = state(None, None);
        assert!(!is_foreign(Some(&opening("b", 1)), Some(&closed)));
        let record = LockRecord { same_boot: true, opening: Some(opening("b", 1)) };
        assert!(is_foreign_to_closed(&record, Some(&closed), &state(Some("b"), None)));
        assert!(is_foreign_to_closed(&record, Some(&closed), &State { files: None, ..closed.clone() }));
        assert!(!is_foreign_to_closed(&record, Some(&closed), &closed), "killed before the log was emptied");
        assert!(!is_foreign_to_closed(&record, Some(&state(Some("b"), None)), &closed));
        assert!(!is_foreign(Some(&opening("a", 1)), Some(&file)) && !is_foreign(None, Some(&file)));
    }
}
