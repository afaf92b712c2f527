//! What several rounds came to.

use serde::Serialize;

/// Smallest, middle and largest of some values.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Middle; of two, the mean.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of no values there is none.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            f64::midpoint(*values.get(middle - 1)?, *values.get(middle)?)
        } else {
            *values.get(middle)?
        };
        Some(Self { min, median, max })
    }
}
