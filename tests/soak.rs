//! Endurance: all scenes side by side at full speed, for as long as is asked for.
//!
//! ```sh
//! APPRENTICE_SOAK_SECONDS=3600 cargo test --test soak -- --ignored --nocapture
//! ```
//!
//! Each scene is a process that practises with plain SAC, metrics and checkpoints. Twelve times, or once a minute in long
//! runs, it is written down what they take: `soak.csv` in the folder of the target directory that is printed.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use apprentice::files::{self, FileKind};

/// Small, so that everything that may fill up is full before half the time is over.
const SETTINGS: &str = "environments=2 training.warmup=50 training.replay_capacity=500 training.steps=1000000000 \
                        training.report_every=200 training.checkpoint_every=2000 learner.batch=32 learner.critic.width=32 \
                        learner.policy=Scratch(width:32,hidden:1) evaluation.every=4000 evaluation.episodes=1 --threads 1";

/// What a process takes at one time.
#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: f64,
    /// Resident memory in kilobytes.
    memory: u64,
    handles: usize,
    threads: u64,
    /// Control steps so far.
    steps: u64,
}

struct Running {
    scene: String,
    child: Child,
    samples: Vec<Sample>,
}

/// Nothing runs on after the test, however that ends.
impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is no fault.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn sample(&mut self, root: &Path, begun: Instant) -> Sample {
        let process = format!("/proc/{}", self.child.id());
        let status = fs::read_to_string(format!("{process}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok())
                .unwrap_or(0)
        };
        let metrics = root.join(self.scene.replace('/', "_")).join("seed_0/metrics.csv");
        let written = fs::read_to_string(metrics).unwrap_or_default();
        // The last line may be half written.
        let whole = written.rfind('\n').map_or("", |end| &written[..end]);
        let last = whole
            .lines()
            .next_back()
            .and_then(|line| line.split(',').next()?.parse().ok());
        let sample = Sample {
            seconds: begun.elapsed().as_secs_f64(),
            memory: field("VmRSS:"),
            handles: fs::read_dir(format!("{process}/fd")).unwrap().count(),
            threads: field("Threads:"),
            steps: last.unwrap_or(0),
        };
        self.samples.push(sample);
        sample
    }

    /// Mean of a figure over a part of the samples, given in quarters.
    fn mean(&self, quarter: usize, figure: fn(&Sample) -> f64) -> f64 {
        let length = self.samples.len() / 4;
        let part = &self.samples[quarter * length..(quarter + 1) * length];
        part.iter().map(figure).sum::<f64>() / length.max(1) as f64
    }

    /// Control steps a second in a part of the time.
    fn speed(&self, quarter: usize) -> f64 {
        let length = self.samples.len() / 4;
        let (from, to) = (self.samples[quarter * length], self.samples[(quarter + 1) * length - 1]);
        (to.steps - from.steps) as f64 / (to.seconds - from.seconds)
    }
}

#[test]
#[ignore = "takes as long as APPRENTICE_SOAK_SECONDS says, a minute by default"]
fn long_runs_take_no_more_than_short_ones() {
    let seconds = std::env::var("APPRENTICE_SOAK_SECONDS").map_or(60, |text| text.parse().unwrap());
    assert!(seconds >= 4, "there must be a sample in each quarter, so at least 4 s");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    let scenes = files::list(FileKind::Scene, &files::roots()).into_keys();
    let mut running: Vec<Running> = scenes.map(|scene| start(scene, &folder)).collect();
    let mut table = fs::File::create(folder.join("soak.csv")).unwrap();
    println!(
        "{} scenes, {seconds} s; figures in {}",
        running.len(),
        folder.join("soak.csv").display()
    );
    writeln!(table, "seconds,scene,resident_kb,handles,threads,steps").unwrap();
    let (begun, every) = (Instant::now(), Duration::from_secs((seconds / 12).clamp(1, 60)));
    while begun.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(every);
        for running in &mut running {
            assert!(
                running.child.try_wait().unwrap().is_none(),
                "{} has ended",
                running.scene
            );
            let Sample {
                seconds,
                memory,
                handles,
                threads,
                steps,
            } = running.sample(&folder, begun);
            writeln!(
                table,
                "{seconds:.0},{},{memory},{handles},{threads},{steps}",
                running.scene
            )
            .unwrap();
        }
    }
    for running in &running {
        Command::new("kill")
            .args(["-s", "TERM", &running.child.id().to_string()])
            .status()
            .unwrap();
    }
    let mut faults = Vec::new();
    for running in &mut running {
        let status = running.child.wait().unwrap();
        if status.code() != Some(75) {
            faults.push(format!("{}: ended with {status}", running.scene));
        }
        faults.extend(judge(running, &folder, seconds));
    }
    let [before, after] = [1, 3].map(|quarter| running.iter().map(|running| running.speed(quarter)).sum::<f64>());
    println!("all: {before:.0} steps/s in the second quarter, {after:.0} in the last");
    // Other work on the machine changes the speed as well.
    if seconds >= 600 && after < 0.7 * before {
        faults.push(format!("{before:.0} steps/s became {after:.0}"));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn start(scene: String, folder: &Path) -> Running {
    let out = scene.replace('/', "_");
    let log = |end: &str| Stdio::from(fs::File::create(folder.join(format!("{out}.{end}"))).unwrap());
    let child = Command::new(env!("CARGO_BIN_EXE_apprentice"))
        .args(["train", "sac", &format!("scene={scene}"), "--out", &out])
        .args(SETTINGS.split_whitespace())
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log("out"))
        .stderr(log("err"))
        .spawn()
        .unwrap();
    Running {
        scene,
        child,
        samples: Vec::new(),
    }
}

/// What is wrong with a process: it has grown from the second quarter to the last, or has complained.
fn judge(running: &Running, folder: &Path, seconds: u64) -> Vec<String> {
    let scene = &running.scene;
    let memory = |quarter| running.mean(quarter, |sample| sample.memory as f64) / 1024.0;
    let handles = |quarter| running.mean(quarter, |sample| sample.handles as f64);
    let threads = |quarter| running.mean(quarter, |sample| sample.threads as f64);
    println!(
        "{scene:<28} {:>8.1} -> {:>8.1} MB  {:>5.1} -> {:>5.1} handles  {:>7.1} -> {:>7.1} steps/s",
        memory(1),
        memory(3),
        handles(1),
        handles(3),
        running.speed(1),
        running.speed(3)
    );
    let mut faults = Vec::new();
    // In a short run buffers are still filling.
    if seconds >= 600 && memory(3) > memory(1) * 1.03 + 4.0 {
        faults.push(format!("{scene}: {:.1} MB became {:.1} MB", memory(1), memory(3)));
    }
    // A checkpoint under way holds one more.
    if handles(3) > handles(1) + 1.0 || threads(3) > threads(1) + 0.5 {
        faults.push(format!(
            "{scene}: handles {} -> {}, threads {} -> {}",
            handles(1),
            handles(3),
            threads(1),
            threads(3)
        ));
    }
    let log = fs::read_to_string(folder.join(format!("{}.err", scene.replace('/', "_")))).unwrap();
    let noise = log
        .lines()
        .filter(|line| line.starts_with("warning: ") || line.starts_with("error: "));
    faults.extend(noise.take(3).map(|line| format!("{scene}: {line}")));
    faults
}
