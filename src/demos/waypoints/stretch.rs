//! Stretches of motion as they stand in a scene file.

use serde::{Deserialize, Serialize};

/// A vector, m, or a direction.
type Vector = (f64, f64, f64);

/// A piece of motion. It ends when the hand is where it should be, within its tolerance; or when its time has passed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Stretch {
    /// Goes to a place.
    Reach(Reach),
    /// Goes by a way.
    Move(Move),
    /// Goes to a place and closes the fingers around what is there.
    Grasp(Grasp),
    /// Carries what is held to a place and opens the fingers.
    Place(Place),
    /// Goes along with a joint, as a hand on a handle does, or by a way.
    Pull(Pull),
    /// The same, for things that are pushed.
    Push(Push),
    /// Turns with a joint: as [`Stretch::Pull`], and the hand turns as the joint does.
    Turn(Turn),
    /// Pushes a thing over a plane, in front of the hand, to a place.
    Steer(Steer),
    /// Opens the fingers.
    Open(Open),
    /// Closes the fingers.
    Close(Close),
    /// Moves the fingers to a position.
    Fingers(Fingers),
    /// Stays where it is.
    Wait(Wait),
}

/// How a stretch is done: what all kinds share, with what the demonstrator's settings say where the stretch does not.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Manner {
    pub speed: Option<f64>,
    pub tolerance: Option<f64>,
    pub limit: Option<f64>,
    pub spread: f64,
    pub facing: Option<Facing>,
    pub posture: Vec<f64>,
    pub hold: f64,
}

/// Declares a kind of stretch with its own fields and those that all moving stretches have.
macro_rules! moving {
    ($(#[$about:meta])* $name:ident { $($(#[$field_about:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$field_about])* pub $field: $type,)*
            /// Speed of the hand, m/s.
            #[serde(default)]
            pub speed: Option<f64>,
            /// Distance within which the end is reached, m.
            #[serde(default)]
            pub tolerance: Option<f64>,
            /// Time after which it is passed over, s.
            #[serde(default)]
            pub limit: Option<f64>,
            /// The end is drawn within plus and minus this along each axis, m; times the demonstrator's `variety`.
            #[serde(default)]
            pub spread: f64,
            /// Where the hand points.
            #[serde(default)]
            pub facing: Option<Facing>,
            /// Posture that joints are pulled to, in the order of the driven joints; none for the demonstrator's.
            #[serde(default)]
            pub posture: Vec<f64>,
            /// Time that the hand stays at the end, s.
            #[serde(default)]
            pub hold: f64,
        }

        impl $name {
            pub(super) fn manner(&self) -> Manner {
                Manner {
                    speed: self.speed,
                    tolerance: self.tolerance,
                    limit: self.limit,
                    spread: self.spread,
                    facing: self.facing.clone(),
                    posture: self.posture.clone(),
                    hold: self.hold,
                }
            }
        }
    };
}

moving!(
    /// Goes to a place.
    Reach {
        /// The place.
        to: Spot,
        /// From the place to where the hand goes, m.
        #[serde(default)]
        offset: Vector,
        /// Axes of the offset.
        #[serde(default)]
        axes: Axes,
        /// A further offset, away from another place.
        #[serde(default)]
        beyond: Option<Beyond>,
        /// Whether the hand follows a thing that moves meanwhile. Otherwise it goes to where that is at the start.
        #[serde(default)]
        follow: bool,
        /// The way there.
        #[serde(default)]
        path: Path,
    }
);

moving!(
    /// Goes by a way from where the hand is.
    Move {
        /// The way, m.
        by: Vector,
        /// Its axes: those of the world, or the hand's own, where `(0, 0, -0.1)` backs off by 10 cm.
        #[serde(default)]
        axes: Axes,
    }
);

moving!(
    /// Goes to a place and closes the fingers there.
    Grasp {
        /// The place.
        at: Spot,
        /// From the place to where the hand goes, m.
        #[serde(default)]
        offset: Vector,
        /// Axes of the offset.
        #[serde(default)]
        axes: Axes,
        /// Whether the hand follows a thing that moves meanwhile.
        #[serde(default)]
        follow: bool,
        /// The fingers hold something if the gripper's `joints` add up to at least this, m or rad. If they do not, the
        /// attempt at the element is over and the next one begins. Without it nobody looks.
        #[serde(default)]
        holds: Option<f64>,
    }
);

moving!(
    /// Carries what is held to a place and opens the fingers.
    Place {
        /// What is held. Without it the hand itself is brought to the place.
        #[serde(default)]
        thing: Option<Spot>,
        /// Where it is brought.
        at: Spot,
        /// From that place to where it is put, m.
        #[serde(default)]
        offset: Vector,
        /// Axes of the offset.
        #[serde(default)]
        axes: Axes,
    }
);

moving!(
    /// Goes along with a joint, or by a way.
    Pull {
        /// Hinge or slide joint. The hand goes as a point does that is fixed to what the joint moves.
        #[serde(default)]
        joint: String,
        /// Position of the joint at the end, rad or m.
        #[serde(default)]
        to: f64,
        /// Share of the joint's turning that the hand takes part in.
        #[serde(default)]
        turns: f64,
        /// In place of a joint, the way, m, axes of the world.
        #[serde(default)]
        by: Option<Vector>,
    }
);

moving!(
    /// Goes along with a joint, or by a way, in contact with what is pushed.
    Push {
        /// Hinge or slide joint. The hand goes as a point does that is fixed to what the joint moves.
        #[serde(default)]
        joint: String,
        /// Position of the joint at the end, rad or m.
        #[serde(default)]
        to: f64,
        /// Share of the joint's turning that the hand takes part in.
        #[serde(default)]
        turns: f64,
        /// In place of a joint, the way, m, axes of the world.
        #[serde(default)]
        by: Option<Vector>,
    }
);

moving!(
    /// Goes along with a joint and turns with it.
    Turn {
        /// Hinge joint.
        joint: String,
        /// Its position at the end, rad.
        to: f64,
    }
);

moving!(
    /// Pushes a thing over a horizontal plane to a place. The hand stays behind it, as seen from that place, at its own
    /// height; so it should be behind it before.
    Steer {
        /// What is pushed.
        thing: Spot,
        /// Where to.
        to: Spot,
        /// From the middle of the thing to the hand when they touch, m.
        contact: f64,
        /// Farther to the side than this the hand does not push, m, but gets behind the thing first.
        #[serde(default = "centimetre")]
        aside: f64,
    }
);

fn centimetre() -> f64 {
    0.01
}

/// Opens the fingers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Open {
    /// How long the hand waits for them, s; without it the gripper's time.
    pub time: Option<f64>,
}

/// Closes the fingers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Close {
    /// How long the hand waits for them, s; without it the gripper's time.
    pub time: Option<f64>,
    /// As [`Grasp::holds`].
    pub holds: Option<f64>,
}

/// Moves the fingers to a position.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingers {
    /// Where to, in the unit of the gripper's `open` and `closed`.
    pub to: f64,
    /// How long the hand waits for them, s; without it the gripper's time.
    #[serde(default)]
    pub time: Option<f64>,
}

/// Stays where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// How long, s.
    pub time: f64,
}

/// A place in the scene.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Spot {
    /// Origin of a site of the model.
    Site(String),
    /// Origin of a body of the model.
    Body(String),
    /// A point of the world, m.
    Point(f64, f64, f64),
    /// Where the hand is.
    Here,
}

/// Axes of an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Axes {
    /// Those of the world.
    #[default]
    World,
    /// Those of the thing itself.
    Own,
}

/// An offset away from a place, in the horizontal plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beyond {
    /// The place.
    pub from: Spot,
    /// Distance, m; negative towards it.
    pub by: f64,
}

/// The way to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Path {
    /// The hand goes straight.
    #[default]
    Line,
    /// The joints go straight, and the hand as it comes. For ways from one posture to another; hands that are moved
    /// themselves go straight.
    Joints,
}

/// Where the hand points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facing {
    /// Direction of the hand's z axis in the world.
    pub approach: Vector,
    /// Direction of its y axis, as far as it is perpendicular to the approach. Without it the hand may turn about the
    /// approach.
    #[serde(default)]
    pub fingers: Option<Vector>,
    /// How much an error of direction counts beside one of position, m/rad. A small weight lets the wrist give way.
    #[serde(default = "third")]
    pub weight: f64,
    /// The direction is turned by up to this about each axis, rad; times the demonstrator's `variety`.
    #[serde(default)]
    pub spread: f64,
}

fn third() -> f64 {
    0.3
}

impl Facing {
    /// Checks directions and numbers.
    pub(super) fn check(&self) -> Result<(), String> {
        let norm = |(x, y, z): Vector| (x * x + y * y + z * z).sqrt();
        let cross = |(a, b, c): Vector, (x, y, z): Vector| (b * z - c * y, c * x - a * z, a * y - b * x);
        let directs = |vector: Vector| norm(vector).is_finite() && norm(vector) > 1e-6;
        if !directs(self.approach) {
            return Err("expected a direction for `facing.approach`, found none".into());
        }
        if let Some(fingers) = self.fingers
            && !(directs(fingers) && norm(cross(self.approach, fingers)) > 1e-6 * norm(self.approach) * norm(fingers))
        {
            return Err("expected a direction for `facing.fingers` that is not the one of the approach".into());
        }
        if !(self.weight.is_finite() && self.weight >= 0.0 && self.spread.is_finite() && self.spread >= 0.0) {
            return Err("expected numbers from 0 for `facing.weight` and `facing.spread`".into());
        }
        Ok(())
    }
}

impl Stretch {
    /// The word that it begins with in a file.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Reach(_) => "Reach",
            Self::Move(_) => "Move",
            Self::Grasp(_) => "Grasp",
            Self::Place(_) => "Place",
            Self::Pull(_) => "Pull",
            Self::Push(_) => "Push",
            Self::Turn(_) => "Turn",
            Self::Steer(_) => "Steer",
            Self::Open(_) => "Open",
            Self::Close(_) => "Close",
            Self::Fingers(_) => "Fingers",
            Self::Wait(_) => "Wait",
        }
    }

    /// What is shared by the stretches that move the hand; none for those that do not.
    pub(super) fn manner(&self) -> Option<Manner> {
        Some(match self {
            Self::Reach(it) => it.manner(),
            Self::Move(it) => it.manner(),
            Self::Grasp(it) => it.manner(),
            Self::Place(it) => it.manner(),
            Self::Pull(it) => it.manner(),
            Self::Push(it) => it.manner(),
            Self::Turn(it) => it.manner(),
            Self::Steer(it) => it.manner(),
            Self::Open(_) | Self::Close(_) | Self::Fingers(_) | Self::Wait(_) => return None,
        })
    }

    /// Checks that every number makes sense.
    pub(super) fn check(&self) -> Result<(), String> {
        let positive = |name: &str, value: Option<f64>| match value {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(format!("expected a positive number for `{name}`, found {value}"))
            }
            _ => Ok(()),
        };
        let size = |name: &str, value: f64| match value.is_finite() && value >= 0.0 {
            true => Ok(()),
            false => Err(format!("expected a number from 0 for `{name}`, found {value}")),
        };
        let point = |name: &str, (x, y, z): Vector| match (x + y + z).is_finite() {
            true => Ok(()),
            false => Err(format!("expected finite numbers for `{name}`")),
        };
        if let Some(manner) = self.manner() {
            positive("speed", manner.speed)?;
            positive("tolerance", manner.tolerance)?;
            positive("limit", manner.limit)?;
            size("spread", manner.spread)?;
            size("hold", manner.hold)?;
            if manner.posture.iter().any(|number| !number.is_finite()) {
                return Err("expected finite numbers for `posture`".into());
            }
            manner.facing.iter().try_for_each(Facing::check)?;
        }
        match self {
            Self::Reach(Reach { offset, beyond, .. }) => {
                point("offset", *offset)?;
                let by = beyond.as_ref().map_or(0.0, |beyond| beyond.by);
                point("beyond.by", (by, 0.0, 0.0))
            }
            Self::Move(Move { by, .. }) => point("by", *by),
            Self::Grasp(Grasp { offset, .. }) | Self::Place(Place { offset, .. }) => point("offset", *offset),
            Self::Pull(Pull {
                joint, to, turns, by, ..
            })
            | Self::Push(Push {
                joint, to, turns, by, ..
            }) => {
                point("to, turns", (*to, *turns, 0.0))?;
                match (joint.is_empty(), by) {
                    (true, Some(by)) => point("by", *by),
                    (false, None) => Ok(()),
                    _ => {
                        Err("expected either a `joint` with the position `to` which it is moved, or a way `by`".into())
                    }
                }
            }
            Self::Turn(Turn { to, .. }) => point("to", (*to, 0.0, 0.0)),
            Self::Steer(Steer { contact, aside, .. }) => {
                size("contact", *contact)?;
                positive("aside", Some(*aside))
            }
            Self::Open(Open { time }) | Self::Close(Close { time, .. }) => size("time", time.unwrap_or(0.0)),
            Self::Fingers(Fingers { to, time }) => {
                point("to", (*to, 0.0, 0.0))?;
                size("time", time.unwrap_or(0.0))
            }
            Self::Wait(Wait { time }) => size("time", *time),
        }
    }
}
