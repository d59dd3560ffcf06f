//! Mazes: layouts, the physics against formulas, the scenes, the demonstrator.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Instant;

use apprentice::data::Values;
use apprentice::demos::{CollectConfig, DemonstratorSpec, MazeDemos, Rejection, demonstrate};
use apprentice::rng::{Purpose, stream};
use apprentice::scene::maze::{Grid, Layout, RandomLayout};
use apprentice::scene::{Built, CompiledScene, MazeSpec, Scene};
use apprentice::sim::{Environment, step};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use rand::RngExt;

/// Mass of the particle, kg: a sphere of 0.1 m of water.
const MASS: f64 = 4.0 / 3.0 * std::f64::consts::PI * 0.001 * 1000.0;
const STEP: f64 = 0.01;
const DAMPING: f64 = 1.0;
const FORCE: f64 = 100.0;

fn maze(scene: &mut Scene) -> &mut MazeSpec {
    match &mut scene.physics.built {
        Some(Built::Maze(maze)) => maze,
        _ => panic!("not a maze"),
    }
}

fn compiled(name: &str, change: impl FnOnce(&mut Scene)) -> CompiledScene {
    let mut scene = Scene::load(name).unwrap();
    change(&mut scene);
    CompiledScene::new(scene).unwrap()
}

fn rows(rows: &[&str]) -> Layout {
    Layout::Rows(rows.iter().map(|row| (*row).to_owned()).collect())
}

/// A hall without walls inside, `side` cells wide.
fn hall(side: usize) -> Layout {
    let mut rows = vec!["#".repeat(side + 2)];
    rows.extend(vec![format!("#{}#", ".".repeat(side)); side]);
    rows.push("#".repeat(side + 2));
    rows[side / 2].replace_range(side / 2..=side / 2, "S");
    Layout::Rows(rows)
}

/// An environment of the downstream scene in another layout, at a point in joint coordinates.
fn placed(change: impl FnOnce(&mut MazeSpec), at: [f64; 2]) -> (CompiledScene, Environment) {
    let scene = compiled("maze", |scene| {
        change(maze(scene));
        scene.elements[0].goal = vec![0.0, 0.0];
    });
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    environment.begin(&scene, 0, &at);
    (scene, environment)
}

#[test]
fn the_goal_is_the_target_of_the_layout() {
    let goal_in = |layout: Layout| {
        let mut scene = Scene::load("maze").unwrap();
        maze(&mut scene).layout = layout;
        CompiledScene::new(scene).map(|scene| scene.elements()[0].goal.clone())
    };
    assert_eq!(compiled("maze", |_| ()).elements()[0].goal, [18.0, 8.0]);
    assert_eq!(goal_in(rows(&["####", "#S.#", "#.T#", "####"])).unwrap(), [2.0, 2.0]);
    let error = goal_in(hall(5)).unwrap_err().to_string();
    assert!(
        error.starts_with("elements.0.goal: expected two numbers, or a target 'T'"),
        "{error}"
    );
}

/// Velocity after a step of MuJoCo's Euler integrator, with implicit damping.
fn next_velocity(velocity: f64, force: f64) -> f64 {
    velocity + STEP * (force - DAMPING * velocity) / (MASS + STEP * DAMPING)
}

#[track_caller]
fn near(found: f64, expected: f64, tolerance: f64) {
    assert!(
        (found - expected).abs() <= tolerance,
        "expected {expected} within {tolerance}, found {found}"
    );
}

// Layouts.

#[test]
fn the_downstream_layout_is_the_published_one() {
    let grid = maze(&mut Scene::load("maze").unwrap()).grid().unwrap();
    assert_eq!((grid.rows(), grid.columns()), (42, 42));
    assert_eq!(grid.free_cells().count(), 1182);
    let reached = grid.distances((18, 8)).iter().flatten().count();
    assert_eq!(reached, 1181);
    assert_eq!(grid.distance((10, 24), (18, 8)), Some(34));
    assert_eq!((grid.start(), grid.target()), ([10.0, 24.0], Some([18.0, 8.0])));
    // Walls cover 0.26125 of the 40 x 40 cells inside.
    assert_eq!(1600 - 1182, 418);
}

#[test]
fn cells_and_coordinates_agree() {
    let grid = maze(&mut Scene::load("maze").unwrap()).grid().unwrap();
    for cell in [(1, 1), (18, 8), (40, 37)] {
        let [x, y] = Grid::middle(cell);
        near(x, cell.0 as f64 - 0.2, 1e-12);
        near(y, cell.1 as f64 - 0.2, 1e-12);
        assert_eq!(grid.cell_at([x, y]), Some(cell));
        assert_eq!(grid.cell_at([x + 0.49, y - 0.49]), Some(cell));
        assert_eq!(grid.cell_at([x + 0.51, y]), Some((cell.0 + 1, cell.1)));
    }
    assert_eq!(grid.cell_at([-1.0, 3.0]), None);
    assert_eq!(grid.cell_at([3.0, 42.0]), None);
    assert!(!grid.is_wall((3, 42)) && !grid.is_free((3, 42)) && !grid.is_free((usize::MAX, 3)));
}

#[test]
fn faults_of_layouts_are_located() {
    for (layout, field, words) in [
        (rows(&["###", "#S#"]), "layout", "3 to 256 rows"),
        (
            rows(&["####", "#S.#", "###"]),
            "layout.0.2",
            "row 2: expected 4 letters as in row 0, found 3",
        ),
        (
            rows(&["####", "#Sx#", "####"]),
            "layout.0.1",
            "row 1, column 2: expected '#' (wall), '.' (free)",
        ),
        (
            rows(&["####", "#..#", "####"]),
            "layout",
            "expected a start 'S', found none",
        ),
        (
            rows(&["####", "#SS#", "####"]),
            "layout.0.1",
            "row 1, column 2: a second 'S'; the first one is in row 1, column 1",
        ),
        (rows(&["#####", "#STT#", "#####"]), "layout.0.1", "a second 'T'"),
        (
            rows(&["####", "#S.#", "#.##"]),
            "layout.0.2",
            "row 2, column 1: expected a wall '#' all around",
        ),
        (
            rows(&["####", "S..#", "####"]),
            "layout.0.1",
            "row 1, column 0: expected a wall",
        ),
        (
            rows(&["#####", "#S#T#", "#####"]),
            "layout.0.1",
            "no way leads from 'S' to 'T'",
        ),
        (
            Layout::Random(RandomLayout {
                size: 4,
                ..Default::default()
            }),
            "layout.size",
            "expected 5 to 254 cells, found 4",
        ),
        (
            Layout::Random(RandomLayout {
                coverage: 0.9,
                ..Default::default()
            }),
            "layout.coverage",
            "from 0 to 0.5, found 0.9",
        ),
        (
            Layout::Random(RandomLayout {
                longest: 1.5,
                ..Default::default()
            }),
            "layout.longest",
            "from 0 to 1, found 1.5",
        ),
        (
            Layout::Random(RandomLayout {
                shortest: 0.6,
                ..Default::default()
            }),
            "layout.shortest",
            "`longest` (0.5), found 0.6",
        ),
        (
            Layout::Random(RandomLayout {
                temperature: f64::NAN,
                ..Default::default()
            }),
            "layout.temperature",
            "found NaN",
        ),
    ] {
        let (found, reason) = MazeSpec {
            layout,
            ..MazeSpec::default()
        }
        .mjcf()
        .unwrap_err();
        assert_eq!(found, field);
        assert!(reason.contains(words), "{reason:?} does not contain {words:?}");
    }
    let (field, reason) = MazeSpec {
        radius: 0.3,
        ..MazeSpec::default()
    }
    .mjcf()
    .unwrap_err();
    assert_eq!(
        (field.as_str(), reason.as_str()),
        ("radius", "expected a number above 0 and up to 0.2, found 0.3")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_layouts_are_sound(seed in any::<u64>(), size in 5_usize..60, coverage in 0.0..0.4, longest in 0.0..1.0) {
        let layout = RandomLayout { seed, size, coverage, shortest: longest / 2.0, longest, temperature: 20.0 };
        let spec = MazeSpec { layout: Layout::Random(layout), ..MazeSpec::default() };
        let grid = spec.grid().unwrap();
        prop_assert_eq!(&grid, &spec.grid().unwrap());
        prop_assert_eq!((grid.rows(), grid.columns()), (size + 2, size + 2));
        for at in 0..size + 2 {
            prop_assert!([(0, at), (size + 1, at), (at, 0), (at, size + 1)].into_iter().all(|cell| grid.is_wall(cell)));
        }
        let covered = 1.0 - grid.free_cells().count() as f64 / (size * size) as f64;
        prop_assert!(covered >= coverage - 1e-12);
        // The last wall added at most its length and two posts on each side.
        prop_assert!(covered <= coverage + (longest * size as f64).max(3.0).mul_add(1.0, 3.0) / (size * size) as f64);
        let ends = [grid.start(), grid.target().unwrap()].map(|end| grid.cell_at(end).unwrap());
        prop_assert!(ends[0] != ends[1] && ends.iter().all(|&end| grid.is_free(end)));
        prop_assert!(grid.distance(ends[0], ends[1]).is_some());
        for (end, (row, column)) in [grid.start(), grid.target().unwrap()].into_iter().zip(ends) {
            prop_assert!((end[0] - row as f64).abs() <= 0.1 && (end[1] - column as f64).abs() <= 0.1);
        }
        // As text and back.
        let again = Grid::from_rows(&grid.to_rows()).unwrap();
        prop_assert_eq!(again.to_rows(), grid.to_rows());
        // Boxes cover every wall once and nothing else.
        for merged in [false, true] {
            let mut covers = vec![0; (size + 2) * (size + 2)];
            for wall in grid.boxes(merged) {
                for row in wall.row..wall.row + wall.rows {
                    for column in wall.column..wall.column + wall.columns {
                        covers[row * (size + 2) + column] += 1;
                    }
                }
            }
            for (at, &count) in covers.iter().enumerate() {
                prop_assert_eq!(count, i32::from(grid.is_wall((at / (size + 2), at % (size + 2)))));
            }
        }
    }

    #[test]
    fn distances_obey_their_equation(seed in any::<u64>()) {
        let grid = RandomLayout { seed, ..RandomLayout::default() }.draw().unwrap();
        let target = grid.cell_at(grid.target().unwrap()).unwrap();
        let distances = grid.distances(target);
        let distance = |(row, column): (usize, usize)| distances[row * grid.columns() + column];
        prop_assert_eq!(distance(target), Some(0));
        for cell in grid.free_cells().filter(|&cell| cell != target) {
            let nearest = grid.neighbours(cell).filter_map(distance).min();
            prop_assert_eq!(distance(cell), nearest.map(|nearest| nearest + 1));
        }
    }
}

/// The numbers come from 3000 layouts of the original rule, written down again in NumPy.
#[test]
fn random_layouts_have_the_distribution_of_the_original() {
    const LAYOUTS: u64 = 3000;
    let mut sums = [0.0; 5];
    for seed in 0..LAYOUTS {
        let grid = RandomLayout {
            seed,
            ..RandomLayout::default()
        }
        .draw()
        .unwrap();
        let share = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
            let cells = (rows.len() * columns.len()) as f64;
            let walls = rows.flat_map(|row| columns.clone().map(move |column| (row, column)));
            walls.filter(|&cell| grid.is_wall(cell)).count() as f64 / cells
        };
        let ends = [grid.start(), grid.target().unwrap()].map(|end| grid.cell_at(end).unwrap());
        let first = grid.free_cells().next().unwrap();
        let reached = grid.distances(first).iter().flatten().count() as f64;
        for (sum, value) in sums.iter_mut().zip([
            share(1..21, 1..21),
            f64::from(grid.distance(ends[0], ends[1]).unwrap()),
            reached / grid.free_cells().count() as f64,
            share(1..3, 1..21),
            share(10..12, 10..12),
        ]) {
            *sum += value / LAYOUTS as f64;
        }
    }
    println!("covered, distance, reachable, covered at an edge, covered in the middle: {sums:?}");
    // Four standard errors of the difference of two such means.
    near(sums[0], 0.2601, 0.0008);
    near(sums[1], 17.30, 0.95);
    near(sums[2], 0.9820, 0.0095);
    near(sums[3], 0.0833, 0.0055);
    near(sums[4], 0.333, 0.028);
}

// Physics.

#[test]
fn mass_and_acceleration() {
    let (scene, mut environment) = placed(|maze| maze.layout = hall(40), [20.0, 20.0]);
    let masses = scene.model().body_mass();
    near(masses[1], 4.18879, 1e-5);
    near(masses[1], MASS, 1e-12);
    near(FORCE / MASS, 23.9, 0.05);
    environment.step(&scene, &[1.0, -0.5]);
    near(environment.measurement[2], next_velocity(0.0, FORCE), 1e-12);
    near(environment.measurement[3], next_velocity(0.0, -0.5 * FORCE), 1e-12);
    near(
        environment.measurement[0],
        20.0 + STEP * next_velocity(0.0, FORCE),
        1e-12,
    );
}

#[test]
fn actions_and_velocities_are_clipped() {
    let (scene, mut environment) = placed(|maze| maze.layout = hall(40), [5.0, 20.0]);
    let (mut velocity, mut position) = (0.0_f64, 5.0);
    for _ in 0..100 {
        environment.step(&scene, &[7.0, 0.0]);
        velocity = next_velocity(velocity.clamp(-5.0, 5.0), FORCE);
        position += STEP * velocity;
        near(environment.measurement[2], velocity, 1e-9);
        near(environment.measurement[0], position, 1e-9);
    }
    near(velocity, next_velocity(5.0, FORCE), 1e-12);
    // Left alone it slows down by its damping alone.
    for _ in 0..50 {
        environment.step(&scene, &[0.0, 0.0]);
        velocity = next_velocity(velocity.clamp(-5.0, 5.0), 0.0);
        near(environment.measurement[2], velocity, 1e-9);
    }
}

#[test]
fn nothing_moves_by_itself() {
    let (scene, mut environment) = placed(|maze| maze.layout = hall(6), [3.1, 2.7]);
    for _ in 0..2000 {
        environment.step(&scene, &[0.0, 0.0]);
    }
    assert_eq!(*environment.measurement, [3.1, 2.7, 0.0, 0.0]);
}

#[test]
fn walls_stop_the_particle_and_are_smooth() {
    for merge_walls in [true, false] {
        let change = |maze: &mut MazeSpec| {
            maze.layout = hall(30);
            maze.merge_walls = merge_walls;
        };
        let (scene, mut environment) = placed(change, [3.0, 1.0]);
        // The inner faces of the outer walls are at 0.5 m - 1.2 m + 1 m in joint coordinates; a radius off is 0.4.
        for _ in 0..200 {
            environment.step(&scene, &[0.0, -1.0]);
        }
        near(environment.measurement[1], 0.4, 0.002);
        near(environment.measurement[3], 0.0, 1e-3);
        // Along the wall it accelerates as if the wall were not there; single boxes have seams.
        let (mut velocity, mut position) = (0.0_f64, environment.measurement[0]);
        for _ in 0..300 {
            environment.step(&scene, &[1.0, -1.0]);
            velocity = next_velocity(velocity.clamp(-5.0, 5.0), FORCE);
            position += STEP * velocity;
        }
        let difference = (environment.measurement[0] - position).abs();
        println!(
            "merged {merge_walls}: {difference} m behind after {:.1} m along a wall",
            position - 3.0
        );
        assert!(difference < if merge_walls { 1e-9 } else { 0.01 });
    }
}

#[test]
fn friction_slows_down_along_walls() {
    let change = |maze: &mut MazeSpec| {
        maze.layout = hall(30);
        maze.friction = 0.5;
    };
    let (scene, mut environment) = placed(change, [3.0, 0.5]);
    for _ in 0..100 {
        environment.step(&scene, &[0.0, -1.0]);
    }
    let before = environment.measurement[2];
    for _ in 0..10 {
        environment.step(&scene, &[1.0, -1.0]);
    }
    // Up to half of the force that presses is lost; MuJoCo's friction gives way a little.
    let gained = (environment.measurement[2] - before) / (10.0 * STEP * FORCE / MASS);
    assert!((0.5..0.6).contains(&gained), "{gained}");
}

#[test]
fn no_wall_is_ever_crossed() {
    let scene = compiled("maze", |_| ());
    let grid = maze(&mut scene.scene().clone()).grid().unwrap();
    let mut random = stream(5, Purpose::Bootstrap, 0, 0);
    let mut deepest = 0.0_f64;
    let mut visited = std::collections::BTreeSet::new();
    for episode in 0..20 {
        let mut environment = Environment::new(&scene, 0, episode).unwrap();
        let mut push = [0.0; 2];
        for time in 0..2000 {
            // Long pushes, so that it hits walls at full speed.
            if time % 40 == 0 {
                push = [0.0; 2].map(|_: f64| random.random_range(-1.5..1.5));
            }
            let outcome = environment.step(&scene, &push);
            assert_eq!(outcome.fault, None);
            let [x, y] = [environment.measurement[0], environment.measurement[1]];
            let (row, column) = grid.cell_at([x, y]).unwrap();
            assert!(grid.is_free((row, column)), "in the wall at ({x}, {y})");
            visited.insert((row, column));
            let [middle_x, middle_y] = Grid::middle((row, column));
            for (off, beside) in [
                (x - middle_x, (row + 1, column)),
                (middle_x - x, (row - 1, column)),
                (y - middle_y, (row, column + 1)),
                (middle_y - y, (row, column - 1)),
            ] {
                if grid.is_wall(beside) {
                    deepest = deepest.max(off + 0.1 - 0.5);
                }
            }
        }
    }
    println!("deepest {deepest} m, {} cells visited", visited.len());
    assert!(deepest < 0.06 && visited.len() > 100);
}

#[test]
fn boxes_and_cells_move_the_same_without_seams() {
    let run = |merge_walls: bool| {
        let change = |maze: &mut MazeSpec| {
            maze.layout = rows(&["#######", "#S...##", "#.....#", "#.#...#", "#.....#", "#######"]);
            maze.merge_walls = merge_walls;
        };
        let (scene, mut environment) = placed(change, [0.9, 0.9]);
        let mut path = Vec::new();
        for time in 0..60 {
            let action = if time < 30 { [0.0, 0.8] } else { [0.6, -0.4] };
            environment.step(&scene, &action);
            path.push([environment.measurement[0], environment.measurement[1]]);
        }
        path
    };
    for (merged, single) in run(true).into_iter().zip(run(false)) {
        near(merged[0], single[0], 1e-9);
        near(merged[1], single[1], 1e-9);
    }
}

// Scenes.

#[test]
fn the_downstream_scene() {
    let scene = compiled("maze", |_| ());
    assert_eq!((scene.observation_len(), scene.action_len()), (4, 2));
    assert_eq!((scene.model().nq(), scene.model().nv()), (2, 2));
    assert_eq!(scene.period(), 0.01);
    let names: Vec<_> = scene.channels().iter().map(|channel| channel.name.as_str()).collect();
    assert_eq!(names, ["x", "y", "x", "y"]);
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    assert_eq!(*environment.measurement, [10.0, 24.0, 0.0, 0.0]);
    let outcomes: Vec<_> = (0..2000).map(|_| environment.step(&scene, &[0.0, 0.0])).collect();
    assert!(
        outcomes
            .iter()
            .all(|outcome| !outcome.terminated && outcome.reward == 0.0)
    );
    assert!(outcomes[1999].truncated && !outcomes[1998].truncated);
}

#[test]
fn every_step_at_the_goal_is_rewarded() {
    let reward_at = |scene: &CompiledScene, offset: f64| {
        let mut environment = Environment::new(scene, 0, 0).unwrap();
        environment.begin(scene, 0, &[18.0, 8.0 - offset]);
        let outcomes = [(); 3].map(|()| environment.step(scene, &[0.0, 0.0]));
        assert!(outcomes.iter().all(|outcome| !outcome.terminated));
        outcomes.map(|outcome| outcome.reward)
    };
    let scene = compiled("maze", |_| ());
    assert_eq!(reward_at(&scene, 0.0), [1.0; 3]);
    assert_eq!(reward_at(&scene, 1.99), [1.0; 3]);
    assert_eq!(reward_at(&scene, 2.01), [0.0; 3]);
    let strict = CompiledScene::load("maze", &["elements.0.threshold=1.0".into()]).unwrap();
    assert_eq!(reward_at(&strict, 0.99), [1.0; 3]);
    assert_eq!(reward_at(&strict, 1.01), [0.0; 3]);
}

#[test]
fn the_other_scenes() {
    let pixels = compiled("maze_pixels", |_| ());
    assert!(pixels.scene().observation.pixels.is_some());
    let mut without = pixels.scene().clone();
    without.observation.pixels = None;
    assert_eq!(&without, compiled("maze", |_| ()).scene());
    let data = compiled("maze_data", |_| ());
    let grid = maze(&mut data.scene().clone()).grid().unwrap();
    assert_eq!(data.start(), grid.start());
    assert!(data.scene().reset.positions.is_empty());
    assert_eq!(data.elements()[0].goal, grid.target().unwrap());
}

#[test]
fn parts_of_the_model_have_their_places() {
    let scene = compiled("maze", |_| ());
    let (model, state) = (scene.model(), scene.fresh());
    let geom = |name: &str| model.geom(name).unwrap().id;
    for (name, place) in [
        ("particle", [11.2, 25.2, 0.0]),
        ("particle_disc", [11.2, 25.2, 0.0]),
        ("target_disc", [19.0, 9.0, 0.0]),
    ] {
        for (found, expected) in state.geom_xpos()[geom(name)].into_iter().zip(place) {
            near(found, expected, 1e-12);
        }
    }
    let hidden = geom("particle");
    for id in 0..model.ngeom() as usize {
        assert_eq!(model.geom_group()[id] >= 3, id == hidden);
    }
    // The floor reaches below the whole maze.
    assert!(model.geom_size()[geom("floor")][0] >= 42.5);
}

// The demonstrator.

fn config(change: impl FnOnce(&mut MazeDemos)) -> CollectConfig {
    let mut demos = MazeDemos::default();
    change(&mut demos);
    CollectConfig {
        demonstrator: Some(DemonstratorSpec::Maze(demos)),
        ..CollectConfig::default()
    }
}

/// Shares of attempts that are finished, and steps for each cell of the way.
fn solved(scene: &str, attempts: u64, change: impl Fn(&mut MazeDemos)) -> (f64, f64, f64) {
    let scene = Scene::load(scene).unwrap();
    let config = config(|demos| {
        demos.keep_unfinished = false;
        demos.too_short = 0;
        change(demos);
    });
    let (mut done, mut steps, mut cells) = (0, 0, 0.0);
    for attempt in 0..attempts {
        match demonstrate(&config, &scene, attempt).unwrap() {
            Ok(demonstration) => {
                done += 1;
                steps += demonstration.episode.len();
                cells += demonstration.account.figures[0].1;
            }
            Err(reason) => println!("attempt {attempt}: {reason}"),
        }
    }
    (
        f64::from(done) / attempts as f64,
        steps as f64 / cells,
        steps as f64 / f64::from(done),
    )
}

#[test]
fn the_demonstrator_finds_its_way() {
    let (share, per_cell, steps) = solved("maze_data", 60, |demos| demos.step_limit = 3000);
    println!("solved {share}, {per_cell} steps a cell, {steps} steps");
    assert_eq!(share, 1.0);
}

#[test]
#[ignore = "takes long"]
fn the_demonstrator_solves_nearly_every_maze() {
    let (share, per_cell, steps) = solved("maze_data", 1000, |demos| demos.step_limit = 3000);
    println!("small mazes: solved {share}, {per_cell} steps a cell, {steps} steps");
    assert!(share >= 0.99);
    let (limited, ..) = solved("maze_data", 1000, |demos| demos.step_limit = 500);
    println!("within 500 steps: {limited}");
    let (share, ..) = solved("maze", 200, |demos| demos.step_limit = 5000);
    println!("the downstream maze: {share}");
    assert!(share >= 0.99);
    let (share, ..) = solved("maze_data", 500, |demos| {
        demos.step_limit = 3000;
        demos.noise = 0.5;
    });
    println!("with noise: {share}");
    assert!(share >= 0.99);
}

#[test]
fn demonstrations_hold_what_pictures_need() {
    let scene = Scene::load("maze_data").unwrap();
    let spec = maze(&mut scene.clone()).clone();
    let config = config(|_| ());
    let mut layouts = Vec::new();
    let mut lengths = Vec::new();
    for attempt in 0..20 {
        let demonstration = match demonstrate(&config, &scene, attempt).unwrap() {
            Ok(demonstration) => demonstration,
            Err(reason) => {
                assert_eq!(reason, Rejection::TooShort);
                continue;
            }
        };
        let episode = &demonstration.episode;
        assert!((21..=500).contains(&episode.len()));
        let column = |name: &str| match &episode.infos[name].values {
            Values::F64(values) => values.clone(),
            Values::I64(values) => values.iter().map(|&value| value as f64).collect(),
            _ => panic!("{name} has another type"),
        };
        let tasks = column("layout");
        assert!(tasks.iter().all(|task| *task == tasks[0]));
        let grid = spec.drawn(tasks[0] as u64).unwrap().grid().unwrap();
        let path: Vec<_> = column("qpos")
            .chunks(2)
            .map(|at| grid.cell_at([at[0], at[1]]).unwrap())
            .collect();
        assert!(path.iter().all(|&cell| grid.is_free(cell)));
        assert_eq!(Some(path[0]), grid.cell_at(grid.start()));
        // Every new cell is one step nearer to the target.
        let target = grid.cell_at(grid.target().unwrap()).unwrap();
        let distances: Vec<_> = path.iter().map(|&cell| grid.distance(cell, target).unwrap()).collect();
        assert!(distances.is_sorted_by(|before, after| before == after || *before == after + 1));
        if episode.len() < 500 {
            assert_eq!(distances.last(), Some(&0));
            assert_eq!(episode.rewards.last(), Some(&1.0));
        }
        layouts.push(tasks[0] as u64);
        lengths.push(episode.len());
        assert_eq!(
            demonstrate(&config, &scene, attempt).unwrap().as_ref(),
            Ok(&demonstration)
        );
    }
    let different: std::collections::BTreeSet<_> = layouts.iter().collect();
    assert!(layouts.len() > 15 && different.len() == layouts.len());
    println!("{lengths:?}");
}

#[test]
fn a_fixed_maze_gets_other_ends() {
    let spec = maze(&mut Scene::load("maze").unwrap()).clone();
    let walls = |grid: &Grid| grid.to_rows().join("\n").replace(['S', 'T'], ".");
    let grid = spec.grid().unwrap();
    let mut starts = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let other = spec.drawn(seed).unwrap().grid().unwrap();
        assert_eq!(walls(&other), walls(&grid));
        starts.insert(other.start().map(f64::to_bits));
    }
    assert!(starts.len() > 15);
}

// Speed.

/// Control steps a second of one environment on one thread, with random actions that change every ten steps.
fn speed(merge_walls: bool) -> f64 {
    const STEPS: u32 = 50_000;
    let scene = compiled("maze", |scene| maze(scene).merge_walls = merge_walls);
    let mut environment = Environment::new(&scene, 0, 0).unwrap();
    let mut random = stream(1, Purpose::Bootstrap, 0, 0);
    let mut action = [0.0_f32; 2];
    let began = Instant::now();
    for time in 0..STEPS {
        if time % 2000 == 0 {
            step::reset(&scene, &mut environment.physics);
        }
        if time % 10 == 0 {
            action = action.map(|_| random.random_range(-1.0..1.0));
        }
        environment.step(&scene, &action);
    }
    f64::from(STEPS) / began.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
fn how_fast_it_is() {
    for merge_walls in [true, false] {
        let geoms = compiled("maze", |scene| maze(scene).merge_walls = merge_walls)
            .model()
            .ngeom();
        let speeds = [(); 3].map(|()| speed(merge_walls));
        println!("merged {merge_walls}, {geoms} geoms: {speeds:.0?} steps a second");
        assert!(!merge_walls || speeds.into_iter().any(|speed| speed > 25_000.0));
    }
}
