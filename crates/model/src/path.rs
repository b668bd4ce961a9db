//! Where in a message a field is found, and all of a stream's places folded into one tree that a decoder walks once.

use std::fmt;

/// A place in a message: `latitude`, `location[0]`, `sensor.position.lat`, `readings[*].value`; `$` is the message itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Path(Vec<Step>);

/// One step into a JSON value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    Key(String),
    Index(usize),
    /// Every element of an array.
    Each,
}

/// The deepest a path may reach; a decoder's nesting limit is never below it.
const DEPTH_MAX: usize = 16;
/// The largest array index a path may name.
const INDEX_MAX: usize = 1023;
const EACH: &str = "[*]";
const MESSAGE: &str = "$";

impl Path {
    /// Reads a path; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == MESSAGE {
            return Ok(Self(Vec::new()));
        }
        let mut steps = Vec::new();
        for (number, part) in text.split('.').enumerate() {
            let (key, indices) = part.split_at(part.find('[').unwrap_or(part.len()));
            let is_array_of_records = number == 0 && key.is_empty() && indices.starts_with(EACH);
            if key.is_empty() && !is_array_of_records {
                return Err(format!("path `{text}`: a key is empty (part {})", number + 1));
            }
            if !is_array_of_records {
                steps.push(Step::Key(key.to_owned()));
            }
            let mut rest = indices;
            while !rest.is_empty() {
                if let Some(after) = rest.strip_prefix(EACH) {
                    steps.push(Step::Each);
                    rest = after;
                    continue;
                }
                let index = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
                // `parse` alone would take a sign.
                let index = index.filter(|(index, _)| index.bytes().all(|byte| byte.is_ascii_digit()));
                let Some((Ok(index), after)) = index.map(|(index, after)| (index.parse(), after)) else {
                    return Err(format!(
                        "path `{text}`: write an array index as `[0]`, every element as `[*]`"
                    ));
                };
                if index > INDEX_MAX {
                    return Err(format!("path `{text}`: an index may be at most {INDEX_MAX}"));
                }
                steps.push(Step::Index(index));
                rest = after;
            }
        }
        if steps.len() > DEPTH_MAX {
            return Err(format!("path `{text}`: at most {DEPTH_MAX} steps"));
        }
        Ok(Self(steps))
    }

    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether it is the message itself.
    pub fn is_message(&self) -> bool {
        self.0.is_empty()
    }

    /// The array positions up to the indices on the way.
    pub(crate) fn positions(&self) -> usize {
        let of_step = |step: &Step| match step {
            Step::Key(_) | Step::Each => 0,
            Step::Index(index) => index + 1,
        };
        self.0.iter().map(of_step).sum()
    }

    /// Whether it leads into every element of an array.
    pub fn is_of_elements(&self) -> bool {
        self.0.contains(&Step::Each)
    }

    /// Whether it names the array whose elements are at `elements`, or leads into it.
    pub(crate) fn starts_with_array_of(&self, elements: &Path) -> bool {
        let array = &elements.0[..elements.0.len().saturating_sub(1)];
        !array.is_empty() && self.0.starts_with(array)
    }

    /// The place in a message with one element: `readings[*].value` becomes `readings[0].value`, `[*].value` becomes
    /// `value`.
    pub(crate) fn in_the_only_element(&self) -> Self {
        let steps = self.0.iter().enumerate().filter_map(|(at, step)| match step {
            Step::Each if at == 0 => None,
            Step::Each => Some(Step::Index(0)),
            other => Some(other.clone()),
        });
        Self(steps.collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_message() {
            return f.write_str(MESSAGE);
        }
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if number == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Each => f.write_str(EACH)?,
            }
        }
        Ok(())
    }
}

/// The decoder's plan: which values of a message belong to which field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathNode {
    /// The value here is the field's. `rank` is the place's position in the field's `from`: where a message fills more
    /// than one place, the lowest rank that is not null counts.
    Field { field: usize, rank: usize },
    /// An object, with the keys that lead to fields.
    Object(Vec<(String, PathNode)>),
    /// An array, with the indices that lead to fields.
    Array(Vec<(usize, PathNode)>),
    /// An array of elements, each of which makes a row: what leads to the fields of one. A plan has at most one.
    Elements(Box<PathNode>),
}

impl PathNode {
    /// The plan of a stream without fields, whose elements are at `elements`.
    pub(crate) fn root(elements: Option<&Path>) -> Self {
        match elements.map(Path::steps) {
            Some([Step::Each]) => PathNode::Elements(Box::new(PathNode::Object(Vec::new()))),
            _ => PathNode::Object(Vec::new()),
        }
    }

    /// Adds one place. The error names the conflict: two fields in one place, or a place inside another field's value.
    pub(crate) fn insert(&mut self, path: &Path, field: usize, rank: usize) -> Result<(), String> {
        self.insert_steps(path.steps(), field, rank, false)
            .map_err(|conflict| format!("`from` place `{path}` {conflict}"))
    }

    /// What the first field's place makes of a node that `steps` go on from.
    fn leading_to(steps: &[Step], field: usize, rank: usize) -> Self {
        match steps.split_first() {
            None => PathNode::Field { field, rank },
            Some((Step::Key(_), _)) => PathNode::Object(Vec::new()),
            Some((Step::Index(_), _)) => PathNode::Array(Vec::new()),
            Some((Step::Each, rest)) => PathNode::Elements(Box::new(Self::leading_to(rest, field, rank))),
        }
    }

    /// `is_new`: this node was made for this very place.
    fn insert_steps(&mut self, steps: &[Step], field: usize, rank: usize, is_new: bool) -> Result<(), &'static str> {
        let Some((step, rest)) = steps.split_first() else {
            return if is_new { Ok(()) } else { Err("is already taken") };
        };
        let (child, is_new) = match (self, step) {
            (PathNode::Object(children), Step::Key(key)) => {
                find_or_add(children, key, || Self::leading_to(rest, field, rank))
            }
            (PathNode::Array(children), Step::Index(index)) => {
                find_or_add(children, index, || Self::leading_to(rest, field, rank))
            }
            (PathNode::Elements(element), Step::Each) => (&mut **element, is_new),
            (PathNode::Field { .. }, _) => return Err("lies inside another field's value"),
            (PathNode::Elements(_), _) => return Err("lies in the array of the elements: write `[*]` there"),
            _ => return Err("is used both as an object and as an array"),
        };
        child.insert_steps(rest, field, rank, is_new)
    }
}

fn find_or_add<'a, K: PartialEq + Clone>(
    children: &'a mut Vec<(K, PathNode)>,
    key: &K,
    new: impl FnOnce() -> PathNode,
) -> (&'a mut PathNode, bool) {
    let found = children.iter().position(|(known, _)| known == key);
    let at = found.unwrap_or(children.len());
    if found.is_none() {
        children.push((key.clone(), new()));
    }
    (&mut children[at].1, found.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_print_as_they_are_written() {
        for text in [
            "$",
            "latitude",
            "location[0]",
            "sensor.position.lat",
            "a[1][2].b",
            "[*]",
            "[*].a",
            "readings[*].value",
            "a.b[*][1]",
        ] {
            assert_eq!(Path::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_paths_say_what_is_wrong() {
        for (text, says) in [
            ("", "a key is empty (part 1)"),
            ("a..b", "a key is empty (part 2)"),
            ("a[x]", "write an array index as `[0]`"),
            ("a[1", "write an array index as `[0]`"),
            ("a[1]b", "write an array index as `[0]`"),
            ("a[+1]", "write an array index as `[0]`"),
            ("[0].a", "a key is empty (part 1)"),
            ("a.[*]", "a key is empty (part 2)"),
            ("a[5000]", "an index may be at most 1023"),
        ] {
            let error = Path::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn conflicting_places_are_refused() {
        let insert = |paths: &[&str]| {
            let mut root = PathNode::root(None);
            paths
                .iter()
                .enumerate()
                .try_for_each(|(field, path)| root.insert(&Path::parse(path).unwrap(), field, 0))
        };
        assert!(insert(&["location[0]", "location[1]", "a.b", "a.c"]).is_ok());
        assert!(insert(&["a", "a"]).unwrap_err().contains("already taken"));
        assert!(insert(&["a.b", "a"]).unwrap_err().contains("already taken"));
        assert!(insert(&["a", "a.b"]).unwrap_err().contains("inside another field"));
        assert!(insert(&["a.b", "a[0]"]).unwrap_err().contains("object and as an array"));
        assert!(insert(&["a[*].b", "a[*].c", "b"]).is_ok());
        assert!(insert(&["a[*]", "a[*]"]).unwrap_err().contains("already taken"));
        assert!(insert(&["a[*].b", "a[*]"]).unwrap_err().contains("already taken"));
        assert!(insert(&["a[*].b", "a"]).unwrap_err().contains("already taken"));
        assert!(
            insert(&["a[*]", "a[*].b"])
                .unwrap_err()
                .contains("inside another field")
        );
        assert!(insert(&["a[*].b", "a[0].b"]).unwrap_err().contains("write `[*]` there"));
        assert!(
            insert(&["a[*].b", "a[*][0]"])
                .unwrap_err()
                .contains("object and as an array")
        );
    }
}
