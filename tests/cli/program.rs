//! Runs the real program in temporary folders.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// No run of a test takes nearly as long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Overrides that make the networks of a closed-loop experiment tiny, and everything else as well.
pub const TINY: [&str; 13] = [
    "skill_model.width=16",
    "skill_model.lstm_width=16",
    "skill_model.encoder_output=16",
    "skill_model.decoder_hidden_layers=1",
    "skill_model.prior_hidden_layers=1",
    "skill_model.latent=4",
    "pretraining.updates=200",
    "pretraining.batch=16",
    "learner.critic.width=16",
    "learner.critic.hidden=1",
    "learner.batch=16",
    "training.warmup=8",
    "environments=2",
];

/// A temporary folder in which the program runs.
pub struct Place(TempDir);

/// What a run of the program left.
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A run that is still going on.
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        Self(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Starts the program with `arguments`, which are separated by blanks.
    pub fn start(&self, arguments: &str) -> Running {
        self.spawn(Command::new(env!("CARGO_BIN_EXE_apprentice")).args(arguments.split_whitespace()))
    }

    fn spawn(&self, command: &mut Command) -> Running {
        let logs = self.path(".logs");
        std::fs::create_dir_all(&logs).unwrap();
        let number = std::fs::read_dir(&logs).unwrap().count();
        let [stdout, stderr] = ["out", "err"].map(|stream| logs.join(format!("{number}.{stream}")));
        let file = |path: &Path| Stdio::from(std::fs::File::create(path).unwrap());
        let child = command
            .current_dir(self.0.path())
            .stdin(Stdio::null())
            .stdout(file(&stdout))
            .stderr(file(&stderr))
            .spawn()
            .unwrap();
        Running { child, stdout, stderr }
    }

    /// Starts the program as `nohup` does: deaf to the end of its terminal.
    pub fn start_without_hangup(&self, arguments: &str) -> Running {
        let program = env!("CARGO_BIN_EXE_apprentice");
        self.spawn(
            Command::new("sh")
                .args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", program])
                .args(arguments.split_whitespace()),
        )
    }

    /// Runs the program.
    pub fn run(&self, arguments: &str) -> Ran {
        self.start(arguments).wait()
    }

    /// Runs the program where there is no screen.
    pub fn run_without_display(&self, arguments: &str) -> Ran {
        self.run_at_display(None, arguments)
    }

    /// Runs the program with this display and no other.
    pub fn run_at_display(&self, display: Option<&str>, arguments: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_apprentice"));
        for variable in ["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"] {
            command.env_remove(variable);
        }
        command.envs(display.map(|display| ("DISPLAY", display)));
        self.spawn(command.args(arguments.split_whitespace())).wait()
    }

    /// Runs the program where no file may grow beyond `kilobytes`, as on a full disk.
    pub fn run_with_small_files(&self, kilobytes: usize, arguments: &str) -> Ran {
        // In a POSIX shell the unit is 512 bytes, in bash 1024.
        let script = format!("trap '' XFSZ; ulimit -f {kilobytes}; exec \"$0\" \"$@\"");
        let program = env!("CARGO_BIN_EXE_apprentice");
        self.spawn(
            Command::new("bash")
                .args(["-c", &script, program])
                .args(arguments.split_whitespace()),
        )
        .wait()
    }

    /// Runs the program without the right to write where that is forbidden, which the superuser has otherwise.
    pub fn run_without_privileges(&self, arguments: &str) -> Ran {
        let script = "if [ $(id -u) = 0 ]; then exec setpriv --inh-caps=-all \
                      --bounding-set=-dac_override,-dac_read_search,-fowner \"$0\" \"$@\"; fi; exec \"$0\" \"$@\"";
        let program = env!("CARGO_BIN_EXE_apprentice");
        self.spawn(
            Command::new("sh")
                .args(["-c", script, program])
                .args(arguments.split_whitespace()),
        )
        .wait()
    }

    /// Runs the program with its standard output, or both outputs, on a full disk.
    pub fn run_with_full_outputs(&self, both: bool, arguments: &str) -> Ran {
        let script = format!("exec \"$0\" \"$@\" >/dev/full {}", if both { "2>&1" } else { "" });
        let program = env!("CARGO_BIN_EXE_apprentice");
        self.spawn(
            Command::new("sh")
                .args(["-c", &script, program])
                .args(arguments.split_whitespace()),
        )
        .wait()
    }

    /// Runs the program, which must succeed; returns standard output.
    #[track_caller]
    pub fn succeeds(&self, arguments: &str) -> String {
        let ran = self.run(arguments);
        assert!(
            ran.status.success(),
            "{arguments}: {:?}\n{}{}",
            ran.status,
            ran.stdout,
            ran.stderr
        );
        ran.stdout
    }

    /// Runs the program, which must fail with one plain message that contains all of `parts`.
    #[track_caller]
    pub fn fails(&self, arguments: &str, parts: &[&str]) -> String {
        self.run(arguments).fails_with(arguments, parts)
    }
}

impl Ran {
    /// The run must have failed with exit code 1 and one plain message that contains all of `parts`.
    #[track_caller]
    pub fn fails_with(self, what: &str, parts: &[&str]) -> String {
        let Self { status, stderr, .. } = self;
        assert_eq!(status.code(), Some(1), "{what}: {stderr}");
        let messages: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(messages.len(), 1, "{what}: {stderr}");
        assert!(
            !stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"),
            "{what}: {stderr}"
        );
        for part in parts {
            assert!(stderr.contains(part), "{what}: no `{part}` in: {stderr}");
        }
        stderr
    }
}

impl Running {
    /// Waits for the end.
    pub fn wait(mut self) -> Ran {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() > PATIENCE => {
                    self.child.kill().unwrap();
                    panic!(
                        "the program did not end: {}",
                        std::fs::read_to_string(&self.stderr).unwrap()
                    );
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let text = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        Ran {
            status,
            stdout: text(&self.stdout),
            stderr: text(&self.stderr),
        }
    }

    /// Sends the program what Ctrl-C sends once `ready` holds, or lets it end if it is faster, and waits for the end.
    pub fn interrupt_when(self, ready: impl FnMut(&str) -> bool) -> Ran {
        self.signal_when("INT", ready)
    }

    /// Sends the program a signal once `ready` holds, or lets it end if it is faster, and waits for the end.
    pub fn signal_when(mut self, signal: &str, mut ready: impl FnMut(&str) -> bool) -> Ran {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "the program never got there");
            if ready(&std::fs::read_to_string(&self.stderr).unwrap()) {
                let process = self.child.id().to_string();
                Command::new("kill").args(["-s", signal, &process]).status().unwrap();
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        self.wait()
    }
}

/// A few demonstrations, collected with one thread.
pub fn demonstrations() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let place = shared("demonstrations");
        place.succeeds("collect kitchen --episodes 4 --out four.hdf5 --threads 1");
        place.0.keep().join("four.hdf5")
    })
}

/// A run folder with a tiny closed-loop skill model, trained with one thread.
pub fn skills() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let place = shared("skills");
        place.succeeds(&format!(
            "pretrain kitchen/spirl_cl {} --out skills --threads 1",
            tiny()
        ));
        place.0.keep().join("skills")
    })
}

/// [`TINY`] with the shared demonstrations and how they were made.
pub fn tiny() -> String {
    format!(
        "dataset.path={} dataset.collect.episodes=4 {}",
        demonstrations().display(),
        TINY.join(" ")
    )
}

/// A folder that outlives the test which makes it; the one of an earlier run of the tests is removed.
fn shared(name: &str) -> Place {
    let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let prefix = format!("shared_{name}_");
    for entry in std::fs::read_dir(parent).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Place(tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).unwrap())
}

/// Every file below a folder, by its path within it.
pub fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for path in std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, std::fs::read(path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Names of the files below a folder.
pub fn names(folder: &Path) -> Vec<String> {
    files(folder).into_iter().map(|(name, _)| name).collect()
}

/// Fails unless both folders hold the same files with the same bytes.
#[track_caller]
pub fn assert_same(one: &Path, other: &Path) {
    assert_eq!(names(one), names(other));
    for ((name, mine), (_, theirs)) in files(one).iter().zip(&files(other)) {
        assert!(
            mine == theirs,
            "{name} differs in {} and {}",
            one.display(),
            other.display()
        );
    }
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files(from) {
        let path = to.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}
