//! Medians and spreads. Repeats are few and skewed by whatever else the machine does, so the median is
//! the figure, smallest and largest are its spread, and a ratio is taken round by round: both sides of
//! it then met the same disturbance.

use serde::Serialize;

/// The values of all repeats and what they say together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Middle value; of an even number, the mean of the two middle ones.
    pub(crate) median: f64,
    /// Smallest.
    pub(crate) min: f64,
    /// Largest.
    pub(crate) max: f64,
    /// All, in the order of their rounds.
    pub(crate) values: Vec<f64>,
}

impl Spread {
    /// `None` without a value, or with one that is no number.
    pub(crate) fn of(values: Vec<f64>) -> Option<Self> {
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return None;
        }
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self {
            median,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
            values,
        })
    }

    /// `over[i] / under[i]` of the rounds that both have. `None` if there is none, or a divisor is 0.
    pub(crate) fn ratio(over: &[f64], under: &[f64]) -> Option<Self> {
        Self::of(over.iter().zip(under).map(|(a, b)| a / b).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_of_odd_and_even_numbers_of_repeats() {
        let odd = Spread::of(vec![5.0, 1.0, 3.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 3.0, 5.0));
        assert_eq!(odd.values, [5.0, 1.0, 3.0]);
        let even = Spread::of(vec![4.0, 1.0, 2.0, 100.0]).unwrap();
        assert_eq!(even.median, 3.0);
        assert_eq!(Spread::of(vec![7.0]).unwrap().median, 7.0);
    }

    #[test]
    fn nothing_and_what_is_no_number_have_no_median() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![1.0, f64::NAN]), None);
        assert_eq!(Spread::ratio(&[1.0], &[0.0]), None);
        assert_eq!(Spread::ratio(&[], &[1.0]), None);
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        // A disturbance that halves a whole round leaves the ratio alone; a ratio of medians would be 4.
        let ratio = Spread::ratio(&[10.0, 5.0, 20.0], &[5.0, 2.5, 2.5]).unwrap();
        assert_eq!(ratio.values, [2.0, 2.0, 8.0]);
        assert_eq!(ratio.median, 2.0);
    }
}
