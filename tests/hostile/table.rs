//! The table: groups of faults by faces, and every fault by itself.

use std::fmt::Write as _;

use crate::faces::Face;
use crate::fault::{Group, Outcome};
use crate::runner::Row;

fn counts(rows: &[&Row]) -> String {
    let of = |f: &dyn Fn(Outcome) -> bool| rows.iter().filter(|row| f(row.life.outcome)).count();
    let right = rows.iter().filter(|row| row.is_right()).count();
    let mut text = format!("{right} of {}", rows.len());
    let kinds: [(&str, usize); 5] = [
        ("crashes", of(&|o| matches!(o, Outcome::Crash(_)))),
        ("hangs", of(&|o| o == Outcome::Hang)),
        ("corrupt", of(&|o| o == Outcome::Corrupt)),
        ("leaks", of(&|o| o == Outcome::Leak)),
        ("never fired", rows.iter().filter(|row| row.fired == 0).count()),
    ];
    for (what, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
        let _ = write!(text, ", {count} {what}");
    }
    text
}

/// As docs/trust.md has it. A cell: faults with a right outcome of those that fired, both ring layouts together.
pub fn markdown(rows: &[Row], faces: &[Face]) -> String {
    let mut groups: Vec<Group> = rows.iter().map(|row| row.fault.group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut text = String::from("| faults |");
    faces.iter().for_each(|face| {
        let _ = write!(text, " {} |", face.title());
    });
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(faces.len()));
    let mut line = |title: &str, wanted: &dyn Fn(&Row) -> bool| {
        let _ = write!(text, "| {title} |");
        for face in faces {
            let cell: Vec<&Row> = rows.iter().filter(|row| row.face == *face && wanted(row)).collect();
            let _ = write!(text, " {} |", counts(&cell));
        }
        text.push('\n');
    };
    for group in groups {
        line(group.title(), &|row| row.fault.group == group);
    }
    line("all", &|_| true);
    text
}

/// Every fault, one a line.
pub fn list(rows: &[Row]) -> String {
    let mut lines: Vec<String> = rows.iter().map(Row::line).collect();
    lines.sort();
    lines.join("\n") + "\n"
}
