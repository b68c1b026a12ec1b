//! The table of commands in the documentation of the module.

use std::{any::type_name, collections::BTreeSet, fs, path::Path};

use super::*;

/// The row of a command.
fn row<C: Command>() -> String {
    let payload = type_name::<C>().rsplit("::").next().unwrap_or_default();
    let event = C::EVENT.map(|event| format!("`{event}`")).unwrap_or_default();
    let permission = C::PERMISSION.map(|act| format!("{act:?}")).unwrap_or_default();
    let cells = [
        format!("`{payload}`"),
        event,
        C::ROUTE.unwrap_or_default().to_owned(),
        format!("{:?}", C::RATE),
        permission,
    ];
    let cells = cells.map(|cell| if cell.is_empty() { " |".to_owned() } else { format!(" {cell} |") });
    format!("//! |{}", cells.concat())
}

#[test]
fn the_table_lists_every_command_as_it_is() {
    let source = include_str!("mod.rs");
    let table: Vec<&str> = source.lines().filter(|line| line.starts_with("//! | `")).collect();
    let commands = [
        row::<Post>(),
        row::<SetTyping>(),
        row::<Join>(),
        row::<Leave>(),
        row::<History>(),
        row::<ListRooms>(),
        row::<CreateRoom>(),
        row::<DescribeRoom>(),
        row::<ChangeSettings>(),
        row::<ArchiveRoom>(),
        row::<Enter>(),
        row::<AddMember>(),
        row::<RemoveMember>(),
        row::<ReadOnline>(),
        row::<ReadTyping>(),
    ];
    assert_eq!(table, commands);
    let listed: BTreeSet<&str> = table.iter().filter_map(|row| row.split('`').nth(1)).collect();
    assert_eq!(listed, implemented().iter().map(String::as_str).collect());
}

/// The types that implement [`Command`].
fn implemented() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands");
    let sources = fs::read_dir(folder).unwrap().map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    let names = |source: String| {
        let names =
            source.lines().filter_map(|line| line.strip_prefix("impl Command for ")?.strip_suffix(" {"));
        names.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    sources.flat_map(names).collect()
}

#[test]
fn every_command_of_sockets_is_found_by_its_event() {
    let source = include_str!("mod.rs");
    let rows = source.lines().filter(|line| line.starts_with("//! | `"));
    let events: Vec<&str> = rows.filter_map(|row| row.split('|').nth(2)?.split('`').nth(1)).collect();
    assert_eq!(events, EVENTS.iter().map(|command| command.name).collect::<Vec<_>>());
    assert!(events.iter().all(|event| of_event(event).is_some_and(|command| command.name == *event)));
}
