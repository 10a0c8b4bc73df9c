//! What virtual time adds: ten thousand runs a table, and what an ideal link predicts for a corrupt few.
//!
//! On virtual time a challenger can begin too late by exactly so much, which no real clock of this machine can:
//! the table of start skew is made there.

use plumbline_attack::sim::{Kind, Manner, Prediction, Table, predict, table};
use plumbline_attack::switch::Attack;

use crate::cell::{Cell, NONE};
use crate::plan::Simulated;
use crate::progress::Progress;

/// Between two lines of progress, runs.
const EVERY: u64 = 1000;

/// All tables.
pub(crate) fn tables(plan: Simulated, progress: &Progress) -> Vec<Table> {
    Kind::ALL
        .into_iter()
        .map(|kind| {
            table(kind, plan.runs, plan.seed, &|done, all| {
                if done % EVERY == 0 || done == all {
                    progress.note(&format!("virtual time, {kind:?}: {done} of {all} runs"));
                }
            })
        })
        .collect()
}

/// What an ideal link makes of a cell, where the model knows its attack: figures over the truth.
pub(crate) fn prediction(cell: &Cell) -> Option<Prediction> {
    let attack = match cell.attack.as_str() {
        NONE => None,
        name => Some(name.parse::<Attack>().ok()?),
    };
    let (n, f) = (u16::from(cell.n), u16::from(cell.f));
    let corrupt = if attack.is_some() { f } else { 0 };
    predict(n, f, corrupt, attack, Manner::Gross)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::Table as Of;

    #[test]
    fn a_cell_is_predicted_where_the_model_knows_its_attack() {
        let mut cell = Cell::new(Of::Corruption, 100, 10, 2);
        let alone = prediction(&cell).unwrap();
        assert!((alone.measured - 1.0).abs() < 0.01, "{alone:?}");
        cell.attack = "rush".into();
        // Two of ten hand over 2m of 8m packets: the time is 6/8.
        assert!((prediction(&cell).unwrap().mean - 8.0 / 6.0).abs() < 0.01);
        cell.attack = "injection".into();
        assert_eq!(prediction(&cell), None);
    }
}
