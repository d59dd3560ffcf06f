//! `apprentice bench`: how fast this machine is.

use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use super::{Failure, print};
use crate::bench::{self, BenchConfig, Measured};
use crate::experiment::LearningDevice;
use crate::nn::Compute;
use crate::run;

/// Measure simulation, learning, and both at once on this machine.
///
/// Close other programs first. Ratios compare two sides that took turns; `--threads` says how many threads work.
#[derive(clap::Args, Debug)]
pub(super) struct Arguments {
    /// What to measure [default: everything].
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Scene to simulate; the other parts are about the kitchen.
    #[arg(long, value_name = "SCENE", default_value = "kitchen")]
    scene: String,
    /// Numbers of environments to simulate.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_value = "8")]
    environments: Vec<usize>,
    /// Seconds for each rate.
    #[arg(long, value_name = "S", default_value_t = 3.0)]
    seconds: f64,
    /// What computes the updates of the part `learning`.
    #[arg(long, value_enum, default_value_t)]
    device: LearningDevice,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Environments against bare `mj_step`.
    Simulation,
    /// Gradient updates of SAC and of skill models.
    Learning,
    /// One learner with its environments: both at once against each alone.
    Practice,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    processor: String,
    threads: usize,
    /// What computed the updates of the part `learning`.
    device: LearningDevice,
    results: Vec<Measured>,
}

/// Load average above which rates are not worth much.
const QUIET: f64 = 0.5;

/// Programs that ran or wanted to run in the last minute, on average, where the system tells (Linux).
fn load_average() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

pub(super) fn run(arguments: &Arguments, threads: usize) -> Result<ExitCode, Failure> {
    if !(arguments.seconds > 0.0 && arguments.seconds <= 3600.0) {
        return Err(format!("--seconds: expected above 0, up to 3600; found {}", arguments.seconds).into());
    }
    if arguments.environments.contains(&0) {
        return Err("--environments: expected at least 1, found 0".into());
    }
    if let Some(load) = load_average().filter(|&load| load > QUIET) {
        bevy::log::warn!("the machine was busy just now (load average {load}); close other programs and wait a minute");
    }
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let learning = wanted(Part::Learning);
    if !learning && arguments.device != LearningDevice::default() {
        return Err("--device: only the part `learning` computes elsewhere than on the CPU".into());
    }
    let config = BenchConfig {
        threads,
        time: Duration::from_secs_f64(arguments.seconds),
        compute: if learning {
            arguments.device.open()?
        } else {
            Compute::Fused
        },
    };
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        processor: run::processor(),
        threads,
        device: arguments.device,
        results: Vec::new(),
    };
    let mut results = Vec::new();
    let mut add = |more: Vec<Measured>| -> Result<(), Failure> {
        if !arguments.json {
            for Measured { name, value, unit } in &more {
                let digits = if *unit == "ratio" { 3 } else { 1 };
                print(format_args!("{name:<52} {value:>10.digits$} {unit}"))?;
            }
        }
        results.extend(more);
        Ok(())
    };
    if !arguments.json {
        let learns = match arguments.device {
            LearningDevice::Cpu => "",
            LearningDevice::Cuda => ", learning on cuda",
            LearningDevice::Candle => ", learning with candle's operations",
        };
        print(format_args!("{}, {} threads{learns}", report.processor, report.threads))?;
    }
    if wanted(Part::Simulation) {
        for &environments in &arguments.environments {
            add(bench::simulation(&config, &arguments.scene, environments)?)?;
        }
    }
    if wanted(Part::Learning) {
        add(bench::learning(&config)?)?;
    }
    if wanted(Part::Practice) {
        for &environments in &arguments.environments {
            add(bench::practice(&config, environments)?)?;
        }
    }
    report.results = results;
    if arguments.json {
        print(format_args!("{}", serde_json::to_string_pretty(&report)?))?;
    }
    Ok(ExitCode::SUCCESS)
}
