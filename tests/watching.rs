//! Watching a world: what snapshots show, that requests are followed, and that watching changes nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use apprentice::agents::{AgentPlugin, AgentState, Agents, Behaviour, SkillDecoder, agent_bundle};
use apprentice::app::{self, Ended, StopRequest};
use apprentice::evaluate::{Evaluation, EvaluationPlugin, EvaluationSchedule};
use apprentice::experiment::{Experiment, TrainingConfig};
use apprentice::learners::sac::{CriticConfig, Sac, SacConfig, SacDims};
use apprentice::metrics::{Row, read_scalars};
use apprentice::nn::{Mode, Norm};
use apprentice::practice::{EpisodeResult, Practice, PracticePlugin, RecentEpisodes, RecentUpdates, Replays, Seed};
use apprentice::pretraining::Pretrain;
use apprentice::replay::ReplayBuffer;
use apprentice::rng::{Purpose, stream};
use apprentice::run::{self, EvaluationPlan, RunFolder, Settings, TrainPlan};
use apprentice::scene::CompiledScene;
use apprentice::sim::{Environment, Observation, Physics, SimPlugin, spawn_environment};
use apprentice::skills::spirl::{Spirl, SpirlConfig};
use apprentice::skills::{SkillDims, SkillModel};
use apprentice::tick::{Tick, TickCount};
use apprentice::watch::{
    Pace, Request, SkillView, Snapshot, WatchPlugin, WatcherLink, WorldLink, link, moved_by, moving_bodies,
};
use bevy::prelude::*;
use candle_core::{DType, Device, Tensor};
use tempfile::TempDir;

/// Nothing that is waited for takes nearly as long, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Control steps of an episode.
const EPISODE: u32 = 30;
/// Ticks of a skill.
const SKILL: usize = 4;
const SEEDS: [u64; 2] = [3, 5];

const MODEL: &str = r#"<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <site name="anchor" pos="0 0 1"/>
    <body name="base"><geom type="box" size=".05 .05 .05"/></body>
    <body name="upper" pos="0 0 .5">
      <joint name="shoulder" axis="0 1 0" damping=".5"/>
      <geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
      <site name="middle" pos=".1 0 .05"/>
      <body name="fixed" pos=".15 .1 0"><geom type="sphere" size=".03"/></body>
      <body name="lower" pos=".3 0 0">
        <joint name="elbow" axis="0 1 0" damping=".5"/>
        <geom type="capsule" fromto="0 0 0 .3 0 0" size=".02"/>
        <site name="end" pos=".2 0 0"/>
      </body>
    </body>
    <body name="sled" pos="0 2 0">
      <joint name="sled" type="slide" axis="1 0 0" damping="1"/>
      <geom type="box" size=".1 .1 .1"/>
    </body>
  </worldbody>
  <tendon>
    <fixed name="couple"><joint joint="shoulder" coef="1"/><joint joint="elbow" coef="1"/></fixed>
    <spatial name="wire">
      <site site="anchor"/><site site="middle"/><pulley divisor="2"/><site site="middle"/><site site="end"/>
    </spatial>
  </tendon>
  <actuator>
    <position name="shoulder" joint="shoulder" kp="20"/>
    <position name="elbow" joint="elbow" kp="20"/>
  </actuator>
</mujoco>"#;

const SCENE: &str = r#"(
    physics: (model: "MODEL", frame_skip: 5),
    control: VelocityLimitedPosition(
        speed: 2.0,
        servos: [
            (joint: "shoulder", actuator: "shoulder", range: (-2.0, 2.0)),
            (joint: "elbow", actuator: "elbow", range: (-2.0, 2.0)),
        ],
    ),
    observation: (
        terms: [Position(joints: ["shoulder", "elbow"], noise: [0.01]), Velocity(joints: ["shoulder", "elbow"])],
    ),
    reset: (),
    elements: [
        (name: "arm", joints: ["shoulder"], goal: [0.3], threshold: 0.2),
        (name: "fold", joints: ["elbow"], goal: [-1.9], threshold: 0.01),
    ],
    task: (elements: ["arm", "fold"]),
    episode: (steps: 30),
)"#;

/// A scene in a folder of its own: an arm with two joints, a wire along it, and a sled that stands still.
fn arm() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let (model, scene) = (folder.path().join("arm.xml"), folder.path().join("arm.ron"));
    std::fs::write(&model, MODEL).unwrap();
    std::fs::write(&scene, SCENE.replace("MODEL", model.to_str().unwrap())).unwrap();
    (folder, scene.to_str().unwrap().to_owned())
}

fn compiled() -> CompiledScene {
    let (_folder, scene) = arm();
    CompiledScene::load(&scene, &[]).unwrap()
}

/// A world in which learners of [`SEEDS`] practise skills in two environments each; an evaluation comes up on the way.
fn practice(link: Option<WorldLink>, stop: StopRequest) -> App {
    let mut app = app::headless(2, stop);
    app.add_plugins((SimPlugin, AgentPlugin, PracticePlugin, EvaluationPlugin));
    if let Some(link) = link {
        app.add_plugins(WatchPlugin { link });
    }
    app.finish();
    app.cleanup();
    let world = app.world_mut();
    let compiled = compiled();
    let dims = SkillDims {
        state: compiled.observation_len(),
        action: compiled.action_len(),
        pixels: None,
    };
    let config = SpirlConfig {
        latent: 3,
        length: SKILL,
        encoder_output: 8,
        lstm_width: 8,
        width: 16,
        decoder_hidden_layers: 1,
        prior_hidden_layers: 1,
        ..SpirlConfig::default()
    };
    let model = Spirl::new(config, dims, &mut stream(0, Purpose::Weights, 0, 0)).unwrap();
    let prior = model.policy_prior().unwrap();
    let skills: Arc<dyn SkillModel> = Arc::new(model);
    let training = TrainingConfig {
        warmup: 8,
        ..TrainingConfig::default()
    };
    let scene = world.spawn(compiled).id();
    for seed in SEEDS {
        let config = SacConfig {
            critic: CriticConfig {
                width: 16,
                hidden: 1,
                norm: Norm::None,
            },
            batch: 16,
            policy_lr: 1e-2,
            ..SacConfig::default()
        };
        let sizes = SacDims {
            observation: dims.state,
            action: 3,
        };
        let sac = Sac::new(config, sizes, Some(&prior), &mut stream(seed, Purpose::Weights, 1, 0)).unwrap();
        let buffer = world.spawn(ReplayBuffer::new(10_000, dims.state, 3).unwrap()).id();
        let learner = world
            .spawn((
                Seed(seed),
                sac,
                Practice::new(&training, seed),
                Replays(buffer),
                SkillDecoder(skills.clone()),
                RecentEpisodes::default(),
                RecentUpdates::default(),
                Evaluation::default(),
                EvaluationSchedule {
                    scene,
                    episodes: 2,
                    every: 60,
                    next: 60,
                    again: false,
                    begun: 0,
                },
            ))
            .id();
        for slot in 0..2 {
            let environment = spawn_environment(world, scene, slot, seed).unwrap();
            let stream = stream(seed, Purpose::Policy, slot as u64, 0);
            let rule = training.transitions;
            world.spawn(agent_bundle(environment, learner, Behaviour::Practises, rule, stream));
        }
    }
    app
}

type Bits = BTreeMap<String, Vec<u64>>;

/// Everything that a learner's checkpoint would hold, and its results.
#[derive(Debug, PartialEq)]
struct Learned {
    weights: Bits,
    replay: BTreeMap<String, Bits>,
    practice: Practice,
    agents: Vec<AgentState>,
    episodes: Vec<EpisodeResult>,
    evaluated: Vec<EpisodeResult>,
}

fn bits(tensors: BTreeMap<String, Tensor>) -> Bits {
    let bits = |tensor: Tensor| {
        let flat = tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
        flat.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect()
    };
    tensors.into_iter().map(|(name, tensor)| (name, bits(tensor))).collect()
}

fn learned(world: &mut World) -> Vec<Learned> {
    type Parts<'a> = (
        &'a Seed,
        &'a Sac,
        &'a Practice,
        &'a Replays,
        &'a Agents,
        &'a RecentEpisodes,
        &'a Evaluation,
    );
    let mut learners = world.query::<Parts>();
    let mut found: Vec<_> = learners.iter(world).collect();
    found.sort_by_key(|(seed, ..)| seed.0);
    found
        .into_iter()
        .map(|(_, sac, practice, replays, agents, episodes, evaluation)| Learned {
            weights: bits(sac.export().unwrap()),
            replay: world
                .get::<ReplayBuffer>(replays.0)
                .unwrap()
                .export()
                .unwrap()
                .into_iter()
                .map(|(file, tensors)| (file, bits(tensors)))
                .collect(),
            practice: practice.clone(),
            agents: agents
                .iter()
                .filter_map(|agent| AgentState::capture(world, agent))
                .collect(),
            episodes: episodes.0.clone(),
            evaluated: evaluation.results.clone(),
        })
        .collect()
}

/// Runs a world of [`practice`] on a thread of its own for `ticks` ticks.
fn started(ticks: u64, link: Option<WorldLink>, stop: StopRequest) -> JoinHandle<(Ended, Vec<Learned>)> {
    thread::spawn(move || {
        let mut app = practice(link, stop);
        let ended = app::run(&mut app, |world| world.resource::<TickCount>().0 >= ticks).unwrap();
        (ended, learned(app.world_mut()))
    })
}

fn next(watcher: &WatcherLink) -> Box<Snapshot> {
    watcher.filled.recv_timeout(PATIENCE).unwrap()
}

/// The world may have ended by now.
fn hand_back(watcher: &WatcherLink, snapshot: Box<Snapshot>) {
    let _ = watcher.empty.send(snapshot);
}

fn ask(watcher: &WatcherLink, request: Request) {
    watcher.requests.send(request).unwrap();
}

/// Takes snapshots until one is as wanted.
fn await_snapshot(watcher: &WatcherLink, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
    loop {
        let snapshot = next(watcher);
        let found = wanted(&snapshot).then(|| (*snapshot).clone());
        hand_back(watcher, snapshot);
        if let Some(found) = found {
            return found;
        }
    }
}

/// One tick of a world that runs in this thread, and its snapshot.
fn tick(app: &mut App, watcher: &WatcherLink) -> Box<Snapshot> {
    app.world_mut().run_schedule(Tick);
    watcher.filled.try_recv().unwrap()
}

#[test]
fn a_watched_world_learns_the_same_bits() {
    const TICKS: u64 = 150;
    let alone = started(TICKS, None, StopRequest::default());
    let (to_world, watcher) = link(Pace::Unlimited, 3);
    let world = started(TICKS, Some(to_world), StopRequest::default());
    let mut seen = 0;
    while let Ok(snapshot) = watcher.filled.recv_timeout(PATIENCE) {
        let picked = snapshot.environments.get(seen % snapshot.environments.len().max(1));
        let picked = picked.map(|view| view.environment);
        hand_back(&watcher, snapshot);
        let requests = match seen % 8 {
            0 => vec![Request::Inspect(picked)],
            1 => vec![Request::Pace(Pace::Paused), Request::Ticks(1)],
            2 => vec![Request::Ticks(2), Request::Inspect(picked)],
            3 => vec![Request::Pace(Pace::Limited(400.0))],
            4 => vec![Request::Inspect(None), Request::Save],
            5 => vec![Request::Pace(Pace::EveryTick)],
            6 => vec![Request::Inspect(picked)],
            _ => vec![Request::Pace(Pace::Unlimited)],
        };
        for request in requests {
            // The world may have ended by now.
            let _ = watcher.requests.send(request);
        }
        seen += 1;
    }
    let (alone, watched) = (alone.join().unwrap(), world.join().unwrap());
    assert!(seen >= 10, "{seen} snapshots");
    let unsaved: Vec<_> = watcher.notices.try_iter().collect();
    assert!(
        unsaved.iter().all(Result::is_err),
        "nothing here has checkpoints: {unsaved:?}"
    );
    for learner in &alone.1 {
        assert!(learner.practice.steps > 0 && learner.practice.episodes > 0 && learner.evaluated.len() == 2);
    }
    assert!(alone == watched);
}

#[test]
fn a_paused_world_runs_the_ticks_that_are_asked_for() {
    let (to_world, watcher) = link(Pace::Paused, 3);
    let world = started(20, Some(to_world), StopRequest::default());
    let first = await_snapshot(&watcher, |_| true);
    assert_eq!((first.tick, first.pace), (1, Some(Pace::Paused)));
    let stays_at = |tick| {
        thread::sleep(Duration::from_millis(80));
        assert!(watcher.filled.is_empty(), "nothing has changed");
        ask(&watcher, Request::Inspect(Some(first.environments[0].environment)));
        let shown = await_snapshot(&watcher, |_| true);
        assert_eq!(shown.tick, tick);
        shown
    };
    assert!(stays_at(1).inspected.is_some());
    ask(&watcher, Request::Ticks(3));
    await_snapshot(&watcher, |snapshot| snapshot.tick == 4);
    stays_at(4);
    ask(&watcher, Request::Ticks(1));
    ask(&watcher, Request::Ticks(1));
    await_snapshot(&watcher, |snapshot| snapshot.tick == 6);
    stays_at(6);
    ask(&watcher, Request::Pace(Pace::Limited(0.0)));
    let refused = watcher.notices.recv_timeout(PATIENCE).unwrap().unwrap_err();
    assert!(refused.contains("rate above zero"), "{refused}");
    await_snapshot(&watcher, |_| true);
    stays_at(6);
    ask(&watcher, Request::Pace(Pace::Unlimited));
    assert_eq!(world.join().unwrap().0, Ended::Finished);
}

#[test]
fn a_limited_world_keeps_its_rate() {
    let stop = StopRequest::default();
    let (to_world, watcher) = link(Pace::Limited(40.0), 3);
    let world = started(u64::MAX, Some(to_world), stop.clone());
    let first = await_snapshot(&watcher, |_| true).tick;
    let from = Instant::now();
    let last = await_snapshot(&watcher, |snapshot| snapshot.tick >= first + 30).tick;
    let rate = (last - first) as f64 / from.elapsed().as_secs_f64();
    assert!((10.0..44.0).contains(&rate), "{rate} ticks a second");
    // A request does not wait for the next tick.
    ask(&watcher, Request::Pace(Pace::Limited(0.001)));
    await_snapshot(&watcher, |snapshot| snapshot.pace == Some(Pace::Limited(0.001)));
    let from = Instant::now();
    ask(&watcher, Request::Pace(Pace::EveryTick));
    await_snapshot(&watcher, |snapshot| snapshot.tick > last + 5);
    assert!(from.elapsed() < Duration::from_secs(20));
    stop.make();
    assert_eq!(world.join().unwrap().0, Ended::Stopped);
}

#[test]
fn a_world_goes_on_without_its_watcher() {
    for pace in [Pace::Paused, Pace::EveryTick, Pace::Limited(0.01), Pace::Unlimited] {
        let (to_world, watcher) = link(pace, 2);
        let world = started(40, Some(to_world), StopRequest::default());
        await_snapshot(&watcher, |_| true);
        drop(watcher);
        assert_eq!(world.join().unwrap().0, Ended::Finished, "{pace:?}");
    }
}

#[test]
fn a_waiting_world_can_be_stopped() {
    for pace in [Pace::Paused, Pace::EveryTick, Pace::Limited(0.01)] {
        let stop = StopRequest::default();
        let (to_world, watcher) = link(pace, 1);
        let world = started(u64::MAX, Some(to_world), stop.clone());
        // The only snapshot is not handed back.
        next(&watcher);
        stop.make();
        assert_eq!(world.join().unwrap().0, Ended::Stopped, "{pace:?}");
    }
}

#[test]
fn every_tick_is_shown_if_that_is_asked_for() {
    let (to_world, watcher) = link(Pace::EveryTick, 3);
    let world = started(60, Some(to_world), StopRequest::default());
    let mut ticks = Vec::new();
    while let Ok(snapshot) = watcher.filled.recv_timeout(PATIENCE) {
        if ticks.len() % 7 == 3 {
            thread::sleep(Duration::from_millis(5));
        }
        ticks.push(snapshot.tick);
        hand_back(&watcher, snapshot);
    }
    world.join().unwrap();
    assert_eq!(ticks, (1..=60).collect::<Vec<_>>());

    // A watcher that keeps every snapshot until the world is paused gets its pause.
    let (to_world, watcher) = link(Pace::EveryTick, 1);
    let world = started(60, Some(to_world), StopRequest::default());
    let kept = next(&watcher);
    ask(&watcher, Request::Pace(Pace::Paused));
    thread::sleep(Duration::from_millis(50));
    hand_back(&watcher, kept);
    await_snapshot(&watcher, |snapshot| snapshot.pace == Some(Pace::Paused));
    drop(watcher);
    world.join().unwrap();
}

#[test]
fn environments_come_in_order_with_the_poses_of_the_physics() {
    let (to_world, watcher) = link(Pace::Unlimited, 1);
    let mut app = practice(Some(to_world), StopRequest::default());
    let scene = compiled();
    let moving = moving_bodies(scene.model());
    // World, base, upper, fixed, lower, sled.
    assert_eq!(moving, [2, 4, 5]);
    assert_eq!(
        moved_by(scene.model()),
        [None, None, Some(0), Some(0), Some(1), Some(2)]
    );
    let mut with_evaluations = 0;
    for count in 1..=100 {
        let snapshot = tick(&mut app, &watcher);
        assert_eq!((snapshot.tick, snapshot.learners.len()), (count, 2));
        let order: Vec<_> = (snapshot.environments.iter())
            .map(|view| (view.seed, view.evaluates, view.slot))
            .collect();
        let practising = [(3, false, 0), (3, false, 1), (5, false, 0), (5, false, 1)];
        assert!(
            order.is_sorted() && practising.iter().all(|view| order.contains(view)),
            "{order:?}"
        );
        with_evaluations += usize::from(order.contains(&(5, true, 1)));
        assert_eq!(snapshot.poses.len(), order.len() * moving.len());
        let world = app.world();
        for (index, view) in snapshot.environments.iter().enumerate() {
            let Some(physics) = world.get::<Physics>(view.environment) else {
                assert!(view.evaluates, "only those leave");
                continue;
            };
            let poses = snapshot.poses_of(index, moving.len());
            for (pose, &body) in poses.iter().zip(&moving) {
                assert_eq!(pose.position, physics.xpos()[body].map(|number| number as f32));
                assert_eq!(pose.rotation, physics.xquat()[body].map(|number| number as f32));
            }
            assert_eq!(view.done.len(), 2);
            if let Some((elapsed, length)) = view.skill {
                assert_eq!((elapsed, length), ((view.step as usize - 1) % SKILL + 1, SKILL));
            } else {
                assert_eq!(view.step, EPISODE, "the skill is dropped at the end of an episode");
            }
            assert_eq!(
                view.last_return.is_some(),
                !view.evaluates && count >= u64::from(EPISODE)
            );
        }
        let learner = &snapshot.learners[1];
        let practice = world.get::<Practice>(learner.learner).unwrap();
        assert_eq!((learner.seed, learner.steps, learner.budget), (5, practice.steps, None));
        assert_eq!(learner.transitions, practice.transitions);
        assert_eq!(learner.updates, world.get::<Sac>(learner.learner).unwrap().updates());
        assert_eq!(snapshot.recent_skills.len() >= 4, count >= 1);
        hand_back(&watcher, snapshot);
    }
    assert_eq!(with_evaluations, EPISODE as usize, "the last step is among them");
}

#[test]
fn tendons_are_lines_through_their_sites() {
    let (to_world, watcher) = link(Pace::Unlimited, 1);
    let mut app = practice(Some(to_world), StopRequest::default());
    let snapshot = tick(&mut app, &watcher);
    let environment = snapshot.environments[2].environment;
    assert_eq!(snapshot.inspected, None);
    hand_back(&watcher, snapshot);
    ask(&watcher, Request::Inspect(Some(environment)));
    let snapshot = tick(&mut app, &watcher);
    hand_back(&watcher, snapshot);
    let snapshot = tick(&mut app, &watcher);
    let view = snapshot.inspected.as_ref().unwrap();
    let sites = app.world().get::<Physics>(environment).unwrap().site_xpos().to_vec();
    let [anchor, middle, end] = [0, 1, 2].map(|site| sites[site].map(|number| number as f32));
    assert_eq!(view.tendons, [vec![anchor, middle], vec![middle, end]]);
}

/// The view of a skill that has just begun, after enough ticks for the policy to have left the prior.
fn chosen_skill(app: &mut App, watcher: &WatcherLink) -> (Entity, SkillView, Vec<f32>) {
    for count in 0.. {
        let snapshot = tick(app, watcher);
        let environment = snapshot.environments[0].environment;
        if count == 0 {
            ask(watcher, Request::Inspect(Some(environment)));
        }
        let view = snapshot.inspected.clone();
        hand_back(watcher, snapshot);
        if let Some(view) = view
            && count > 60
            && view.history.last().is_some_and(|step| step.decides)
        {
            return (environment, view.skill.unwrap(), view.observation);
        }
    }
    unreachable!()
}

#[test]
fn an_inspected_agent_shows_what_its_learner_thinks() {
    let (to_world, watcher) = link(Pace::Unlimited, 1);
    let mut app = practice(Some(to_world), StopRequest::default());
    let (environment, skill, observation) = chosen_skill(&mut app, &watcher);
    assert_eq!((skill.elapsed, skill.length, skill.chosen.len()), (1, SKILL, 3));
    let world = app.world_mut();
    assert_eq!(world.get::<Observation>(environment).unwrap().0, observation);
    let learner = world
        .query::<(Entity, &Seed)>()
        .iter(world)
        .find_map(|(learner, seed)| (seed.0 == 3).then_some(learner));
    let sac = world.get::<Sac>(learner.unwrap()).unwrap();
    assert!(sac.updates() > 0);
    let row = |values: &[f32]| Tensor::from_slice(values, (1, values.len()), &Device::Cpu).unwrap();
    let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let observed = row(&observation);
    let policy = sac.policy().forward_frozen(&observed).unwrap();
    let prior = sac.prior().unwrap().forward_frozen(&observed).unwrap();
    assert_eq!(skill.policy.mean, numbers(&policy.mu));
    assert_eq!(skill.prior.as_ref().unwrap().sigma, numbers(&prior.sigma().unwrap()));
    let by_hand: f64 = (0..3)
        .map(|index| {
            let number = |values: &[f32]| f64::from(values[index]);
            let (policy, prior) = (&skill.policy, skill.prior.as_ref().unwrap());
            let (mean, other_mean) = (number(&policy.mean), number(&prior.mean));
            let (sigma, other) = (number(&policy.sigma), number(&prior.sigma));
            (other / sigma).ln() + (sigma.powi(2) + (mean - other_mean).powi(2)) / (2.0 * other.powi(2)) - 0.5
        })
        .sum();
    let shown = f64::from(skill.total_divergence().unwrap());
    assert!(
        by_hand > 1e-4 && (shown - by_hand).abs() < 1e-4 * (1.0 + by_hand),
        "{shown} {by_hand}"
    );
    let input = Tensor::cat(&[&observed, &row(&skill.chosen)], 1).unwrap();
    let q = sac
        .critics()
        .each_ref()
        .map(|critic| numbers(&critic.forward(&input, Mode::Eval).unwrap())[0]);
    assert_eq!(skill.q, Some(q));

    // The rest of the skill, and the first step of the next one.
    for elapsed in 2..=SKILL + 1 {
        let snapshot = tick(&mut app, &watcher);
        let view = snapshot.inspected.as_ref().unwrap();
        let now = view.skill.as_ref().unwrap();
        let last = view.history.last().unwrap();
        let same = now.chosen == skill.chosen;
        if elapsed <= SKILL {
            assert_eq!((now.elapsed, same, last.decides), (elapsed, true, false));
            assert_eq!(now.policy, skill.policy, "as it was where the skill was chosen");
            assert_eq!(last.divergence, skill.total_divergence());
        } else {
            assert_eq!((now.elapsed, same, last.decides), (1, false, true));
        }
        hand_back(&watcher, snapshot);
    }
    // What is gone is not looked into.
    ask(&watcher, Request::Inspect(Some(Entity::PLACEHOLDER)));
    let snapshot = tick(&mut app, &watcher);
    hand_back(&watcher, snapshot);
    assert_eq!(tick(&mut app, &watcher).inspected, None);
}

#[test]
fn the_history_is_that_of_the_running_episode() {
    let (to_world, watcher) = link(Pace::Unlimited, 2);
    let mut app = practice(Some(to_world), StopRequest::default());
    for count in 1..=3 * u64::from(EPISODE) {
        let snapshot = tick(&mut app, &watcher);
        if count == 5 {
            ask(&watcher, Request::Inspect(Some(snapshot.environments[1].environment)));
        }
        if let Some(view) = &snapshot.inspected {
            let step = snapshot.environments[1].step;
            // Asked for after five ticks, followed after the sixth.
            let from = if count <= u64::from(EPISODE) { 6 } else { 0 };
            let steps: Vec<u32> = view.history.iter().map(|step| step.step).collect();
            assert_eq!(steps, (from..step).collect::<Vec<_>>());
            assert_eq!(view.episode, (count - 1) / u64::from(EPISODE));
            for step in &view.history {
                assert_eq!(step.decides, (step.step as usize).is_multiple_of(SKILL));
                // Picked in the middle of a skill: where that one was chosen nobody looked.
                assert_eq!(step.divergence.is_some(), from == 0 || step.step >= 8, "{step:?}");
                assert_eq!(step.distances.len(), 2);
            }
            let rewards: f32 = view.history.iter().map(|step| step.reward).sum();
            assert!(from > 0 || rewards == snapshot.environments[1].return_);
            assert!(view.skill.is_some(), "in the last step of an episode as well");
        }
        hand_back(&watcher, snapshot);
    }
}

#[test]
fn a_restarted_episode_leaves_nothing_of_the_one_that_was_cut() {
    const ASKED: u64 = 41;
    let (to_world, watcher) = link(Pace::Unlimited, 1);
    let mut app = practice(Some(to_world), StopRequest::default());
    let view = |app: &mut App| {
        let snapshot = tick(app, &watcher);
        let view = snapshot.environments[0].clone();
        let learner = snapshot.learners[0].clone();
        hand_back(&watcher, snapshot);
        (view, learner)
    };
    // One skill is over, half of the next one done.
    for _ in 0..SKILL + 1 {
        view(&mut app);
    }
    let (_, before) = view(&mut app);
    assert_eq!(before.transitions, 2, "one of each agent");
    let environment = view(&mut app).0.environment;
    ask(
        &watcher,
        Request::Restart {
            environment,
            episode: Some(ASKED),
        },
    );
    let (cut, _) = view(&mut app);
    assert_eq!((cut.episode, cut.step), (0, SKILL as u32 * 2));
    assert_eq!(watcher.notices.try_recv().unwrap().unwrap(), "episode 41 begins");
    let (first, learner) = view(&mut app);
    assert_eq!((first.episode, first.step, first.skill), (ASKED, 1, Some((1, SKILL))));
    assert_eq!((first.last_return, first.faults, learner.episodes), (None, 0, 0));
    assert_eq!(learner.transitions, 3, "the second skill of the other agent alone");
    let scene = compiled();
    let mut fresh = Environment::new(&scene, 0, SEEDS[0]).unwrap();
    fresh.begin(&scene, ASKED, scene.start());
    assert_eq!(app.world().get::<Observation>(environment).unwrap(), &fresh.observation);
    for step in 2..=EPISODE {
        let (now, _) = view(&mut app);
        assert_eq!((now.episode, now.step), (ASKED, step));
    }
    let (next, learner) = view(&mut app);
    assert_eq!((next.episode, next.step), (ASKED + 1, 1));
    assert_eq!(learner.episodes, 2, "of each environment the one that ended");

    // The next one if no number is given.
    ask(
        &watcher,
        Request::Restart {
            environment,
            episode: None,
        },
    );
    view(&mut app);
    assert_eq!(view(&mut app).0.episode, ASKED + 2);
    watcher.notices.try_recv().unwrap().unwrap();

    // Evaluations, numbers beyond all bounds and what is no environment are refused.
    let evaluates = loop {
        let snapshot = tick(&mut app, &watcher);
        let found = snapshot
            .environments
            .iter()
            .find(|view| view.evaluates)
            .map(|view| view.environment);
        hand_back(&watcher, snapshot);
        if let Some(found) = found {
            break found;
        }
    };
    for (environment, episode) in [
        (evaluates, None),
        (environment, Some(u64::MAX)),
        (Entity::PLACEHOLDER, None),
    ] {
        ask(&watcher, Request::Restart { environment, episode });
        view(&mut app);
        watcher.notices.try_recv().unwrap().unwrap_err();
    }
}

#[test]
fn snapshots_stop_growing() {
    let (to_world, watcher) = link(Pace::Unlimited, 1);
    let mut app = practice(Some(to_world), StopRequest::default());
    let mut sizes = BTreeSet::new();
    for count in 1..=2_000 {
        let snapshot = tick(&mut app, &watcher);
        if count == 1 {
            ask(&watcher, Request::Inspect(Some(snapshot.environments[3].environment)));
        }
        assert!(snapshot.recent_skills.len() <= 512 && snapshot.environments.len() <= 8);
        let steps = snapshot.inspected.as_ref().map_or(0, |view| view.history.len());
        assert!(steps <= EPISODE as usize);
        if count > 1_000 {
            sizes.insert((
                snapshot.poses.capacity(),
                snapshot.environments.capacity(),
                snapshot.learners.capacity(),
                snapshot.recent_skills.capacity(),
                snapshot.environments.iter().map(|view| view.done.capacity()).max(),
            ));
        }
        hand_back(&watcher, snapshot);
    }
    assert_eq!(sizes.len(), 1, "{sizes:?}");
}

/// Practice of single actions on the arm; a run is 300 steps.
fn experiment(scene: &str) -> Experiment {
    let mut overrides: Vec<String> = [
        "learner.policy=Scratch(width: 16, hidden: 1)",
        "learner.critic.width=16",
        "learner.critic.hidden=1",
        "learner.batch=16",
        "learner.regulariser=Entropy(target: -2.0)",
        "training.steps=300",
        "training.warmup=40",
        "training.checkpoint_every=100",
        "training.report_every=50",
        "training.replay_capacity=1000",
        "evaluation.every=100",
        "evaluation.episodes=2",
        "environments=2",
        "seeds=[3,5]",
    ]
    .map(str::to_owned)
    .to_vec();
    overrides.push(format!("scene={scene:?}"));
    Experiment::load("kitchen/sac", &overrides).unwrap().value
}

fn settings() -> Settings {
    Settings {
        threads: 2,
        stop: StopRequest::default(),
    }
}

/// Rows of a seed, wall times left out.
fn told(rows: &[(u64, Row)], seed: u64) -> Vec<(u64, &str, u64)> {
    let of_seed = rows.iter().filter(|(of, _)| *of == seed);
    of_seed
        .map(|(_, row)| (row.step, row.tag.as_str(), row.value.to_bits()))
        .collect()
}

#[test]
fn runs_can_be_watched() {
    let (place, scene) = arm();
    let experiment = experiment(&scene);
    let text = apprentice::files::to_text(&experiment).unwrap();
    let folder = |name: &str| RunFolder::create(&place.path().join(name), "kitchen/sac", &text).unwrap();
    let train = |folder: &RunFolder, watch| {
        let plan = TrainPlan {
            skills: None,
            folder,
            resume: false,
            watch,
        };
        run::train(&experiment, &plan, &settings()).unwrap()
    };
    let (alone, watched) = (folder("alone"), folder("watched"));
    assert_eq!(train(&alone, None), Ended::Finished);
    let (to_world, watcher) = link(Pace::EveryTick, 2);
    let (metrics, saved) = thread::scope(|scope| {
        let watcher = scope.spawn(move || {
            let (mut metrics, mut ticks) = (Vec::new(), 0);
            while let Ok(snapshot) = watcher.filled.recv_timeout(PATIENCE) {
                ticks += 1;
                assert_eq!(snapshot.tick, ticks);
                assert!(snapshot.learners.iter().all(|learner| learner.budget == Some(300)));
                metrics.extend(watcher.metrics.try_iter());
                if ticks == 77 {
                    ask(&watcher, Request::Save);
                }
                hand_back(&watcher, snapshot);
            }
            metrics.extend(watcher.metrics.try_iter());
            (metrics, watcher.notices.try_iter().collect::<Vec<_>>())
        });
        assert_eq!(train(&watched, Some(to_world)), Ended::Finished);
        watcher.join().unwrap()
    });
    assert_eq!(saved, [Ok("saved 2 learners".to_owned())]);
    for seed in experiment.seeds.clone() {
        let last = "checkpoints/step_000000300";
        for file in ["learner.safetensors", "replay.safetensors", "state.ron"] {
            let [one, other] =
                [&alone, &watched].map(|folder| std::fs::read(folder.seed(seed).join(last).join(file)).unwrap());
            assert!(one == other, "seed {seed}: {file}");
        }
        let written: Vec<_> = (read_scalars(&watched.seed(seed)).unwrap().into_iter())
            .map(|row| (seed, row))
            .collect();
        assert!(written.len() > 20);
        assert_eq!(told(&metrics, seed), told(&written, seed));
    }

    let evaluate = |watch| {
        let plan = EvaluationPlan {
            skills: None,
            episodes: 3,
            most_likely: true,
            overrides: Vec::new(),
            watch,
        };
        run::evaluate_run(&experiment, &watched, &plan, &settings()).unwrap()
    };
    let expected = evaluate(None);
    let (to_world, watcher) = link(Pace::Unlimited, 2);
    let evaluated = thread::scope(|scope| {
        scope.spawn(move || {
            while let Ok(snapshot) = watcher.filled.recv_timeout(PATIENCE) {
                assert!(snapshot.environments.iter().all(|view| view.evaluates && view.slot < 3));
                assert!(
                    snapshot
                        .learners
                        .iter()
                        .all(|learner| learner.budget.is_none() && learner.evaluating)
                );
                hand_back(&watcher, snapshot);
            }
        });
        evaluate(Some(to_world))
    });
    assert_eq!(evaluated, expected);
}
