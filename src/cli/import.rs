//! `apprentice import`: published checkpoints.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, print};
use crate::run;
use crate::skills::{SpirlConfig, import};

/// Import the weights of a published skill model (PyTorch or safetensors, original names) into a skill folder.
///
/// PyTorch files are read without executing anything in them. Sizes are taken from the tensors.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// Checkpoint: .pth, .pt or .safetensors; the contents decide.
    weights: PathBuf,
    /// Folder to make, for `--skills`.
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Ticks a skill lasts; weights do not tell.
    #[arg(long, value_name = "TICKS", default_value_t = 10)]
    skill_length: usize,
    /// The closed-loop decoder's actions pass through tanh, as in the original agents.
    #[arg(long)]
    tanh_actions: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let weights = import::read_weights(&arguments.weights)?;
    let settings = SpirlConfig {
        length: arguments.skill_length,
        tanh_actions: arguments.tanh_actions,
        ..SpirlConfig::default()
    };
    let imported = import::import_model(&weights, &settings)?;
    let saved = run::save_imported(imported.model, &arguments.out)?;
    for name in &imported.unused {
        print(format_args!("not used: {name}"))?;
    }
    print(format_args!(
        "{}: skill model for {}",
        arguments.out.display(),
        saved.in_words()
    ))?;
    Ok(ExitCode::SUCCESS)
}
