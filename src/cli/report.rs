//! `apprentice report`: one page that compares runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Failure, print};
use crate::files::write_with_folders;
use crate::report::{self, Options, Report, Source};
use crate::run::make_folder;

/// Compare runs on one page: tables, learning curves, videos, settings; HTML that needs no network.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  apprentice report runs/practice
  apprentice report ours=runs/a,runs/b sac=runs/sac --out report.html --pictures pictures
  apprentice report ours=runs/a sac=runs/sac --csv results/kitchen.csv
  apprentice report results/kitchen.csv --published results/published.csv")]
pub(super) struct Arguments {
    /// Methods: run folders (those after a comma are more seeds of the same method) or CSV files that --csv wrote.
    #[arg(required = true, value_name = "[LABEL=]RUN[,RUN]")]
    runs: Vec<String>,
    /// HTML file to write.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
    /// Write the plots into this folder too, each as SVG and as PNG.
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
    /// Write the results into this CSV file too, to be kept and reported again.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// CSV file of published figures to set beside the results.
    #[arg(long, value_name = "FILE")]
    published: Option<PathBuf>,
    /// What to compare: a tag of the metrics [default: what says most of an episode, such as practice/completed].
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
    /// Title of the page [default: scenes and methods].
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Videos and pictures of the runs become part of the page up to so many MiB; others are linked.
    #[arg(long, value_name = "MIB", default_value_t = 32)]
    embed: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    expect_ending(&arguments.out, "html", "--out: the page is HTML")?;
    if let Some(csv) = &arguments.csv {
        expect_ending(csv, "csv", "--csv: the table is CSV")?;
    }
    let sources: Vec<Source> = (arguments.runs.iter())
        .map(|text| Source::parse(text))
        .collect::<Result<_, String>>()?;
    Source::expect_different(&sources)?;
    let published = arguments.published.as_deref().map(report::read_kept).transpose()?;
    let gathered = report::gather(&sources)?;
    let folder = arguments.out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let options = Options {
        title: arguments.title.clone(),
        tag: arguments.tag.clone(),
        published: published.unwrap_or_default(),
        embed: arguments.embed.saturating_mul(1 << 20),
        folder: folder.unwrap_or(Path::new(".")).to_path_buf(),
    };
    let made = report::report(&gathered, &options)?;
    let table = arguments
        .csv
        .as_ref()
        .map(|_| report::kept_table(&gathered))
        .transpose()?;
    for problem in &made.problems {
        bevy::log::warn!("{problem}");
    }
    put(&arguments.out, made.html.as_bytes())?;
    if let Some(folder) = &arguments.pictures {
        put_pictures(folder, &made)?;
    }
    if let (Some(file), Some(table)) = (&arguments.csv, table) {
        put(file, table.as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn put_pictures(folder: &Path, made: &Report) -> Result<(), Failure> {
    make_folder(folder)?;
    for picture in &made.pictures {
        put(&folder.join(format!("{}.svg", picture.name)), picture.svg.as_bytes())?;
        put(&folder.join(format!("{}.png", picture.name)), &picture.png)?;
    }
    Ok(())
}

fn put(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_with_folders(file, bytes).map_err(|error| format!("{}: cannot write: {error}", file.display()))?;
    print(format_args!("{}", file.display()))
}

fn expect_ending(file: &Path, ending: &str, what: &str) -> Result<(), Failure> {
    match file.extension().is_some_and(|found| found == ending) {
        true => Ok(()),
        false => Err(format!("{}: {what}; expected a name that ends in .{ending}", file.display()).into()),
    }
}
