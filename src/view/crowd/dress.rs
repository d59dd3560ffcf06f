//! What is drawn of an environment that may look different from others.

use bevy::prelude::*;

use super::{Crowd, Instance, Shown};
use crate::view::lights::{OwnLight, OwnLights};
use crate::view::model::VariedPart;
use crate::view::{ViewState, Watched};
use crate::watch::EnvironmentLook;

/// A part that may look different from those of other environments.
pub(super) fn spawn_varied(
    commands: &mut Commands,
    materials: &mut Assets<StandardMaterial>,
    parent: Entity,
    part: &VariedPart,
    plain: &EnvironmentLook,
) -> Entity {
    let look = plain.pieces.get(part.piece);
    let shown = Shown {
        group: part.group,
        kind: part.kind,
    };
    let entity = commands.spawn((
        ChildOf(parent),
        Mesh3d(part.mesh.clone()),
        MeshMaterial3d(look.map_or_else(Handle::default, |look| materials.add(part.material(look)))),
        look.map(|look| part.transform(look)).unwrap_or_default(),
        shown.visibility(&ViewState::default()),
        shown,
    ));
    entity.id()
}

/// Parts of models, not lights.
type Parts = (With<Shown>, Without<OwnLight>);

/// Gives the environments the colours, sizes, places and lights of the episodes that have begun.
pub(super) fn dress(
    mut instances: Query<&mut Instance>,
    mut parts: Query<(&mut Transform, &MeshMaterial3d<StandardMaterial>), Parts>,
    mut materials: ResMut<Assets<StandardMaterial>>,
    mut lights: Query<OwnLights, With<OwnLight>>,
    watched: Res<Watched>,
    crowd: Res<Crowd>,
) {
    let current = &watched.current;
    for (index, view) in current.environments.iter().enumerate() {
        let Some(look) = current.look_of(index) else { continue };
        let Some(mut instance) =
            (crowd.instance(view.environment)).and_then(|instance| instances.get_mut(instance).ok())
        else {
            continue;
        };
        let worn = &instance.dressed;
        if worn.pieces == look.pieces && worn.lights == look.lights {
            continue;
        }
        for (entity, part) in instance.varied.iter().zip(&crowd.look.varied) {
            let (Ok((mut transform, handle)), Some(piece)) = (parts.get_mut(*entity), look.pieces.get(part.piece))
            else {
                continue;
            };
            *transform = part.transform(piece);
            let repainted = worn.pieces.get(part.piece).is_none_or(|worn| worn.rgba != piece.rgba);
            if repainted && let Some(mut material) = materials.get_mut(&handle.0) {
                part.paint(piece, &mut material);
            }
        }
        if let Some(lighting) = &crowd.lighting {
            for (entity, light) in instance.lights.iter().zip(&look.lights) {
                if let Some(mut shown) = entity.and_then(|entity| lights.get_mut(entity).ok()) {
                    lighting.dress(light, &mut shown);
                }
            }
        }
        instance.dressed.clone_from(look);
    }
}
