//! The variants of an enum with their doc comments, read from a source file. The meaning of an error is written once, at its variant.

use crate::tidy::read;

/// A variant of an enum.
#[derive(Debug, PartialEq, Eq)]
pub struct Variant {
    /// The name.
    pub name: String,
    /// The doc comment in one line.
    pub doc: String,
    /// The text of `#[error("...")]`, where it is one line.
    pub message: Option<String>,
}

/// The variants of `pub enum NAME` or `pub(crate) enum NAME` in the file at `path`, in order.
pub fn variants(path: &str, name: &str) -> Vec<Variant> {
    parse(&read(path), name).unwrap_or_else(|| panic!("{path} has no enum {name}"))
}

fn parse(text: &str, name: &str) -> Option<Vec<Variant>> {
    let (_, body) = text.split_once(&format!("enum {name} {{\n"))?;
    let (body, _) = body.split_once("\n}\n")?;
    let (mut found, mut doc, mut message) = (Vec::new(), String::new(), None);
    // The lines of variants, their comments and attributes are indented by four spaces.
    for line in body.lines().filter_map(|line| line.strip_prefix("    ")) {
        if let Some(text) = line.strip_prefix("/// ") {
            doc = format!("{doc} {text}").trim_start().to_owned();
        } else if let Some(text) = line.strip_prefix("#[error(\"") {
            message = text.strip_suffix("\")]").map(str::to_owned);
        } else if line.starts_with(char::is_uppercase) {
            let name = line.split(|c: char| !c.is_alphanumeric()).next()?.to_owned();
            found.push(Variant { name, doc: unlinked(&std::mem::take(&mut doc)), message: message.take() });
        }
    }
    (!found.is_empty()).then_some(found)
}

/// A doc comment without links to items.
fn unlinked(doc: &str) -> String {
    doc.replace("[`", "`").replace("`]", "`")
}

/// Panics unless `values` has every variant once, in the order of the enum. A value is recognised by its `Debug` text.
#[track_caller]
pub fn assert_complete(variants: &[Variant], values: impl IntoIterator<Item = String>) {
    let names: Vec<&str> = variants.iter().map(|variant| variant.name.as_str()).collect();
    let values: Vec<String> = values.into_iter().map(|value| variant_name(&value)).collect();
    assert_eq!(names, values, "every variant of the enum is listed once, in its order");
}

/// The name of the variant in a `Debug` text.
fn variant_name(debug: &str) -> String {
    debug.chars().take_while(|c| c.is_alphanumeric()).collect()
}

#[test]
fn variants_are_found_with_their_comments() {
    let text = "/// Doc.\npub enum Error {\n    /// One, see [`Two`].\n    /// More.\n    #[error(\"one\")]\n    One,\n    /// Two.\n    \
                #[error(\n        \"long\"\n    )]\n    Two {\n        /// A field.\n        Limit: usize,\n    },\n}\n";
    let variant = |name: &str, doc: &str, message: Option<&str>| Variant {
        name: name.to_owned(),
        doc: doc.to_owned(),
        message: message.map(str::to_owned),
    };
    let expected = [variant("One", "One, see `Two`. More.", Some("one")), variant("Two", "Two.", None)];
    assert_eq!(parse(text, "Error"), Some(expected.into()));
    assert_eq!(parse(text, "Other"), None);
    assert_eq!(variant_name("TooLarge { what: 1 }"), "TooLarge");
}
