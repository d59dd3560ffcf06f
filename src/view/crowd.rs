//! An instance of the model for every environment, in a grid.
//!
//! All instances share meshes and materials, so the renderer draws them in few batches. What never moves is spawned
//! once per environment and left alone; a frame touches the parts of moving bodies only.

mod dress;

use std::collections::HashMap;
use std::time::Instant;

use bevy::camera::primitives::MeshAabb;
use bevy::ecs::entity::EntityHashMap;
use bevy::ecs::system::SystemParam;
use bevy::image::ImageSampler;
use bevy::math::bounding::{Aabb3d, RayCast3d};
use bevy::prelude::*;
use bevy::render::renderer::RenderAdapterInfo;

use self::dress::{dress, spawn_varied};
use super::camera::Orbit;
use super::lights::Lighting;
use super::model::{ModelLook, Part, PartKind, look_of};
use super::offscreen::is_software;
use super::{CameraMode, ViewState, ViewSystems, Watched};
use crate::scene::CompiledScene;
use crate::watch::looks::Differences;
use crate::watch::{EnvironmentLook, EnvironmentView, Pace, Pose, Snapshot, moving_bodies};

/// Instances of the model, their places and their poses.
pub struct CrowdPlugin;

impl Plugin for CrowdPlugin {
    fn build(&self, app: &mut App) {
        app.add_systems(Startup, load_look)
            .add_systems(
                Update,
                (
                    arrange,
                    lay_floor,
                    show_or_hide,
                    show_groups.run_if(groups_may_differ),
                    choose_detail,
                )
                    .chain()
                    .in_set(ViewSystems::Arrange),
            )
            .add_systems(Update, (dress, pose).chain().in_set(ViewSystems::Pose));
    }
}

/// One environment in the picture.
#[derive(Component, Debug)]
pub struct Instance {
    /// The environment in the watched world.
    pub environment: Entity,
    /// Place in the grid.
    cell: usize,
    /// Its parts that move, each with the place of its body among those that can move.
    moving: Vec<(Entity, usize)>,
    /// Its parts that have a simpler form, each with its mesh and that form.
    fine: Vec<(Entity, [Handle<Mesh>; 2])>,
    /// Its parts that may look different from those of others, in the order of the look.
    varied: Vec<Entity>,
    /// Its own lights, in the order of the look; none for those that all environments share.
    lights: Vec<Option<Entity>>,
    /// How these look now.
    dressed: EnvironmentLook,
    /// Whether these are drawn as fine as they are.
    detailed: bool,
    /// The poses shown last.
    shown: Vec<Pose>,
}

/// A piece of the model's floor, which all environments share.
#[derive(Component, Debug, Clone, Copy)]
pub struct FloorTile;

/// A part of an instance.
#[derive(Component, Debug, Clone, Copy)]
struct Shown {
    group: usize,
    kind: PartKind,
}

/// Where a body of an instance is, whose parts may be elsewhere on it than those of others.
#[derive(Component, Debug, Clone, Copy)]
struct Carrier;

/// What all instances share, and where they are.
#[derive(Resource)]
pub struct Crowd {
    look: ModelLook,
    /// How an environment looks of which nothing else is known.
    plain: EnvironmentLook,
    /// The light, where the scene says what it is.
    lighting: Option<Lighting>,
    moving: usize,
    /// The view of the scene's first camera: yaw and pitch, point (in the model's frame), distance.
    close_up: (f32, f32, Vec3, f32),
    columns: usize,
    /// Places taken by practising environments; evaluations come behind them.
    first_free_row: usize,
    cells: HashMap<usize, Entity>,
    instances: EntityHashMap<Entity>,
    /// Rows that the floor reaches back to.
    floored: Option<usize>,
}

/// Free space between two environments, m.
pub(super) const GAP: f32 = 0.6;
/// Up to this many environments are drawn with every triangle of their meshes.
const DETAILED: usize = 3;
/// How far a model's floor reaches beyond the environments, m.
const MARGIN: f32 = 45.0;

impl Crowd {
    /// The instance of an environment.
    pub fn instance(&self, environment: Entity) -> Option<Entity> {
        self.instances.get(&environment).copied()
    }

    /// Yaw and pitch from which a scene looks best, rad, as its first camera has them.
    pub fn direction(&self) -> (f32, f32) {
        (self.close_up.0, self.close_up.1)
    }

    /// The point a single environment is looked at, in the model's frame, and from how far, m.
    pub fn close_up(&self) -> (Vec3, f32) {
        (self.close_up.2, self.close_up.3)
    }

    /// The corners of the box around what stands on the floor.
    fn box_corners(&self) -> (Vec3, Vec3) {
        self.look.corners()
    }

    /// The light, where the scene says what it is.
    pub fn lighting(&self) -> Option<&Lighting> {
        self.lighting.as_ref()
    }

    /// The middle of the model's box, in its own frame.
    pub fn centre(&self) -> Vec3 {
        let (low, high) = self.box_corners();
        0.5 * (low + high)
    }

    /// Half the size of the model's box, m, in the window's frame (y up).
    pub fn half_extents(&self) -> Vec3 {
        let (low, high) = self.box_corners();
        let half = 0.5 * (high - low);
        Vec3::new(half.x, half.z, half.y)
    }

    /// Height of the lowest point of the model, m.
    pub fn floor(&self) -> f32 {
        self.look.bounds.0.z
    }

    /// Whether a part is a piece of the model's floor, which all environments share.
    fn is_floor(&self, part: &Part) -> bool {
        part.plane && part.body.is_none() && part.kind == PartKind::Geom && part.group < 3
    }

    /// Where an environment in this cell is: the origin of the model's frame, which is turned upright (`MuJoCo` has z
    /// up, Bevy y).
    fn place(&self, cell: usize) -> Transform {
        let half = self.half_extents();
        let (column, row) = ((cell % self.columns) as f32, (cell / self.columns) as f32);
        let across = (column - 0.5 * (self.columns as f32 - 1.0)) * (2.0 * half.x + GAP);
        let back = -row * (2.0 * half.z + GAP);
        let centre = self.centre();
        Transform {
            translation: Vec3::new(across - centre.x, 0.0, back + centre.y),
            rotation: upright(),
            ..default()
        }
    }

    /// The box of an environment in the window's frame.
    pub fn bounds(&self, place: &Transform) -> Aabb3d {
        Aabb3d::new(place.transform_point(self.centre()), self.half_extents())
    }

    /// The shown environment that a ray meets first.
    pub fn hit<'a>(&self, ray: Ray3d, shown: impl Iterator<Item = (&'a Instance, &'a Transform)>) -> Option<Entity> {
        let cast = RayCast3d::from_ray(ray, f32::MAX);
        let hits = shown.filter_map(|(instance, place)| {
            let distance = cast.aabb_intersection_at(&self.bounds(place))?;
            Some((distance, instance.environment))
        });
        hits.min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, environment)| environment)
    }
}

/// The turn from `MuJoCo`'s frame (z up) to Bevy's (y up).
pub fn upright() -> Quat {
    Quat::from_rotation_x(-std::f32::consts::FRAC_PI_2)
}

/// Makes meshes and materials out of the scene's model.
pub fn load_look(mut commands: Commands, watched: Res<Watched>, mut looks: Looks) {
    commands.insert_resource(looks.crowd_of(&watched.subject.scene));
}

/// What a [`Crowd`] is made with.
#[derive(SystemParam)]
pub struct Looks<'w> {
    meshes: ResMut<'w, Assets<Mesh>>,
    materials: ResMut<'w, Assets<StandardMaterial>>,
    images: ResMut<'w, Assets<Image>>,
    adapter: Option<Res<'w, RenderAdapterInfo>>,
}

impl Looks<'_> {
    /// A crowd of this scene, with nobody in it yet.
    fn crowd_of(&mut self, scene: &CompiledScene) -> Crowd {
        let Self {
            meshes,
            materials,
            images,
            adapter,
        } = self;
        let varied = &scene.randomisation().looks().pieces;
        let look = look_of(scene.model(), scene.fresh(), varied, meshes, materials, images);
        let mut plain = EnvironmentLook::default();
        Differences::of(scene).fill(scene.model(), &mut plain);
        if adapter.as_ref().is_some_and(|adapter| is_software(adapter)) {
            // From some views the shaders that Mesa makes for this kind of filtering never end (seen with version 22.3).
            for (_, image) in images.iter_mut() {
                if let ImageSampler::Descriptor(sampler) = &mut image.sampler {
                    sampler.anisotropy_clamp = 1;
                }
            }
        }
        let (low, high) = look.bounds_without_planes;
        let (centre, size) = (0.5 * (low + high), (high - low).length());
        let close_up = match scene.scene().cameras.first() {
            Some(camera) => {
                let (x, y, z) = camera.look_at;
                (
                    // MuJoCo's azimuth 90 looks along +y, which is -z here.
                    (camera.azimuth as f32 - 90.0).to_radians(),
                    -(camera.elevation as f32).to_radians(),
                    Vec3::new(x as f32, y as f32, z as f32),
                    camera.distance as f32 * 1.15,
                )
            }
            None => (0.0, 0.6, centre, 1.2 * size),
        };
        let lighting = (scene.lit_by_model()).then(|| Lighting::of(scene, look.corners(), (close_up.0, close_up.1)));
        Crowd {
            moving: moving_bodies(scene.model()).len(),
            look,
            plain,
            lighting,
            close_up,
            columns: 0,
            first_free_row: 0,
            cells: HashMap::new(),
            instances: EntityHashMap::default(),
            floored: None,
        }
    }
}

/// What belongs to the scene that is drawn.
type OfScene = Or<(With<Instance>, With<FloorTile>)>;

/// Draws another scene from now on: everything of the old one goes, and the environments of the next snapshot get
/// instances of the new one. A camera stays where it is unless what it looks at has another size, or the scene looks best
/// from elsewhere.
#[derive(SystemParam)]
pub struct SceneChange<'w, 's> {
    commands: Commands<'w, 's>,
    looks: Looks<'w>,
    crowd: ResMut<'w, Crowd>,
    shown: Query<'w, 's, Entity, OfScene>,
    orbits: Query<'w, 's, &'static mut Orbit>,
}

impl SceneChange<'_, '_> {
    /// Makes the change.
    pub fn make(&mut self, scene: &CompiledScene) {
        for entity in &self.shown {
            self.commands.entity(entity).despawn();
        }
        let new = self.looks.crowd_of(scene);
        let moved = new.half_extents().distance(self.crowd.half_extents()) > 0.1 * self.crowd.half_extents().length()
            || new.centre().distance(self.crowd.centre()) > 0.1 * self.crowd.half_extents().length()
            || new.close_up != self.crowd.close_up;
        if moved {
            self.orbits.iter_mut().for_each(|mut orbit| orbit.reset());
        }
        *self.crowd = new;
    }
}

/// Lays the model's floor under all environments: its planes side by side, rather than one over the other in each of
/// them.
fn lay_floor(mut commands: Commands, mut crowd: ResMut<Crowd>, meshes: Res<Assets<Mesh>>) {
    let rows = crowd
        .cells
        .keys()
        .max()
        .map_or(0, |cell| cell / crowd.columns.max(1) + 1);
    if rows == 0 || crowd.floored.is_some_and(|floored| floored >= rows) {
        return;
    }
    let laid = crowd.floored.replace(rows);
    let half = crowd.half_extents();
    let across = 0.5 * crowd.columns as f32 * (2.0 * half.x + GAP) + MARGIN;
    let depth = |rows: usize| rows as f32 * (2.0 * half.z + GAP) + MARGIN;
    let (from, to) = (laid.map_or(-MARGIN, depth), depth(rows));
    let floors = crowd.look.parts.iter().filter(|part| crowd.is_floor(part));
    for part in floors {
        let Some(extent) = meshes.get(&part.mesh).and_then(|mesh| mesh.compute_aabb()) else {
            continue;
        };
        let size = 2.0 * Vec3::from(extent.half_extents);
        if size.x < 0.1 || size.y < 0.1 || size.z > 1e-3 {
            continue;
        }
        let columns = (across / size.x).ceil() as i32;
        let (first, last) = ((from / size.y).floor() as i32, (to / size.y).ceil() as i32);
        for (column, row) in (-columns..=columns).flat_map(|column| (first..last).map(move |row| (column, row))) {
            commands.spawn((
                FloorTile,
                Mesh3d(part.mesh.clone()),
                MeshMaterial3d(part.material.clone()),
                Transform {
                    translation: Vec3::new(column as f32 * size.x, 0.0, -row as f32 * size.y),
                    rotation: upright(),
                    ..default()
                },
            ));
        }
    }
}

/// Spawns instances of new environments and removes those that are gone.
fn arrange(
    mut commands: Commands,
    mut crowd: ResMut<Crowd>,
    mut materials: ResMut<Assets<StandardMaterial>>,
    instances: Query<&Instance>,
    watched: Res<Watched>,
) {
    let environments = &watched.current.environments;
    let known = |crowd: &Crowd| {
        environments
            .iter()
            .all(|view| crowd.instances.contains_key(&view.environment))
    };
    if environments.len() == crowd.instances.len() && known(&crowd) {
        return;
    }
    let crowd = &mut *crowd;
    let gone: Vec<(Entity, Entity)> = (crowd.instances.iter())
        .filter(|(environment, _)| !environments.iter().any(|view| view.environment == **environment))
        .map(|(environment, instance)| (*environment, *instance))
        .collect();
    for (environment, instance) in gone {
        crowd.instances.remove(&environment);
        if let Ok(instance) = instances.get(instance) {
            crowd.cells.remove(&instance.cell);
        }
        commands.entity(instance).despawn();
    }
    let lasting = environments.iter().filter(|view| !view.evaluates).count();
    if crowd.columns == 0 {
        // A little wider than deep, as pictures are.
        crowd.columns = ((1.3 * lasting as f32).sqrt().round() as usize).clamp(1, lasting.max(1));
        crowd.first_free_row = lasting.div_ceil(crowd.columns);
    }
    for view in environments {
        if crowd.instances.contains_key(&view.environment) {
            continue;
        }
        let from = if view.evaluates {
            crowd.first_free_row * crowd.columns
        } else {
            0
        };
        let Some(cell) = (from..).find(|cell| !crowd.cells.contains_key(cell)) else {
            continue;
        };
        let instance = spawn_instance(&mut commands, &mut materials, crowd, view.environment, cell);
        crowd.cells.insert(cell, instance);
        crowd.instances.insert(view.environment, instance);
    }
}

fn spawn_instance(
    commands: &mut Commands,
    materials: &mut Assets<StandardMaterial>,
    crowd: &Crowd,
    environment: Entity,
    cell: usize,
) -> Entity {
    let root = commands.spawn((crowd.place(cell), Visibility::default())).id();
    let (mut moving, mut fine) = (Vec::new(), Vec::new());
    for part in &crowd.look.parts {
        if crowd.is_floor(part) {
            continue;
        }
        let shown = Shown {
            group: part.group,
            kind: part.kind,
        };
        let entity = commands
            .spawn((
                ChildOf(root),
                Mesh3d(part.mesh.clone()),
                MeshMaterial3d(part.material.clone()),
                Transform::default(),
                shown.visibility(&ViewState::default()),
                shown,
            ))
            .id();
        moving.extend(part.body.map(|body| (entity, body)));
        fine.extend((part.simple.clone()).map(|simple| (entity, [part.mesh.clone(), simple])));
    }
    let mut carriers: HashMap<usize, Entity> = HashMap::new();
    let mut carrier = |commands: &mut Commands, body: Option<usize>| match body {
        None => root,
        Some(body) => *carriers.entry(body).or_insert_with(|| {
            let carrier = (ChildOf(root), Carrier, Transform::default(), Visibility::Inherited);
            let carrier = commands.spawn(carrier).id();
            moving.push((carrier, body));
            carrier
        }),
    };
    let mut varied = Vec::with_capacity(crowd.look.varied.len());
    for part in &crowd.look.varied {
        let parent = carrier(commands, part.body);
        let entity = spawn_varied(commands, materials, parent, part, &crowd.plain);
        varied.push(entity);
        fine.extend((part.simple.clone()).map(|simple| (entity, [part.mesh.clone(), simple])));
    }
    let mut own_lights = Vec::new();
    if let Some(lighting) = &crowd.lighting {
        own_lights.extend(lighting.own().map(|light| {
            let light = light?;
            let parent = carrier(commands, light.body);
            Some(lighting.spawn(commands, parent, light))
        }));
    }
    commands.entity(root).insert(Instance {
        environment,
        cell,
        moving,
        fine,
        varied,
        lights: own_lights,
        dressed: crowd.plain.clone(),
        detailed: true,
        shown: Vec::new(),
    });
    root
}

impl Shown {
    fn visibility(self, view: &ViewState) -> Visibility {
        let shown = view.groups.get(self.group).copied().unwrap_or(true) && (self.kind == PartKind::Geom || view.sites);
        if shown {
            Visibility::Inherited
        } else {
            Visibility::Hidden
        }
    }
}

/// Shows the environments that are listed, or the selected one alone.
fn show_or_hide(mut instances: Query<(&Instance, &mut Visibility)>, watched: Res<Watched>, view: Res<ViewState>) {
    let filtered = view.filter != super::Filter::default();
    let listed: Option<Vec<Entity>> = filtered.then(|| {
        let environments = &watched.current.environments;
        let listed = watched.listed(&view).into_iter();
        listed
            .filter_map(|index| environments.get(index).map(|view| view.environment))
            .collect()
    });
    for (instance, mut visibility) in &mut instances {
        let environment = instance.environment;
        let shown = match view.selected.filter(|_| view.alone) {
            Some(selected) => selected == environment,
            None => listed.as_ref().is_none_or(|listed| listed.contains(&environment)),
        };
        visibility.set_if_neq(if shown {
            Visibility::Inherited
        } else {
            Visibility::Hidden
        });
    }
}

/// Whether others are wanted than before, or there are parts that have not been asked yet: those of an evaluation, or of a
/// scene that has been read again.
fn groups_may_differ(view: Res<ViewState>, new: Query<(), Added<Shown>>) -> bool {
    view.is_changed() || !new.is_empty()
}

/// Shows the wanted groups of geoms, and sites.
fn show_groups(mut parts: Query<(&Shown, &mut Visibility)>, view: Res<ViewState>) {
    for (shown, mut visibility) in &mut parts {
        visibility.set_if_neq(shown.visibility(&view));
    }
}

/// Draws fine meshes as they are where few environments are to be seen, and of the one that the camera follows.
fn choose_detail(
    mut instances: Query<(&mut Instance, &Visibility)>,
    mut parts: Query<&mut Mesh3d, With<Shown>>,
    view: Res<ViewState>,
) {
    let shown = instances
        .iter()
        .filter(|(_, visibility)| **visibility != Visibility::Hidden);
    let few = shown.count() <= DETAILED;
    let followed = view.selected.filter(|_| view.camera == CameraMode::Follow);
    for (mut instance, _) in &mut instances {
        let detailed = few || followed == Some(instance.environment);
        if instance.detailed == detailed {
            continue;
        }
        instance.detailed = detailed;
        for (part, [fine, simple]) in &instance.fine {
            if let Ok(mut mesh) = parts.get_mut(*part) {
                mesh.0 = if detailed { fine } else { simple }.clone();
            }
        }
    }
}

/// How far between the snapshot before and the current one the picture is, 0 to 1.
///
/// Only a world that waits between its ticks is interpolated: then the picture is one tick late and moves smoothly. One
/// that runs as fast as it can is shown as it is.
fn progress(watched: &Watched, now: Instant) -> f32 {
    let Some(Pace::Limited(rate)) = watched.current.pace else {
        return 1.0;
    };
    if watched
        .previous
        .as_ref()
        .is_none_or(|previous| previous.tick + 1 != watched.current.tick)
    {
        return 1.0;
    }
    ((now - watched.since).as_secs_f64() * rate).clamp(0.0, 1.0) as f32
}

/// Where an environment was in the snapshot before, if it is still in the same episode.
fn before<'a>(previous: &'a Snapshot, index: usize, view: &EnvironmentView, moving: usize) -> Option<&'a [Pose]> {
    let same = |other: &EnvironmentView| other.environment == view.environment && other.episode == view.episode;
    let index = match previous.environments.get(index) {
        Some(other) if same(other) => index,
        _ => previous.environments.iter().position(same)?,
    };
    let poses = previous.poses_of(index, moving);
    (poses.len() == moving).then_some(poses)
}

/// What stands where the physics says.
type Posed = Or<(With<Shown>, With<Carrier>)>;

/// Moves the parts of every shown environment.
fn pose(
    mut instances: Query<(&mut Instance, &Visibility)>,
    mut transforms: Query<&mut Transform, Posed>,
    watched: Res<Watched>,
    crowd: Res<Crowd>,
    mut poses: Local<Vec<Pose>>,
) {
    let progress = progress(&watched, Instant::now());
    let current = &watched.current;
    for (index, view) in current.environments.iter().enumerate() {
        let Some((mut instance, visibility)) =
            (crowd.instance(view.environment)).and_then(|instance| instances.get_mut(instance).ok())
        else {
            continue;
        };
        let now = current.poses_of(index, crowd.moving);
        if *visibility == Visibility::Hidden || now.len() != crowd.moving {
            continue;
        }
        let previous = watched.previous.as_deref().filter(|_| progress < 1.0);
        let from = previous.and_then(|previous| before(previous, index, view, crowd.moving));
        poses.clear();
        match from {
            None => poses.extend_from_slice(now),
            Some(from) => poses.extend(from.iter().zip(now).map(|(from, to)| between(from, to, progress))),
        }
        let instance = &mut *instance;
        for &(part, body) in &instance.moving {
            let (Some(pose), Ok(mut transform)) = (poses.get(body), transforms.get_mut(part)) else {
                continue;
            };
            // What stands still costs nothing further down.
            if instance.shown.get(body) != Some(pose) {
                *transform = transform_of(pose);
            }
        }
        instance.shown.clone_from(&poses);
    }
}

fn transform_of(pose: &Pose) -> Transform {
    let [w, x, y, z] = pose.rotation;
    Transform {
        translation: Vec3::from(pose.position),
        rotation: Quat::from_xyzw(x, y, z, w).normalize(),
        ..default()
    }
}

/// The pose between two, 0 to 1 of the way.
pub(crate) fn between(from: &Pose, to: &Pose, progress: f32) -> Pose {
    let quat = |[w, x, y, z]: [f32; 4]| Quat::from_xyzw(x, y, z, w);
    let rotation = quat(from.rotation).slerp(quat(to.rotation), progress);
    Pose {
        position: Vec3::from(from.position)
            .lerp(Vec3::from(to.position), progress)
            .to_array(),
        rotation: [rotation.w, rotation.x, rotation.y, rotation.z],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_come_later_show_the_wanted_groups() {
        let mut app = App::new();
        app.init_resource::<ViewState>()
            .add_systems(Update, show_groups.run_if(groups_may_differ));
        let spawn = |app: &mut App, group: usize, kind| {
            let shown = Shown { group, kind };
            let visibility = shown.visibility(&ViewState::default());
            app.world_mut().spawn((shown, visibility)).id()
        };
        let mut parts = vec![
            spawn(&mut app, 0, PartKind::Geom),
            spawn(&mut app, 3, PartKind::Geom),
            spawn(&mut app, 0, PartKind::Site),
        ];
        let seen = |app: &mut App, parts: &[Entity]| -> Vec<bool> {
            app.update();
            let visibility = |part: &Entity| app.world().get::<Visibility>(*part).copied();
            parts
                .iter()
                .map(|part| visibility(part) == Some(Visibility::Inherited))
                .collect()
        };
        assert_eq!(seen(&mut app, &parts), [true, false, false]);
        let mut view = app.world_mut().resource_mut::<ViewState>();
        (view.groups[0], view.groups[3], view.sites) = (false, true, true);
        assert_eq!(seen(&mut app, &parts), [false, true, false]);
        for (group, kind) in [(0, PartKind::Geom), (3, PartKind::Geom), (1, PartKind::Site)] {
            parts.push(spawn(&mut app, group, kind));
        }
        assert_eq!(seen(&mut app, &parts), [false, true, false, false, true, true]);
    }

    #[test]
    fn poses_between_two_ticks_are_on_the_way() {
        let half = std::f32::consts::FRAC_1_SQRT_2;
        let from = Pose {
            position: [0.0, 1.0, 2.0],
            rotation: [1.0, 0.0, 0.0, 0.0],
        };
        let to = Pose {
            position: [1.0, 1.0, 4.0],
            rotation: [half, 0.0, 0.0, half],
        };
        let middle = between(&from, &to, 0.5);
        assert_eq!(middle.position, [0.5, 1.0, 3.0]);
        let eighth = std::f32::consts::FRAC_PI_8;
        assert!((middle.rotation[0] - eighth.cos()).abs() < 1e-6 && (middle.rotation[3] - eighth.sin()).abs() < 1e-6);
    }
}
