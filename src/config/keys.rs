//! The description of the config: each table's keys, with what each may hold and what it means.
//!
//! The readers check what is written against it, and the schema and the reference in `deploy/` are made of it.

/// The keys that a table may have.
pub(super) struct Keys {
    /// Those that are read.
    pub(super) known: &'static [Key],
    /// Those that are promised; refused as "not supported yet".
    pub(super) later: &'static [&'static str],
}

impl Keys {
    /// Whether a key is read.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.known.iter().any(|key| key.name == name)
    }

    /// The names of all keys, read or promised.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().map(|key| key.name).chain(self.later.iter().copied())
    }
}

/// A clause that names the tables a key belongs to, if they are few.
pub(super) fn belongs(root: &Keys, key: &str) -> String {
    const MOST: usize = 2;
    let mut homes = Vec::new();
    search(root, "", key, &mut homes);
    if homes.is_empty() || homes.len() > MOST {
        String::new()
    } else {
        format!("; it belongs to {}", homes.join(" or "))
    }
}

/// Gathers the tables at and below one at `path` that have a key.
fn search(keys: &Keys, path: &str, key: &str, homes: &mut Vec<String>) {
    if keys.names().any(|name| name == key) && !path.is_empty() {
        homes.push(format!("`{path}`"));
    }
    for below in keys.known {
        let path = if path.is_empty() { below.name.to_owned() } else { format!("{path}.{}", below.name) };
        search_shape(below.shape, &path, key, homes);
    }
}

fn search_shape(shape: Shape, path: &str, key: &str, homes: &mut Vec<String>) {
    match shape {
        Shape::Fields(keys) => search(keys, path, key, homes),
        Shape::Named(keys) => search(keys, &format!("{path}.NAME"), key, homes),
        Shape::List(shape) | Shape::OneOrMany(shape) | Shape::Any(shape) => {
            search_shape(*shape, path, key, homes)
        }
        Shape::Either(shapes) => shapes.iter().for_each(|shape| search_shape(*shape, path, key, homes)),
        _ => {}
    }
}

/// A key that is read.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) given: Given,
    /// One line, without a full stop.
    pub(super) about: &'static str,
}

pub(super) const fn key(name: &'static str, shape: Shape, given: Given, about: &'static str) -> Key {
    Key { name, shape, given, about }
}

pub(super) const fn required(example: &'static str) -> Given {
    Given::Required(example)
}

pub(super) const fn default(value: &'static str) -> Given {
    Given::Default(value)
}

pub(super) const fn otherwise(example: &'static str, otherwise: &'static str) -> Given {
    Given::Otherwise(example, otherwise)
}

pub(super) const fn instead(example: &'static str, of: &'static str) -> Given {
    Given::Instead(example, of)
}

impl Key {
    /// The same key with another value in the reference.
    pub(super) const fn shown(self, example: &'static str, otherwise: &'static str) -> Self {
        Self { given: Given::Otherwise(example, otherwise), ..self }
    }
}

/// Whether a key must be written. Values are TOML; of a section, the name that stands for all it may have.
#[derive(Clone, Copy)]
pub(super) enum Given {
    /// It must; an example.
    Required(&'static str),
    /// If it is not, this value holds.
    Default(&'static str),
    /// It need not; an example, and what holds otherwise, in words.
    Otherwise(&'static str, &'static str),
    /// Only valid when another key has a value that the reference does not show; an example, and that value.
    Instead(&'static str, &'static str),
}

/// What a key may hold, as far as a schema can tell: the readers know more.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    Boolean,
    False,
    /// From, to.
    Integer(u64, u64),
    /// From, to.
    Number(f64, f64),
    Words(&'static [&'static str]),
    /// Whatever JSON has too.
    Json,
    /// One at least.
    List(&'static Self),
    /// One by itself, or a list of one at least.
    OneOrMany(&'static Self),
    /// As `OneOrMany`, or an empty list.
    Any(&'static Self),
    Either(&'static [Self]),
    /// A table of these keys.
    Fields(&'static Keys),
    /// Tables by names that the config gives.
    Named(&'static Keys),
    /// Values by places.
    ByPlace(&'static Self),
}
