//! Which things are asleep: the part of a state that `MuJoCo`'s own states leave out.
//!
//! A tree of bodies that lies still may be left out of the simulation until something touches it, if the model says so
//! ([`ModelChange::Sleep`](crate::scene::ModelChange::Sleep)).

use std::sync::Arc;

use mujoco_rs::mujoco_c::{mjData, mjModel, mjtEnableBit};
use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::MjModel;

unsafe extern "C" {
    /// Works out which bodies and velocities are awake from `tree_asleep`. The library exports it; its public headers do
    /// not name it.
    fn mj_updateSleep(model: *const mjModel, data: *mut mjData);
}

/// For each tree of bodies: negative while it is awake, counting up to -1 as it lies still; else the next tree in the ring
/// of those that sleep together. Empty if nothing may sleep.
pub(super) fn capture(data: &MjData<Arc<MjModel>>) -> Vec<i32> {
    if data.model().opt().enableflags & mjtEnableBit::mjENBL_SLEEP as i32 == 0 {
        return Vec::new();
    }
    data.tree_asleep().to_vec()
}

/// Puts trees to sleep as they were when [`capture`] was called. Does nothing with what cannot be: another number of trees,
/// or trees that are not rings.
pub(super) fn restore(data: &mut MjData<Arc<MjModel>>, asleep: &[i32]) {
    if asleep.is_empty() || capture(data).len() != asleep.len() || !are_rings(asleep) {
        return;
    }
    // SAFETY: as many trees as there are, and every index is that of a tree in a closed ring.
    unsafe { data.tree_asleep_mut() }.copy_from_slice(asleep);
    let model = std::ptr::from_ref(data.model().ffi());
    // SAFETY: both pointers are those of living values, the data is borrowed for writing, and it is of this model. Only
    // arrays of the data that follow from `tree_asleep` are written.
    unsafe { mj_updateSleep(model, data.ffi_mut()) }
}

/// Whether each sleeping tree is followed by another sleeping one and follows just one.
fn are_rings(asleep: &[i32]) -> bool {
    let mut followed = vec![false; asleep.len()];
    asleep.iter().filter(|&&next| next >= 0).all(|&next| {
        let next = usize::try_from(next).unwrap_or(usize::MAX);
        let sleeps = asleep.get(next).is_some_and(|&after| after >= 0);
        sleeps && !std::mem::replace(&mut followed[next], true)
    })
}

#[cfg(test)]
mod tests {
    use super::are_rings;

    #[test]
    fn only_closed_rings_of_sleepers_are_put_to_sleep() {
        for sound in [&[][..], &[-11, -1], &[0], &[-5, 2, 1, 3]] {
            assert!(are_rings(sound), "{sound:?}");
        }
        for broken in [&[1, -3][..], &[1, 1], &[2, 0], &[7]] {
            assert!(!are_rings(broken), "{broken:?}");
        }
    }
}
