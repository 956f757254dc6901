//! docs/annotations.md has the table of all annotations, as the program knows them.

use std::path::Path;

use landfall_ingress_model::compiler::annotations::{KNOWN, Support};

const BEGIN: &str = "<!-- table -->\n";

fn table() -> String {
    let line = |(name, support): &(&str, Support)| {
        let text = match support {
            Support::Served => "served".to_owned(),
            Support::Accepted(why) => format!("no effect: {why}"),
            Support::Refused(why) => format!("refused with 503: {why}"),
        };
        format!("| `{name}` | {text} |\n")
    };
    let lines: String = KNOWN.iter().map(line).collect();
    format!("| annotation | |\n|---|---|\n{lines}")
}

#[test]
fn the_page_has_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/annotations.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, found) = page.split_once(BEGIN).expect("the page has a mark where the table begins");
    if std::env::var_os("LANDFALL_UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{}", table())).unwrap();
        return;
    }
    assert_eq!(found, table(), "LANDFALL_UPDATE=1 writes it anew");
}
