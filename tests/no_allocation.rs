//! A running environment allocates nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use apprentice::scene::{CompiledScene, Scene};
use apprentice::sim::Environment;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the allocations of each thread.
struct Counting;

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn steps_and_resets_allocate_nothing() {
    let scene = CompiledScene::new(Scene::load("kitchen").unwrap()).unwrap();
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let before = ALLOCATIONS.get();
    for episode in 0..3 {
        environment.begin(&scene, episode, scene.start());
        for step in 0..20 {
            environment.step(&scene, &[(step as f32).sin(); 9]);
        }
    }
    assert_eq!(ALLOCATIONS.get(), before);
    assert_eq!(environment.episode.step, 20);
}
