//! What came of it all: groups of faults by faces, each fault by faces and layouts, each life by itself.

use std::fmt::Write as _;

use crate::faces::Face;
use crate::fault::{Group, Outcome};
use crate::runner::Row;

fn counts(rows: &[&Row]) -> String {
    let never = rows.iter().filter(|row| row.fired == 0).count();
    let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.fired > 0).collect();
    let of = |f: &dyn Fn(Outcome) -> bool| rows.iter().filter(|row| f(row.life.outcome)).count();
    let wrong = |outcome| rows.iter().filter(|row| !row.is_right() && row.life.outcome == outcome).count();
    let (still, refused) = (wrong(Outcome::Stalled), wrong(Outcome::Refused));
    let right = rows.iter().filter(|row| row.is_right()).count();
    let mut text = format!("{right} of {}", rows.len());
    let kinds: [(&str, usize); 9] = [
        ("crashes", of(&|o| matches!(o, Outcome::Crash(_)))),
        ("hangs", of(&|o| o == Outcome::Hang)),
        ("corrupt", of(&|o| o == Outcome::Corrupt)),
        ("leaks", of(&|o| o == Outcome::Leak)),
        ("miscounted", of(&|o| o == Outcome::Miscounted)),
        ("unmended", of(&|o| o == Outcome::Unmended)),
        ("standstills without a word", still),
        ("refused", refused),
        ("never told", never),
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

/// A fault a line: what came of it, by faces where they differ, and then by layouts where these differ.
pub fn each(rows: &[Row], faces: &[Face]) -> String {
    let mut faults: Vec<&str> = Vec::new();
    for row in rows {
        if !faults.contains(&row.fault.name.as_str()) {
            faults.push(&row.fault.name);
        }
    }
    faults.sort_unstable();
    let mut text = String::new();
    for fault in faults {
        let mut words = Vec::new();
        for face in faces {
            let mut lives: Vec<&Row> = rows.iter().filter(|r| r.face == *face && r.fault.name == fault).collect();
            lives.sort_by_key(|row| (!row.merge, row.packed));
            words.extend((!lives.is_empty()).then(|| (face.word(), of_layouts(&lives))));
        }
        let same = words.iter().all(|(_, what)| *what == words[0].1);
        let all = if same {
            words[0].1.clone()
        } else {
            words.iter().map(|(f, w)| format!("{f} {w}")).collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(text, "{fault:<44} {all}");
    }
    text
}

fn of_layouts(lives: &[&Row]) -> String {
    let word = |row: &Row| row.life.outcome.word() + if row.is_right() { "" } else { "!" };
    let first = word(lives[0]);
    if lives.iter().all(|row| word(row) == first) {
        return first;
    }
    lives.iter().map(|row| format!("{}={}", row.layout(), word(row))).collect::<Vec<_>>().join(" ")
}

/// Every life, a JSON object a line.
pub fn json(rows: &[Row]) -> String {
    let mut lines: Vec<String> = rows.iter().map(object).collect();
    lines.sort();
    lines.join("\n") + "\n"
}

fn object(row: &Row) -> String {
    let Row { face, fault, fired, life, .. } = row;
    let says: String = life.says.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let says = says.replace('\\', "\\\\").replace('"', "\\\"");
    let (name, group) = (&fault.name, fault.group.title());
    let (layout, merge) = (if row.packed { "packed" } else { "split" }, row.merge);
    let (outcome, right, fired) = (life.outcome.word(), row.is_right(), *fired > 0);
    format!(
        r#"{{"fault":"{name}","group":"{group}","face":"{}","layout":"{layout}","mrg_rxbuf":{merge},"outcome":"{outcome}","right":{right},"told":{fired},"sentence":"{says}"}}"#,
        face.word()
    )
}

/// Every fault, one a line.
pub fn list(rows: &[Row]) -> String {
    let mut lines: Vec<String> = rows.iter().map(Row::line).collect();
    lines.sort();
    lines.join("\n") + "\n"
}
