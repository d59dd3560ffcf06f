//! Files that are broken, or made to do harm: whatever is in a scene, an experiment, an override or a file of
//! demonstrations, reading it ends soon, within bounds of memory, with a value or with an error that says where.
//!
//! The quick tests look at a few hundred files. `for_as_long_as_asked` goes on for `APPRENTICE_HOSTILE_SECONDS`, with
//! other files for every `APPRENTICE_HOSTILE_SEED`:
//!
//! ```sh
//! APPRENTICE_HOSTILE_SECONDS=600 cargo test --test hostile -- --ignored --nocapture
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod demonstrations;
mod mutate;
mod texts;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mutate::{Mutations, files_below};

/// No file takes longer, even unoptimised on a busy machine.
const LONGEST: Duration = Duration::from_secs(30);

/// No file takes more memory, KiB.
const MOST_MEMORY: u64 = 512 << 10;

/// Overrides as people write them.
const OVERRIDES: [&str; 12] = [
    "learner.discount=0.98",
    "seeds=[0,1,2]\nenvironments=8",
    "dataset.path=data/kitchen-v2.hdf5\ndataset.collect=None",
    "learner.discount=0.97,0.99\ntraining.warmup=0..3",
    "skill_model=None",
    "task.elements.0=Kettle\ntask.order=Listed",
    "observation.noise=false",
    "episode.steps=100",
    "pretraining.updates=20_000\npretraining.batch=1e3",
    "scene=kitchen_mis_aligned",
    "dataset.collect.demonstrator=Kitchen(variety: 0.5)",
    "maze.layout=Rows([\"####\", \"#S.#\", \"#.T#\", \"####\"])",
];

/// Reads one input.
type Run = fn(&[u8]);

/// Makes the next input.
type Next = fn(&mut Mutations) -> Vec<u8>;

/// One kind of input.
struct Kind {
    name: &'static str,
    run: Run,
    next: Next,
    mutations: Mutations,
}

impl Kind {
    fn new(name: &'static str, seed: u64) -> Self {
        let texts = |folder| files_below(folder, &["ron"]);
        let demonstrations = || {
            let mut files = files_below("tests/data", &["hdf5", "h5"]);
            // Files with one thing wrong with them are near to others, and `found` holds what once went wrong here.
            files.retain(|file| file.len() < 256 << 10);
            files
        };
        let (run, next, seeds): (Run, Next, _) = match name {
            "scene" => (texts::scene, Mutations::text, texts("scenes")),
            "experiment" => (texts::experiment, Mutations::text, texts("configs")),
            "overrides" => {
                let lines = OVERRIDES.iter().map(|line| line.as_bytes().to_vec()).collect();
                (texts::overrides, Mutations::text, lines)
            }
            "hdf5" => (demonstrations::hdf5, Mutations::bytes, demonstrations()),
            _ => (
                demonstrations::metadata,
                Mutations::text,
                files_below("tests/data/minari", &["json"]),
            ),
        };
        assert!(!seeds.is_empty(), "{name}: no files to start from");
        Self {
            name,
            run,
            next,
            mutations: Mutations::of(seeds, seed),
        }
    }

    fn all(seed: u64) -> Vec<Self> {
        let names = ["scene", "experiment", "overrides", "hdf5", "metadata"];
        names.map(|name| Self::new(name, seed)).into()
    }

    /// Reads one input. If that fails, the input is kept in a file that the message names.
    fn look_at(&self, input: &[u8]) {
        let (before, began) = (most_memory(), Instant::now());
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.run)(input)));
        let (took, grew) = (began.elapsed(), most_memory().saturating_sub(before));
        let problem = match &outcome {
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                text.or(panic.downcast_ref::<&str>().copied())
                    .unwrap_or("a panic")
                    .to_owned()
            }
            // First, because what takes memory takes time.
            Ok(()) if grew > MOST_MEMORY => format!("took {} MiB", grew >> 10),
            Ok(()) if took > LONGEST => format!("took {took:?}"),
            Ok(()) => return,
        };
        let kept = keep(self.name, input);
        panic!("{}: {problem}\nthe input is {}", self.name, kept.display());
    }

    fn seeds_and(&mut self, mutated: usize) {
        for number in 0..self.mutations.seeds().len() {
            let seed = self.mutations.seeds()[number].clone();
            self.look_at(&seed);
        }
        for _ in 0..mutated {
            let input = (self.next)(&mut self.mutations);
            self.look_at(&input);
        }
    }
}

/// Writes an input where it outlasts the test.
fn keep(name: &str, input: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("hostile-{name}-{}", std::process::id()));
    std::fs::write(&path, input).unwrap();
    path
}

/// The most memory the process ever had, KiB; 0 where the system does not tell.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[test]
fn scenes() {
    Kind::new("scene", 1).seeds_and(300);
}

#[test]
fn experiments() {
    Kind::new("experiment", 2).seeds_and(300);
}

#[test]
fn overrides() {
    Kind::new("overrides", 3).seeds_and(300);
}

#[test]
fn files_of_demonstrations() {
    Kind::new("hdf5", 4).seeds_and(400);
}

#[test]
fn metadata_of_demonstrations() {
    Kind::new("metadata", 5).seeds_and(300);
}

/// Depth and breadth where a mutation would not come by chance.
#[test]
fn deep_and_long_texts() {
    for kind in Kind::all(0).iter().filter(|kind| kind.name != "hdf5") {
        for piece in [
            "(", "[", "{", "Some(", "a:", "a.", "(a:", "[[", "{1:", "/*", "//", "\"", "r#", "-", "\\", "=",
        ] {
            kind.look_at(piece.repeat(50_000).as_bytes());
        }
        let many: String = (0..20_000).map(|number| format!("k{number}: 1, ")).collect();
        kind.look_at(format!("({many})").as_bytes());
        kind.look_at(format!("{{{}}}", many.replace('k', "")).as_bytes());
        kind.look_at(format!("[{}]", "0, ".repeat(200_000)).as_bytes());
    }
}

#[test]
#[ignore = "runs for as long as APPRENTICE_HOSTILE_SECONDS says (60)"]
fn for_as_long_as_asked() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (seconds, seed) = (
        number("APPRENTICE_HOSTILE_SECONDS", 60),
        number("APPRENTICE_HOSTILE_SEED", 0),
    );
    let only = std::env::var("APPRENTICE_HOSTILE_KIND").ok();
    let mut kinds = Kind::all(seed);
    kinds.retain(|kind| only.as_ref().is_none_or(|only| kind.name == only));
    let began = Instant::now();
    let done = AtomicBool::new(false);
    // Seconds at which the current input was begun.
    let last = AtomicU64::new(0);
    let mut counts = vec![0_u64; kinds.len()];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(1));
                if began.elapsed().as_secs() > last.load(Ordering::Relaxed) + 4 * LONGEST.as_secs() {
                    println!("an input is never done; it is in {}", env!("CARGO_TARGET_TMPDIR"));
                    std::process::abort();
                }
            }
        });
        let all = catch_unwind(AssertUnwindSafe(|| {
            while began.elapsed().as_secs() < seconds {
                for (kind, count) in kinds.iter_mut().zip(&mut counts) {
                    let input = (kind.next)(&mut kind.mutations);
                    // Also for those that end the process.
                    keep("current", &input);
                    last.store(began.elapsed().as_secs(), Ordering::Relaxed);
                    kind.look_at(&input);
                    *count += 1;
                }
            }
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = all {
            std::panic::resume_unwind(panic);
        }
    });
    for (kind, count) in kinds.iter().zip(counts) {
        println!("{}: {count} files", kind.name);
    }
    println!("most memory: {} MiB", most_memory() >> 10);
}
