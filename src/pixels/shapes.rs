//! Where a ray meets a shape, in the shape's own frame.

use bevy::math::{Vec2, Vec3};

use super::rays::NEAR;

/// A shape in its own frame, m.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shape {
    /// Facing up; half sides, infinite where not positive.
    Plane(Vec2),
    /// Half axes.
    Ellipsoid(Vec3),
    /// Radius, and half the length along z without the caps.
    Capsule(f32, f32),
    /// Radius, and half the length along z.
    Cylinder(f32, f32),
    /// Half sides.
    Box(Vec3),
}

impl Shape {
    /// Half sides of the box around it; none for planes.
    pub fn half_sides(&self) -> Option<Vec3> {
        match *self {
            Self::Plane(_) => None,
            Self::Ellipsoid(half) | Self::Box(half) => Some(half),
            Self::Capsule(radius, half) => Some(Vec3::new(radius, radius, half + radius)),
            Self::Cylinder(radius, half) => Some(Vec3::new(radius, radius, half)),
        }
    }

    /// Where a ray from `eye` along `ray` (of any length) enters the shape: how many times `ray` away, and the normal
    /// there. None if it does not, or if the eye is inside.
    pub fn hit(&self, eye: Vec3, ray: Vec3) -> Option<(f32, Vec3)> {
        let (depth, normal) = match *self {
            Self::Plane(half) => plane(half, eye, ray),
            Self::Ellipsoid(half) => ellipsoid(half, eye, ray),
            Self::Capsule(radius, half) => capsule(radius, half, eye, ray),
            Self::Cylinder(radius, half) => cylinder(radius, half, eye, ray),
            Self::Box(half) => cuboid(half, eye, ray),
        }?;
        (depth > NEAR).then_some((depth, normal))
    }
}

fn plane(half: Vec2, eye: Vec3, ray: Vec3) -> Option<(f32, Vec3)> {
    if eye.z <= 0.0 || ray.z >= 0.0 {
        return None;
    }
    let depth = -eye.z / ray.z;
    let at = (eye + depth * ray).truncate().abs();
    let inside = (half.x <= 0.0 || at.x <= half.x) && (half.y <= 0.0 || at.y <= half.y);
    inside.then_some((depth, Vec3::Z))
}

fn ellipsoid(half: Vec3, eye: Vec3, ray: Vec3) -> Option<(f32, Vec3)> {
    let scale = half.recip();
    let depth = sphere(1.0, eye * scale, ray * scale)?;
    let normal = (eye + depth * ray) * scale * scale;
    Some((depth, normal.normalize()))
}

/// Where a ray enters a sphere around the origin.
fn sphere(radius: f32, eye: Vec3, ray: Vec3) -> Option<f32> {
    let square = ray.length_squared();
    let along = -eye.dot(ray) / square;
    // From the point nearest to the middle, which loses fewer digits than the usual formula.
    let away = radius * radius - (eye + along * ray).length_squared();
    (away >= 0.0).then(|| along - (away / square).sqrt())
}

/// Where a ray enters an endless cylinder around z.
fn tube(radius: f32, eye: Vec3, ray: Vec3) -> Option<f32> {
    let flat = |vector: Vec3| Vec3::new(vector.x, vector.y, 0.0);
    sphere(radius, flat(eye), flat(ray))
}

fn capsule(radius: f32, half: f32, eye: Vec3, ray: Vec3) -> Option<(f32, Vec3)> {
    let side = tube(radius, eye, ray).filter(|depth| (eye.z + depth * ray.z).abs() <= half);
    let cap = |z: f32| sphere(radius, eye - z * Vec3::Z, ray);
    let depth = match side {
        Some(depth) => depth,
        None => match (cap(half), cap(-half)) {
            (Some(one), Some(other)) => one.min(other),
            (one, other) => one.or(other)?,
        },
    };
    let at = eye + depth * ray;
    let axis = Vec3::new(0.0, 0.0, at.z.clamp(-half, half));
    Some((depth, (at - axis).normalize()))
}

fn cylinder(radius: f32, half: f32, eye: Vec3, ray: Vec3) -> Option<(f32, Vec3)> {
    // The lid that the ray may enter by looks against it.
    let outward = -ray.z.signum();
    let lid = (outward * half - eye.z) / ray.z;
    if outward * eye.z > half && (eye + lid * ray).truncate().length_squared() <= radius * radius {
        return Some((lid, Vec3::Z * outward));
    }
    let depth = tube(radius, eye, ray)?;
    let at = eye + depth * ray;
    (at.z.abs() <= half).then(|| (depth, Vec3::new(at.x, at.y, 0.0) / radius))
}

fn cuboid(half: Vec3, eye: Vec3, ray: Vec3) -> Option<(f32, Vec3)> {
    let inverse = ray.recip();
    let (one, other) = ((-half - eye) * inverse, (half - eye) * inverse);
    let (enters, leaves) = (one.min(other), one.max(other));
    let depth = enters.max_element();
    // A ray along a side may give no number, and then none of this holds.
    let hits = depth <= leaves.min_element();
    if !hits {
        return None;
    }
    let normal = if depth == enters.x {
        Vec3::X * -ray.x.signum()
    } else if depth == enters.y {
        Vec3::Y * -ray.y.signum()
    } else {
        Vec3::Z * -ray.z.signum()
    };
    Some((depth, normal))
}
