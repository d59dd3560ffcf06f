//! What all episodes of one file have in common: the first one decides.

use std::collections::BTreeMap;
use std::mem::{Discriminant, discriminant};

use super::write::SEQUENCE;
use super::{DataError, Episode, Values};

/// Names, widths and types of the side arrays, and the size of the pictures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Template {
    infos: BTreeMap<String, (usize, Discriminant<Values>)>,
    images: Option<[usize; 2]>,
}

impl Template {
    /// That of an episode with observations and actions of these `sizes`, which follows the `first` one.
    ///
    /// # Errors
    /// [`DataError::Episode`] if the episode is malformed or is not like the first one.
    pub fn after(first: Option<&Self>, episode: &Episode, sizes: (usize, usize)) -> Result<Self, DataError> {
        episode.check(sizes.0, sizes.1)?;
        episode.check_end()?;
        let template = Self::of(episode)?;
        if let Some(first) = first {
            first.check(&template)?;
        }
        Ok(template)
    }

    /// That of an episode whose side arrays can be written.
    fn of(episode: &Episode) -> Result<Self, DataError> {
        let wrong = |problem: String| Err(DataError::Episode(problem));
        let mut infos = BTreeMap::new();
        for (name, column) in &episode.infos {
            if name == SEQUENCE {
                return wrong(format!("`infos/{SEQUENCE}` is reserved for the number of the episode"));
            }
            if name.is_empty() || name.contains('/') || name == "." || name.contains('\0') {
                return wrong(format!("{name:?} cannot be the name of an info"));
            }
            if column.width == 0 {
                return wrong(format!("`infos/{name}` has width 0"));
            }
            infos.insert(name.clone(), (column.width, discriminant(&column.values)));
        }
        Ok(Self {
            infos,
            images: episode.images.as_ref().map(|images| images.size()),
        })
    }

    /// Checks that another episode's template is the same.
    fn check(&self, other: &Self) -> Result<(), DataError> {
        let wrong = |problem: String| Err(DataError::Episode(problem));
        for (name, known) in &self.infos {
            match other.infos.get(name) {
                None => return wrong(format!("`infos/{name}` is missing, the first episode has it")),
                Some(found) if found != known => {
                    return wrong(format!(
                        "`infos/{name}` has another width or type than in the first episode"
                    ));
                }
                Some(_) => {}
            }
        }
        if let Some(name) = other.infos.keys().find(|name| !self.infos.contains_key(*name)) {
            return wrong(format!("`infos/{name}` was not in the first episode"));
        }
        match (self.images, other.images) {
            (known, found) if known == found => Ok(()),
            (None, Some(_)) => wrong("`images` were not in the first episode".to_owned()),
            (Some(_), None) => wrong("`images` are missing, the first episode has them".to_owned()),
            (Some([height, width]), Some([other_height, other_width])) => wrong(format!(
                "`images` are {other_height} x {other_width} pixels, in the first episode {height} x {width}"
            )),
            (None, None) => Ok(()),
        }
    }
}
