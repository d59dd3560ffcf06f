//! Puts the folder of the MuJoCo library into the run path, so that binaries and tests start from any folder.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=MUJOCO_DYNAMIC_LINK_DIR");
    if let Ok(folder) = std::env::var("MUJOCO_DYNAMIC_LINK_DIR") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
    // A binary that is copied elsewhere finds the library beside itself.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN");
}
