//! Whether each transaction that was committed is in the database, judged by what the database contains and not by which files
//! are there: another program may have written the log back and removed it. Pure; called at start and by `check`.

use crate::{
    note::Noted,
    state::{Opening, State},
};

/// Why a store that was not closed may not be opened without its log. None when everything is in the database.
pub fn without_log(noted: &Noted, found: &State) -> Option<String> {
    let mark = found.open.as_ref()?;
    match &noted.opening {
        Some(opening) if opening.id == *mark => match behind(opening, found) {
            Some(lost) => Some(format!("its log is missing or empty, and {lost}")),
            None if noted.same_boot => None,
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

/// What the store lacks although its log is there. `file` is the content of the database file without the log.
pub fn with_log(noted: &Noted, file: Option<&State>, found: &State) -> Option<String> {
    let known = file.and_then(|file| file.commits.as_ref());
    [noted.opening.as_ref(), known]
        .into_iter()
        .flatten()
        .filter(|opening| found.open.as_ref() == Some(&opening.id))
        .find_map(|opening| behind(opening, found))
}

/// Whether the log belongs to another database than the one it is beside. `opening` is from the lock file or from the log.
pub fn is_alien(opening: Option<&Opening>, file: Option<&State>) -> bool {
    matches!((opening, file), (Some(opening), Some(file)) if file.open.as_ref() != Some(&opening.id))
}

fn behind(opening: &Opening, found: &State) -> Option<String> {
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
        State { open: open.map(str::to_owned), commits }
    }

    #[test]
    fn a_store_without_its_log_is_whole_only_when_all_commits_are_known_to_be_there() {
        let noted = |same_boot, opening| Noted { same_boot, opening };
        let counted = |commits| state(Some("a"), Some(opening("a", commits)));
        let cases = [
            ("closed", noted(true, Some(opening("a", 9))), state(None, None), None),
            ("all there", noted(true, Some(opening("a", 9))), counted(9), None),
            ("more than noted", noted(true, Some(opening("a", 9))), counted(11), None),
            ("nothing was written", noted(true, Some(opening("a", 0))), state(Some("a"), None), None),
            ("one is missing", noted(true, Some(opening("a", 9))), counted(8), Some("1 of 9")),
            ("all are missing", noted(true, Some(opening("a", 9))), state(Some("a"), None), Some("9 of 9")),
            ("missing, another boot", noted(false, Some(opening("a", 9))), counted(8), Some("1 of 9")),
            ("another boot", noted(false, Some(opening("a", 9))), counted(9), Some("unknown")),
            ("no note", noted(true, None), counted(9), Some("without its -wal")),
            ("another opening", noted(true, Some(opening("b", 9))), counted(9), Some("without its -wal")),
        ];
        for (what, noted, found, expected) in cases {
            let lost = without_log(&noted, &found);
            assert_eq!(lost.is_some(), expected.is_some(), "{what}: {lost:?}");
            assert!(lost.unwrap_or_default().contains(expected.unwrap_or_default()), "{what}");
        }
    }

    #[test]
    fn an_older_log_and_that_of_another_database_are_noticed() {
        let noted = Noted { same_boot: false, opening: None };
        let (file, found) =
            (state(Some("a"), Some(opening("a", 9))), state(Some("a"), Some(opening("a", 7))));
        assert!(with_log(&noted, Some(&file), &found).is_some(), "an older log");
        assert!(with_log(&noted, Some(&found), &file).is_none(), "a newer log");
        assert!(is_alien(Some(&opening("b", 1)), Some(&file)));
        assert!(is_alien(Some(&opening("b", 1)), Some(&state(None, None))));
        assert!(!is_alien(Some(&opening("a", 1)), Some(&file)) && !is_alien(None, Some(&file)));
    }
}
