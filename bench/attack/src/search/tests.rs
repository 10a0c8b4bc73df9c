use super::*;
use crate::search::report::BANDS;

#[test]
fn x() {
    assert!(BANDS.len() > 1);
}
