//! Pictures of the latent space: posterior means of a validation set, projected to the plane of their largest
//! variance. This module gives the data; drawing is done elsewhere.

use candle_core::Tensor;
use nalgebra::{DMatrix, SymmetricEigen};
use serde::{Deserialize, Serialize};

use super::{Result, SkillError};

/// Points of a two-dimensional projection with their labels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LatentMap {
    /// Coordinates along the two principal axes, in latent units.
    pub points: Vec<[f32; 2]>,
    /// Label of every point, e.g. the element being worked on.
    pub labels: Vec<String>,
    /// Share of the total variance along each axis, 0 to 1.
    pub explained: [f32; 2],
    /// Centre of the points in latent space.
    pub mean: Vec<f32>,
    /// The two axes: unit vectors in latent space, each with its largest entry positive.
    pub axes: [Vec<f32>; 2],
}

/// Principal component analysis of latent vectors `[N, nz]`, such as
/// [`Pretrain::embed`](crate::pretraining::Pretrain::embed) gives, with one label per row.
///
/// # Errors
/// If there are fewer than two rows or dimensions, the labels do not match, or a number is not finite.
pub fn latent_map(latents: &Tensor, labels: Vec<String>) -> Result<LatentMap> {
    let (rows, dim) = latents.dims2()?;
    if rows < 2 || dim < 2 || labels.len() != rows {
        let count = labels.len();
        return Err(SkillError::Config(format!(
            "a latent map needs at least two latent vectors of at least two numbers, and a label for each; got {rows} \
             vectors of {dim} numbers and {count} labels"
        )));
    }
    let values: Vec<f64> = latents
        .flatten_all()?
        .to_vec1::<f32>()?
        .into_iter()
        .map(f64::from)
        .collect();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(SkillError::Config("a latent map needs finite numbers".into()));
    }
    let mut centred = DMatrix::from_row_slice(rows, dim, &values);
    let mean = centred.row_mean();
    for mut row in centred.row_iter_mut() {
        row -= &mean;
    }
    let eigen = SymmetricEigen::new(centred.transpose() * &centred / rows as f64);
    let mut order: Vec<usize> = (0..dim).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    let total = eigen.eigenvalues.sum().max(f64::MIN_POSITIVE);
    let axis = |rank: usize| {
        let vector = eigen.eigenvectors.column(order[rank]);
        // The sign of an eigenvector is arbitrary; fixing it keeps pictures of successive epochs comparable.
        let sign = if vector.max() >= -vector.min() { 1.0 } else { -1.0 };
        (vector * sign, (eigen.eigenvalues[order[rank]] / total) as f32)
    };
    let ((first, first_share), (second, second_share)) = (axis(0), axis(1));
    let (x, y) = (&centred * &first, &centred * &second);
    let to_f32 = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
    Ok(LatentMap {
        points: x.iter().zip(y.iter()).map(|(x, y)| [*x as f32, *y as f32]).collect(),
        labels,
        explained: [first_share, second_share],
        mean: to_f32(mean.as_slice()),
        axes: [to_f32(first.as_slice()), to_f32(second.as_slice())],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use candle_core::Device;

    use super::*;

    #[test]
    fn finds_the_plane_of_largest_variance() {
        // Points on a 3-4-5 line plus a small orthogonal wiggle, far from the origin.
        let mut values = Vec::new();
        for step in -10..=10 {
            let (along, across) = (step as f32, if step % 2 == 0 { 0.1 } else { -0.1 });
            values.extend([5.0 + 0.6 * along - 0.8 * across, 1.0, -2.0 + 0.8 * along + 0.6 * across]);
        }
        let latents = Tensor::from_vec(values, (21, 3), &Device::Cpu).unwrap();
        let map = latent_map(&latents, vec![String::new(); 21]).unwrap();
        for (axis, expected) in map.axes.iter().zip([[0.6, 0.0, 0.8], [0.8, 0.0, -0.6]]) {
            assert!(axis.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-2), "{axis:?}");
        }
        assert!(map.explained[0] > 0.99 && map.explained[0] + map.explained[1] <= 1.0 + 1e-6);
        assert!((map.points[20][0] - 10.0).abs() < 1e-2);
    }

    #[test]
    fn refuses_what_it_cannot_project() {
        let latents = Tensor::zeros((3, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(latent_map(&latents, vec![String::new(); 2]).is_err());
        let flat = latent_map(&latents, vec![String::new(); 3]).unwrap();
        assert!(flat.explained.iter().all(|share| share.is_finite()));
    }
}
