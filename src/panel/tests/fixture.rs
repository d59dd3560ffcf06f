//! A watched world as it might be: two seeds with six environments each.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bevy::prelude::Entity;
use bevy_egui::egui::{Rect, Ui};

use crate::metrics::Row;
use crate::panel::{Show, panels};
use crate::scene::CompiledScene;
use crate::skills::latent::LatentMap;
use crate::view::state::{Ask, Curves, ViewState, Watched};
use crate::watch::{AgentView, EnvironmentView, Gaussian, LearnerView, Pace, SkillView, Snapshot, StepView, Subject};

/// What the panels are shown, what they change, and what they have asked for.
pub(super) struct Fixture {
    pub(super) watched: Watched,
    pub(super) curves: Curves,
    pub(super) view: ViewState,
    pub(super) asks: Vec<Ask>,
    pub(super) left_over: Rect,
}

impl Fixture {
    pub(super) fn show(&self) -> Show<'_> {
        Show {
            watched: &self.watched,
            curves: &self.curves,
            frames_per_second: 60.0,
        }
    }

    pub(super) fn draw(&mut self, ui: &mut Ui) {
        let show = Show {
            watched: &self.watched,
            curves: &self.curves,
            frames_per_second: 60.0,
        };
        self.asks.extend(panels(ui, &show, &mut self.view));
        self.left_over = ui.available_rect_before_wrap();
    }
}

pub(super) fn scene() -> Arc<CompiledScene> {
    static SCENE: LazyLock<Arc<CompiledScene>> =
        LazyLock::new(|| Arc::new(CompiledScene::load("kitchen", &[]).unwrap()));
    SCENE.clone()
}

pub(super) fn environment(index: u32) -> Entity {
    Entity::from_raw_u32(1000 + index).unwrap()
}

/// Environment `index`: six for each seed, the last of them for evaluation.
pub(super) fn environment_view(index: u32) -> EnvironmentView {
    let completed = (5 * index % 4) as usize;
    EnvironmentView {
        environment: environment(index),
        seed: u64::from(index / 6),
        slot: if index % 6 == 5 { 0 } else { index as usize % 6 },
        evaluates: index % 6 == 5,
        episode: 40 + u64::from(index),
        step: 17 * index % 280,
        return_: completed as f32,
        reward: 0.0,
        done: (0..4).map(|element| element < completed).collect(),
        skill: Some((index as usize % 10, 10)),
        last_return: (!index.is_multiple_of(3)).then_some(2.0),
        faults: u64::from(index == 1),
    }
}

fn learner(seed: u64) -> LearnerView {
    LearnerView {
        learner: Entity::from_raw_u32(500 + seed as u32).unwrap(),
        seed,
        steps: 12_500 + seed,
        budget: Some(50_000),
        warmup_left: 120 * seed,
        transitions: 1_250,
        episodes: 44,
        updates: 1_100,
        temperature: 0.0123,
        evaluating: seed == 0,
    }
}

fn step(step: u32) -> StepView {
    let far = 1.0 - step as f32 / 40.0;
    StepView {
        step,
        reward: if step == 20 { 1.0 } else { 0.0 },
        distances: (0..7).map(|element| far * (1.0 - 0.1 * element as f32)).collect(),
        decides: step.is_multiple_of(10),
        divergence: step.is_multiple_of(10).then_some(1.0 + step as f32 / 10.0),
    }
}

fn skill() -> SkillView {
    let numbers = |scale: f32| -> Vec<f32> { (0..10).map(|index| scale * (index as f32 - 4.5)).collect() };
    SkillView {
        chosen: numbers(0.2),
        elapsed: 4,
        length: 10,
        policy: Gaussian {
            mean: numbers(0.15),
            sigma: vec![0.3; 10],
        },
        prior: Some(Gaussian {
            mean: numbers(-0.1),
            sigma: vec![0.8; 10],
        }),
        divergence: numbers(1.0).into_iter().map(|number| 0.01 * number * number).collect(),
        q: Some([1.25, 1.375]),
    }
}

fn agent(scene: &CompiledScene) -> AgentView {
    AgentView {
        environment: environment(1),
        episode: 41,
        observation: (0..scene.observation_len()).map(|index| 0.05 * index as f32).collect(),
        pixels: Vec::new(),
        action: (0..scene.action_len()).map(|index| 0.25 * index as f32 - 1.0).collect(),
        reached: vec![true, false, false, false, false, true, false],
        skill: Some(skill()),
        history: (0..35).map(step).collect(),
        tendons: Vec::new(),
    }
}

fn map(scene: &CompiledScene) -> LatentMap {
    let unit = |place: usize| (0..10).map(|index| if index == place { 1.0 } else { 0.0 }).collect();
    let names: Vec<&String> = scene.elements().iter().map(|element| &element.name).collect();
    LatentMap {
        points: (0..200)
            .map(|index| index as f32)
            .map(|turn| [(turn * 0.7).cos(), (turn * 0.3).sin()])
            .collect(),
        labels: (0..200)
            .map(|index: usize| names[index % names.len()].clone())
            .collect(),
        explained: [0.41, 0.22],
        mean: vec![0.0; 10],
        axes: [unit(0), unit(1)],
    }
}

fn curves() -> Curves {
    let mut curves = Curves::default();
    let tags = [
        "practice/completed",
        "practice/success",
        "practice/elements/kettle",
        "learner/penalty",
        "learner/temperature",
        "learner/policy_loss",
        "rate/steps_per_second",
    ];
    for (place, tag) in tags.into_iter().enumerate() {
        for seed in 0..2 {
            for step in 1..40_u64 {
                let row = Row {
                    step: 500 * step + 7 * seed,
                    tag: tag.into(),
                    value: (1.0 + place as f64) * (1.0 - (-0.1 * step as f64).exp()) + 0.1 * seed as f64,
                    wall_s: 0.0,
                };
                curves.push(seed, &row);
            }
        }
    }
    curves
}

pub(super) fn fixture() -> Fixture {
    let scene = scene();
    let current = Snapshot {
        tick: 123_456,
        scene: 0,
        pace: Some(Pace::Limited(12.5)),
        environments: (0..12).map(environment_view).collect(),
        poses: Vec::new(),
        looks: Vec::new(),
        learners: vec![learner(0), learner(1)],
        inspected: Some(agent(&scene)),
        recent_skills: (0..24)
            .map(|index| {
                (
                    environment(index % 4),
                    (0..10).map(|number| (index * number) as f32 * 0.01).collect(),
                )
            })
            .collect(),
    };
    let subject = Subject {
        title: "Practising kitchen/spirl_cl".into(),
        task: scene
            .task()
            .iter()
            .map(|index| scene.elements()[*index].name.clone())
            .collect(),
        skill_map: Some(Arc::new(map(&scene))),
        trains: true,
        metrics: Vec::new(),
        scene,
    };
    Fixture {
        watched: Watched {
            subject,
            current: Box::new(current),
            since: Instant::now(),
            previous: None,
            ticks_per_second: 12.4,
            notices: VecDeque::from([Ok("saved checkpoints of 2 learners".into())]),
            ended: None,
            broken: Vec::new(),
        },
        curves: curves(),
        view: ViewState {
            selected: Some(environment(1)),
            ..ViewState::default()
        },
        asks: Vec::new(),
        left_over: Rect::NOTHING,
    }
}
