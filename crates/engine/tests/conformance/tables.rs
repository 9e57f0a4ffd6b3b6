//! The two machines' tables, whole, as reviewed snapshots: any change shows as a difference.

use std::cmp::Ordering;
use std::fmt::Write;

use scsp_engine::alignment::{self, Offset, Role, Signal, judge};
use scsp_engine::hello::{Event, State};

/// Goal: every state × event of the hello machine (H-02, H-05, H-07, H-11).
#[test]
fn h_02_table_of_the_hello_machine() {
    let mut table = String::new();
    for state in State::ALL {
        for event in Event::ALL {
            let next = state.next(event).map_or("stays", State::label);
            let (state, event) = (state.label(), format!("{event:?}"));
            writeln!(table, "{state:<15} {event:<11} {next}").unwrap();
        }
    }
    insta::assert_snapshot!(table);
}

/// One line per distinct treatment: `MIO` bits, records, offset, sender, kept CA.
fn lines(state: alignment::State, role: Role) -> String {
    let mut table = String::new();
    for bits in 0..8_u8 {
        let (master, initialize, more) = (bits & 4 != 0, bits & 2 != 0, bits & 1 != 0);
        for empty in [true, false] {
            for sender in [Ordering::Less, Ordering::Equal, Ordering::Greater] {
                for keeps_last in [false, true] {
                    let mut verdicts = Vec::new();
                    for offset in Offset::ALL {
                        let signal = Signal {
                            master,
                            initialize,
                            more,
                            empty,
                            offset,
                            sender,
                        };
                        verdicts.push(format!("{:?}", judge(state, role, keeps_last, signal)));
                    }
                    let flag = |set, name| if set { name } else { '-' };
                    let flags: String = [flag(master, 'M'), flag(initialize, 'I'), flag(more, 'O')]
                        .iter()
                        .collect();
                    let records = if empty { "empty" } else { "full" };
                    let sender = match sender {
                        Ordering::Less => "smaller",
                        Ordering::Equal => "equal",
                        Ordering::Greater => "larger",
                    };
                    let kept = if keeps_last { "kept" } else { "-" };
                    let verdicts = verdicts.join(" ");
                    writeln!(
                        table,
                        "{flags} {records:<5} {sender:<7} {kept:<4} {verdicts}"
                    )
                    .unwrap();
                }
            }
        }
    }
    table
}

/// Rows that agree in their verdicts whatever one column says are one row with `*` there.
fn merged(table: &str) -> String {
    let mut rows: Vec<Vec<String>> = table
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect();
    for column in [3, 2, 1] {
        let values: std::collections::BTreeSet<_> =
            rows.iter().map(|row| row[column].clone()).collect();
        let mut kept: Vec<Vec<String>> = Vec::new();
        for row in &rows {
            let alike =
                |other: &Vec<String>| (0..row.len()).all(|at| at == column || other[at] == row[at]);
            if rows.iter().filter(|other| alike(other)).count() == values.len() {
                let mut star = row.clone();
                "*".clone_into(&mut star[column]);
                if !kept.contains(&star) {
                    kept.push(star);
                }
            } else {
                kept.push(row.clone());
            }
        }
        rows = kept;
    }
    rows.iter().map(|row| row.join(" ") + "\n").collect()
}

/// Goal: every combination of state, role, flags, records, sequence, sender and kept CA
/// (CA-04 to CA-15, CA-22, D-07, D-17). Columns: flags, records, sender, kept CA, then the verdict
/// for a sequence older than own - 1, own - 1, own, own + 1, newer.
#[test]
fn ca_06_table_of_the_alignment_machine() {
    let mut text = String::new();
    for state in alignment::State::ALL {
        for role in [Role::Master, Role::Slave] {
            writeln!(text, "# {} as {}", state.label(), role.label()).unwrap();
            text.push_str(&merged(&lines(state, role)));
        }
    }
    insta::assert_snapshot!(text);
}
