//! How the demonstrator does each of the seven elements of the kitchen, and how its arm gets there.
//!
//! Lengths in m, angles in rad, speeds per control step of 0.08 s. The world's x points right, y away from the robot,
//! z up. Postures were found by inverse kinematics from random starts, away from joint limits and obstacles: the arm's
//! start has joint 2 on its limit, and pulled towards it the arm cannot reach most handles.

use std::sync::Arc;

use mujoco_rs::wrappers::mj_data::MjData;
use mujoco_rs::wrappers::mj_model::{MjModel, MjtObjBase};
use nalgebra::{Matrix3, Vector3};
use rand::RngExt;

use super::DemoError;
use super::ik::{Arm, Joints, Pose, orientation};
use super::kitchen::KitchenElement;
use super::segments::{Line, OPEN, Segment, Steering, Transfer, View};
use crate::rng::Stream;
use crate::scene::{CompiledElement, CompiledScene, Source};

/// Speed of transfers, largest joint change per step, rad.
const TRANSFER_SPEED: f64 = 0.08;
/// Cost of a metre of penetration, in steps.
const PENETRATION_COST: f64 = 2000.0;
/// Poses to go around by when neither the straight path nor small detours are free. The first is the scene's start.
const DETOURS: [[f64; 7]; 4] = [
    [
        1.48388023e-1,
        -1.76848573,
        1.84390296,
        -2.47685760,
        2.60252026e-1,
        7.12533105e-1,
        1.59515394,
    ],
    [-0.9, -0.9, 1.5, -2.5, -0.2, 1.7, 1.6],
    [-0.5, -1.2, 1.0, -2.7, 0.0, 1.8, 1.2],
    [0.3, -0.9, 0.0, -2.4, 0.0, 1.5, 0.8],
];
/// Shifts of the present tool pose that lead away from what the arm is at, m.
const WAYS_OUT: [[f64; 3]; 4] = [
    [0.0, -0.12, 0.0],
    [0.0, -0.2, -0.1],
    [0.0, -0.1, 0.12],
    [0.0, -0.12, -0.15],
];
/// Shifts of the goal pose that lead up to it, m.
const WAYS_IN: [[f64; 3]; 3] = [[0.0, -0.12, -0.1], [0.0, -0.12, 0.1], [0.0, -0.2, 0.0]];

/// The places of the kitchen in model and scene.
#[derive(Debug)]
pub(super) struct Kitchen {
    elements: [CompiledElement; 7],
    /// Their places in the scene.
    places: [usize; 7],
    microwave_handle: usize,
    microwave_hinge: usize,
    knobs: [usize; 2],
    light: usize,
    slide_handle: usize,
    hinge_handle: usize,
    hinge: usize,
    /// Index in `qpos` of its free joint.
    kettle: usize,
}

impl Kitchen {
    /// Finds everything by name.
    pub fn new(scene: &CompiledScene) -> Result<Self, DemoError> {
        if scene.servos().len() != 9 {
            return Err(DemoError::Servos(scene.servos().len()));
        }
        let model = scene.model();
        for (place, servo) in scene.servos().iter().enumerate() {
            let found = &scene.channels()[servo.channel];
            if found.source != Source::Position(place) {
                let expected = model.id_to_name(MjtObjBase::mjOBJ_JOINT, place);
                return Err(DemoError::Joint {
                    place,
                    expected: expected.unwrap_or_default().into(),
                    found: found.name.clone(),
                });
            }
        }
        let site = |name| {
            model
                .name_to_id(MjtObjBase::mjOBJ_SITE, name)
                .ok_or(DemoError::Model { kind: "site", name })
        };
        let body = |name| {
            model
                .name_to_id(MjtObjBase::mjOBJ_BODY, name)
                .ok_or(DemoError::Model { kind: "body", name })
        };
        let mut places = [0; 7];
        for (place, element) in places.iter_mut().zip(KitchenElement::ALL) {
            *place = scene.element(element.name())?;
        }
        Ok(Self {
            elements: places.map(|place| scene.elements()[place].clone()),
            places,
            microwave_handle: site("microhandle_site")?,
            microwave_hinge: body("microdoorroot")?,
            knobs: [site("knob2_site")?, site("knob4_site")?],
            light: site("light_site")?,
            slide_handle: site("slide_site")?,
            hinge_handle: site("hinge_site2")?,
            hinge: body("hingerightdoor")?,
            kettle: scene.joint_positions("kettle")?.start,
        })
    }

    /// Its place among the elements of the scene.
    pub fn place(&self, element: KitchenElement) -> usize {
        self.places[element as usize]
    }

    /// An element as the scene describes it.
    pub fn element(&self, element: KitchenElement) -> &CompiledElement {
        &self.elements[element as usize]
    }

    /// Distance of an element to its goal.
    pub fn distance(&self, element: KitchenElement, data: &MjData<Arc<MjModel>>) -> f64 {
        self.element(element).distance(data.qpos(), data.qvel())
    }
}

/// What a routine decides.
#[derive(Debug)]
pub(super) struct Plan {
    /// The motion.
    pub segments: Vec<Segment>,
    /// Yaw, pitch and roll of the tool at the object, rad.
    pub angles: [f64; 3],
    /// First contact point that is aimed for, m.
    pub contact: Vector3<f64>,
    /// Factor on all speeds.
    pub speed: f64,
}

impl Plan {
    fn new(segments: Vec<Segment>, angles: [f64; 3], contact: Vector3<f64>) -> Self {
        Self {
            segments,
            angles,
            contact,
            speed: 1.0,
        }
    }
}

/// Everything a routine looks at and draws from.
pub(super) struct Routine<'a> {
    pub kitchen: &'a Kitchen,
    pub arm: &'a mut Arm,
    pub view: View<'a>,
    pub rng: &'a mut Stream,
    /// Scale of all variation.
    pub variety: f64,
    /// How often the slide cabinet is pulled from the right without need.
    pub second_way: f64,
}

impl Routine<'_> {
    /// How to do `element` from here.
    pub fn plan(&mut self, element: KitchenElement) -> Plan {
        match element {
            KitchenElement::Microwave => self.microwave(),
            KitchenElement::Kettle => self.kettle(),
            KitchenElement::BottomBurner => self.knob(Knob::Bottom),
            KitchenElement::TopBurner => self.knob(Knob::Top),
            KitchenElement::LightSwitch => self.light_switch(),
            KitchenElement::SlideCabinet => self.slide_cabinet(),
            KitchenElement::HingeCabinet => self.hinge_cabinet(),
        }
    }

    /// A number from `-spread` to `spread`, scaled by the variety.
    fn vary(&mut self, spread: f64) -> f64 {
        self.variety * spread * self.rng.random_range(-1.0..1.0)
    }

    fn vary_point(&mut self, spread: f64) -> Vector3<f64> {
        Vector3::from_fn(|_, _| self.vary(spread))
    }

    fn site(&self, site: usize) -> Vector3<f64> {
        self.view
            .data
            .site_xpos()
            .get(site)
            .map_or_else(Vector3::zeros, |position| Vector3::from(*position))
    }

    fn body(&self, body: usize) -> Vector3<f64> {
        self.view
            .data
            .xpos()
            .get(body)
            .map_or_else(Vector3::zeros, |position| Vector3::from(*position))
    }

    /// Number `at` of an element's position.
    fn position(&self, element: KitchenElement, at: usize) -> f64 {
        let values = &self.kitchen.element(element).values;
        values.get(at).map_or(0.0, |source| {
            source.read(self.view.data.qpos(), self.view.data.qvel(), self.view.data.xpos())
        })
    }

    /// Whether the door of the hinge cabinet stands open, in the way of what is right of and below it.
    fn hinge_door_is_open(&self) -> bool {
        self.position(KitchenElement::HingeCabinet, 1) > 0.3
    }

    /// Transfers to `goal`: straight if nothing is in the way, otherwise over one or two detours, whichever is shortest
    /// without collision.
    fn approach(&mut self, goal: Pose, posture: &Joints, grip: f64) -> Vec<Segment> {
        let data = self.view.data;
        let end = self.arm.solve(posture, &goal, posture, 0.3, 80);
        let start = self.view.joints();
        let steps = |path: &[Joints]| -> f64 {
            path.iter()
                .zip(path.iter().skip(1))
                .map(|(from, to)| (to - from).amax() / TRANSFER_SPEED)
                .sum()
        };
        let direct = vec![start, end];
        let penetration = self.arm.penetration(data, &direct, grip, f64::INFINITY);
        let mut best = (steps(&direct) + PENETRATION_COST * penetration, direct);
        if penetration > 0.0 {
            let here = self.arm.tool(data);
            let shifted = |pose: &Pose, shift: [f64; 3]| Pose {
                position: pose.position + Vector3::from(shift),
                ..*pose
            };
            let out = WAYS_OUT.map(|shift| self.arm.solve(&start, &shifted(&here, shift), &start, 0.3, 40));
            let into = WAYS_IN.map(|shift| self.arm.solve(&end, &shifted(&goal, shift), &end, 0.3, 40));
            let around = DETOURS.map(Joints::from);
            let single = out.iter().chain(&into).chain(&around).map(|via| vec![start, *via, end]);
            let double = out.iter().take(2).flat_map(|first| {
                around
                    .iter()
                    .chain(&into)
                    .map(|second| vec![start, *first, *second, end])
            });
            for path in single.chain(double) {
                let length = steps(&path);
                if length < best.0 {
                    let limit = (best.0 - length) / PENETRATION_COST;
                    let cost = length + PENETRATION_COST * self.arm.penetration(data, &path, grip, limit);
                    if cost < best.0 {
                        best = (cost, path);
                    }
                }
            }
        }
        let last = best.1.len() - 1;
        best.1
            .into_iter()
            .enumerate()
            .skip(1)
            .map(|(place, goal)| {
                let slack = if place == last { 0.06 } else { 0.25 };
                Segment::Transfer(Transfer {
                    goal,
                    grip,
                    speed: TRANSFER_SPEED,
                    slack,
                })
            })
            .collect()
    }

    /// `distance` short of `reach`, varied.
    fn before(&mut self, reach: &Pose, spread: f64, distance: f64) -> Pose {
        shift(reach, self.vary_point(spread) - reach.approach() * distance)
    }

    /// Transfers to `before` with the fingers as `lines` begin, and from there along the lines.
    fn follow<const N: usize>(&mut self, before: Pose, posture: &Joints, lines: [Line; N]) -> Vec<Segment> {
        let grip = lines.first().map_or(OPEN, |line| line.grip);
        let mut segments = self.approach(before, posture, grip);
        segments.extend(lines.map(Segment::Line));
        segments
    }

    /// Comes from `before` and closes the fingers around a handle at `reach`.
    fn hook(&mut self, before: Pose, posture: &Joints, reach: Pose, speed: f64, settle: f64) -> Vec<Segment> {
        let come = Line {
            speed,
            settle: Some(settle),
            ..Line::new(reach, OPEN)
        };
        let close = Line {
            hold: 2,
            ..Line::new(reach, 0.0)
        };
        let mut segments = self.follow(before, posture, [come, close]);
        segments.push(Segment::Grasped(0.03));
        segments
    }

    /// Hooks the vertical handle from the right, fingers on both sides of the bar, and pulls it along its arc.
    ///
    /// Yawed by half a radian, the far finger stands behind the bar: it pulls by its shape and not by friction alone.
    fn microwave(&mut self) -> Plan {
        let (first, last) = (
            Joints::from([-1.27, -1.65, 1.91, -1.40, -0.01, 1.13, 1.75]),
            Joints::from([-0.65, -1.65, 1.91, -1.67, 0.01, 1.40, 1.74]),
        );
        let handle = self.site(self.kitchen.microwave_handle) + Vector3::z() * (0.07 + self.vary(0.025));
        // The arm cannot reach the handle with less pitch or more yaw.
        let (yaw, pitch) = (0.50 + self.vary(0.09), -0.46 + self.vary(0.06));
        let door = Door {
            hinge: self.body(self.kitchen.microwave_hinge),
            handle,
            from: self.position(KitchenElement::Microwave, 0),
            to: -0.85 + self.vary(0.08),
            depth: 0.028 + self.vary(0.006),
        };
        let at_handle = door.grip(0.0, orientation(yaw, pitch, 0.0));
        let back_off = at_handle.approach() * 0.10;
        let before = shift(
            &at_handle,
            self.vary_point(0.015) - back_off - at_handle.approach() * door.depth,
        );
        let reach = shift(&at_handle, self.vary_point(0.004));
        let mut segments = self.hook(before, &first, reach, 0.04, 0.012);
        let mut end = reach;
        for (place, speed) in [0.022, 0.028, 0.035, 0.035, 0.035, 0.035].into_iter().enumerate() {
            let part = (place + 1) as f64 / 6.0;
            end = door.grip(part, orientation(yaw + 0.05 * part, pitch, 0.0));
            let posture = Some(first + (last - first) * part);
            segments.push(Segment::Line(Line {
                posture,
                speed,
                rotation_weight: 0.1,
                ..Line::new(end, 0.0)
            }));
        }
        // Up as well: the way to everything else leads over the open door.
        segments.extend(let_go(end, Line::back(0.15, OPEN).aside(Vector3::z() * 0.05)));
        Plan::new(segments, [yaw, pitch, 0.0], reach.position)
    }

    /// Pushes the body of the kettle over the flat stove with two spread fingers.
    ///
    /// Below 1.71 m the kettle slides, above it tips. The stove is at 1.62 m, so the height may be wrong by 3 cm.
    /// Pushed straight it turns away now and then, and its spout catches on the microwave; so it is steered.
    fn kettle(&mut self) -> Plan {
        let (first, last) = (
            Joints::from([-0.80, -1.22, 2.53, -2.58, 0.13, 1.50, 2.10]),
            Joints::from([-1.55, -1.42, 2.35, -2.10, 0.0, 1.75, 1.80]),
        );
        let kettle = Vector3::from_fn(|axis, _| self.position(KitchenElement::Kettle, axis));
        let (yaw, pitch) = (-0.20 + self.vary(0.12), -0.78 + self.vary(0.12));
        let axes = orientation(yaw, pitch, 0.0);
        // From the middle of the kettle to its side, and on to the tool point when the tips touch.
        let reach = 0.122 + 0.014;
        let before = Vector3::new(kettle.x - 0.004, kettle.y - reach - 0.05, 1.685) + self.vary_point(0.012);
        let steering = Steering {
            joint: self.kitchen.kettle,
            centre: -0.004,
            goal: -0.21 + self.vary(0.015),
            ahead: 0.3,
            largest_heading: 0.3,
            gain: 0.25,
            limit: 0.045,
        };
        // A kettle that is far enough but askew is pushed on, to be turned.
        let end_y = (0.63 + self.vary(0.05)).max(kettle.y + 0.1);
        let end = Vector3::new(kettle.x, end_y - reach, before.z);
        let push = Line {
            posture: Some(last),
            speed: 0.03,
            rotation_weight: 0.15,
            steering: Some(steering),
            ..Line::new(Pose { position: end, axes }, OPEN)
        };
        let lines = [push, Line::back(0.10, OPEN)];
        let segments = self.follow(Pose { position: before, axes }, &first, lines);
        Plan::new(segments, [yaw, pitch, 0.0], before)
    }

    /// Wrenches a knob: one finger on the upper left, one on the lower right of its fin, then the wrist turns.
    ///
    /// A pinch slips, because the knob's damping is 2 N m s/rad. The fin meets the fingers about 0.85 rad off the line
    /// between them.
    fn knob(&mut self, knob: Knob) -> Plan {
        let (element, site) = match knob {
            Knob::Bottom => (KitchenElement::BottomBurner, self.kitchen.knobs[0]),
            Knob::Top => (KitchenElement::TopBurner, self.kitchen.knobs[1]),
        };
        let turned = -self.position(element, 0);
        let (mut yaw, mut pitch) = (self.vary(0.12), -0.25 + self.vary(0.1));
        let (mut posture, last_roll) = match knob {
            Knob::Bottom => (Joints::from([-1.30, -0.71, 1.55, -2.26, -0.05, 1.87, 1.55]), 1.50),
            Knob::Top => (Joints::from([-1.10, -0.52, 1.29, -2.11, -0.42, 1.62, 1.60]), 1.57),
        };
        if matches!(knob, Knob::Top) && self.hinge_door_is_open() {
            // The door stands above the knob: keep the wrist left of it.
            (yaw, pitch) = (yaw - 0.5, pitch + 0.25);
            posture = Joints::from([-1.29, -1.28, 1.31, -2.02, -0.05, 1.28, 1.85]);
        }
        let roll = 0.45 + turned + self.vary(0.1);
        let centre = self.site(site) + Vector3::new(0.0, -0.008, 0.0) + self.vary_point(0.003);
        let reach = Pose {
            position: centre,
            axes: orientation(yaw, pitch, roll),
        };
        let turn = Pose {
            position: centre,
            axes: orientation(yaw, pitch, last_roll + self.vary(0.06)),
        };
        let grip = 0.033 + self.vary(0.002);
        let before = self.before(&reach, 0.012, 0.08);
        let lines = [
            Line {
                settle: Some(0.01),
                ..Line::new(reach, grip)
            },
            Line {
                turn: 0.085,
                hold: 1,
                ..Line::new(turn, grip)
            },
            Line {
                speed: 0.035,
                settle: Some(0.04),
                ..Line::back(0.10, 0.035)
            },
        ];
        let segments = self.follow(before, &posture, lines);
        Plan::new(segments, [yaw, pitch, roll], centre)
    }

    /// Pushes the lever to the left with closed fingers.
    fn light_switch(&mut self) -> Plan {
        let lever = self.site(self.kitchen.light);
        let (mut yaw, pitch) = (self.vary(0.12), -0.25 + self.vary(0.12));
        let mut posture = Joints::from([-1.12, -0.72, 1.42, -2.17, -0.24, 1.65, 0.98]);
        if self.hinge_door_is_open() {
            yaw -= 0.25;
            posture = Joints::from([-1.14, -0.94, 1.41, -2.10, 0.0, 1.38, 0.99]);
        }
        let axes = orientation(yaw, pitch, 0.0);
        // A little below the middle of the lever (2.28): a finger slips off its upper side more easily.
        let height = 2.267;
        let reach = Vector3::new(lever.x + 0.065, 0.615, height) + self.vary_point(0.008);
        let end = Vector3::new(-0.425 + self.vary(0.008), 0.615, height);
        let reach = Pose { position: reach, axes };
        let before = self.before(&reach, 0.015, 0.09);
        let lines = [
            Line {
                settle: Some(0.02),
                ..Line::new(reach, 0.0)
            },
            Line {
                speed: 0.025,
                hold: 1,
                ..Line::new(Pose { position: end, axes }, 0.0)
            },
            Line::back(0.10, 0.0).aside(Vector3::x() * 0.02),
        ];
        let segments = self.follow(before, &posture, lines);
        Plan::new(segments, [yaw, pitch, 0.0], reach.position)
    }

    /// Pushes the handle to the right with closed fingers; or, if the hinge door stands in the way (and sometimes
    /// without need), comes from the right with the fingers astride the handle and pulls.
    fn slide_cabinet(&mut self) -> Plan {
        let handle = self.site(self.kitchen.slide_handle) + Vector3::z() * (self.vary(0.04) - 0.02);
        let left_to_go = 0.37 - self.position(KitchenElement::SlideCabinet, 0);
        let from_right = self.rng.random_bool(self.second_way);
        if from_right || self.hinge_door_is_open() {
            let (yaw, pitch) = (0.6 + self.vary(0.08), -0.3 + self.vary(0.08));
            let reach = Pose {
                position: handle + self.vary_point(0.004),
                axes: orientation(yaw, pitch, 0.0),
            };
            let end = Pose {
                position: handle + Vector3::x() * (left_to_go + 0.02 + self.vary(0.03)),
                axes: orientation(0.1, pitch, 0.0),
            };
            let posture = Joints::from([0.65, -0.30, -0.45, -1.70, 0.61, 0.98, -0.77]);
            let last = Joints::from([0.04, -0.18, -0.43, -1.60, 0.66, 0.99, -0.76]);
            let lines = [
                Line {
                    settle: Some(0.015),
                    ..Line::new(reach, 0.035)
                },
                Line {
                    posture: Some(last),
                    rotation_weight: 0.1,
                    hold: 1,
                    ..Line::new(end, OPEN)
                },
                Line::back(0.10, OPEN),
            ];
            let segments = self.follow(shift(&reach, reach.approach() * -0.10), &posture, lines);
            return Plan::new(segments, [yaw, pitch, 0.0], reach.position);
        }
        let (yaw, pitch) = (
            -0.3 + self.vary(0.12),
            self.variety * self.rng.random_range(-0.17..0.12),
        );
        let reach = Pose {
            position: Vector3::new(handle.x - 0.075, 0.605, handle.z) + self.vary_point(0.01),
            axes: orientation(yaw, pitch, 0.0),
        };
        let end = Pose {
            position: Vector3::new(handle.x + left_to_go - 0.03 + self.vary(0.03), 0.60, handle.z),
            axes: orientation(yaw - 0.15, pitch, 0.0),
        };
        let posture = Joints::from([-1.02, -0.59, 0.95, -1.78, -0.51, 1.31, 0.97]);
        let last = Joints::from([-1.27, -0.37, 0.74, -1.81, -0.64, 1.51, 0.89]);
        let lines = [
            Line {
                speed: 0.04,
                settle: Some(0.02),
                ..Line::new(reach, 0.0)
            },
            Line {
                posture: Some(last),
                rotation_weight: 0.15,
                hold: 1,
                ..Line::new(end, 0.0)
            },
            Line::back(0.10, 0.0).aside(Vector3::x() * -0.02),
        ];
        let segments = self.follow(shift(&reach, reach.approach() * -0.10), &posture, lines);
        Plan::new(segments, [yaw, pitch, 0.0], reach.position)
    }

    /// Hooks the right door's handle from the left and pulls it along its arc, as with the microwave.
    fn hinge_cabinet(&mut self) -> Plan {
        let posture = Joints::from([-1.48, -0.72, 1.65, -1.16, 0.28, 1.29, 0.45]);
        let handle = self.site(self.kitchen.hinge_handle) + Vector3::z() * (self.vary(0.03) - 0.04);
        let (yaw, pitch) = (-0.2 + self.vary(0.1), 0.1 + self.vary(0.1));
        let door = Door {
            hinge: self.body(self.kitchen.hinge),
            handle,
            from: self.position(KitchenElement::HingeCabinet, 1),
            to: 1.45 + self.vary(0.04),
            depth: 0.035 + self.vary(0.006),
        };
        let reach = door.grip(0.0, orientation(yaw, pitch, 0.0));
        let before = self.before(&reach, 0.012, 0.10);
        let mut segments = self.hook(before, &posture, reach, 0.035, 0.015);
        // A fixed end posture makes the arm too slow for its arc, so each posture goes on from the one before it.
        let last = segments.iter().rev().find_map(|segment| match segment {
            Segment::Transfer(transfer) => Some(transfer.goal),
            _ => None,
        });
        let mut joints = last.unwrap_or(posture);
        let mut end = reach;
        for (place, speed) in [0.018, 0.022, 0.026, 0.032, 0.032, 0.032, 0.032, 0.032]
            .into_iter()
            .enumerate()
        {
            let part = (place + 1) as f64 / 8.0;
            end = door.grip(part, orientation(yaw, pitch + part * (0.05 - pitch), 0.0));
            joints = self.arm.solve(&joints, &end, &joints, 0.2, 30);
            segments.push(Segment::Line(Line {
                posture: Some(joints),
                speed,
                rotation_weight: 0.2,
                ..Line::new(end, 0.0)
            }));
        }
        // A shorter way back drags the door shut again in the next transfer.
        segments.extend(let_go(end, Line::back(0.17, OPEN)));
        Plan::new(segments, [yaw, pitch, 0.0], reach.position)
    }
}

#[derive(Debug, Clone, Copy)]
enum Knob {
    Bottom,
    Top,
}

/// A door with a vertical hinge.
struct Door {
    hinge: Vector3<f64>,
    handle: Vector3<f64>,
    /// Present angle, rad.
    from: f64,
    /// Angle to open it to, rad.
    to: f64,
    /// How far the tool point goes beyond the handle, m.
    depth: f64,
}

impl Door {
    /// Pose of the tool with the handle between the fingers when `part` of the way is done.
    fn grip(&self, part: f64, axes: Matrix3<f64>) -> Pose {
        let (sin, cos) = ((self.to - self.from) * part).sin_cos();
        let arm = self.handle - self.hinge;
        let handle = Vector3::new(
            self.hinge.x + cos * arm.x - sin * arm.y,
            self.hinge.y + sin * arm.x + cos * arm.y,
            self.handle.z,
        );
        Pose {
            position: handle + axes.column(2) * self.depth,
            axes,
        }
    }
}

/// Opens the fingers at the end of a pull and leaves the handle along `back`.
fn let_go(at: Pose, back: Line) -> [Segment; 2] {
    let open = Line {
        hold: 2,
        rotation_weight: 0.1,
        ..Line::new(at, OPEN)
    };
    [Segment::Line(open), Segment::Line(back)]
}

fn shift(pose: &Pose, by: Vector3<f64>) -> Pose {
    Pose {
        position: pose.position + by,
        ..*pose
    }
}
