//! The description of the config: the keys of each table, their allowed values and their meaning.
//!
//! The readers check the config against it, and the schema and the reference in `deploy/` are generated from it.

/// The keys that a table may have.
pub(super) struct Keys {
    /// Supported keys.
    pub(super) known: &'static [Key],
    /// Planned keys, rejected as "not supported yet".
    pub(super) later: &'static [&'static str],
}

impl Keys {
    /// Whether a key is supported.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.known.iter().any(|key| key.name == name)
    }

    /// The names of all keys, supported or planned.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.known.iter().map(|key| key.name).chain(self.later.iter().copied())
    }
}

/// A clause that names the tables a key belongs to, if there are few of them.
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

/// Collects the tables at and below `path` that have a key.
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

/// A supported key.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) given: Given,
    /// What it means, in one line without a full stop.
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
    /// The same key, shown with a different value in the reference.
    pub(super) const fn shown(self, example: &'static str, otherwise: &'static str) -> Self {
        Self { given: Given::Otherwise(example, otherwise), ..self }
    }
}

/// Whether a key is required. Values are TOML; for a section, a placeholder for the names that it may have.
#[derive(Clone, Copy)]
pub(super) enum Given {
    /// Required; an example.
    Required(&'static str),
    /// Optional, with this default.
    Default(&'static str),
    /// Optional; an example, and a description of what applies without it.
    Otherwise(&'static str, &'static str),
    /// Only valid with other keys than the reference shows; an example, and that condition.
    Instead(&'static str, &'static str),
}

/// The values of a key, as far as a schema can express them: the readers check more.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    Text,
    /// A duration.
    Time,
    /// An IP address.
    Address,
    /// An IP address with a port.
    AddressPort,
    /// A network as address and length.
    Prefix,
    Boolean,
    False,
    /// Between these bounds, inclusive.
    Integer(u64, u64),
    /// Between these bounds, inclusive.
    Number(f64, f64),
    Words(&'static [&'static str]),
    /// Any value that JSON can express.
    Json,
    /// A list of at least one.
    List(&'static Self),
    /// A single value, or a list of at least one.
    OneOrMany(&'static Self),
    /// As `OneOrMany`, or an empty list.
    Any(&'static Self),
    Either(&'static [Self]),
    /// A table of these keys.
    Fields(&'static Keys),
    /// Tables under names that the config chooses.
    Named(&'static Keys),
    /// Values under keys that the config chooses, at least one.
    Map(&'static Self),
}
