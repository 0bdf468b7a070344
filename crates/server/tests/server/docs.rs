//! The tables of `docs/api.md` are those of the code.

use std::{fmt::Write, path::Path};

use sostenuto_api::limits::{LIMITS, RANGES};

fn limits_table() -> String {
    let mut table = "| Name | Limit | Beyond it | What it bounds |\n|---|---|---|---|\n".to_owned();
    for limit in LIMITS {
        let beyond = match (limit.status, limit.code) {
            (0, _) => "waits, or the connection is closed".to_owned(),
            (status, "") => status.to_string(),
            (status, code) => format!("{status} `{code}`"),
        };
        writeln!(table, "| `{}` | {} {} | {beyond} | {} |", limit.name, limit.max, limit.unit, limit.about)
            .unwrap();
    }
    table
}

fn ranges_table() -> String {
    let mut table = "| Field | Allowed | Default |\n|---|---|---|\n".to_owned();
    for range in RANGES {
        writeln!(table, "| `{}` | {} | {} |", range.name, range.rule(), range.default).unwrap();
    }
    table
}

#[test]
fn tables_of_the_documentation_equal_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let page = std::fs::read_to_string(&path).unwrap();
    for (name, table) in [("limits", limits_table()), ("ranges", ranges_table())] {
        let expected = format!("<!-- {name}: begin -->\n{table}<!-- {name}: end -->");
        assert!(page.contains(&expected), "the {name} table of docs/api.md must read:\n{expected}");
    }
}
