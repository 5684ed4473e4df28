//! Which schemas stand for which others: what ends, and what grows beyond measure.

use serde_json::{Map, Value};

use super::schemas::{BY_NAME, Compiled, LISTS, MOST_IN_PLACE, ONE};

/// Which schemas lead to which.
pub(super) struct Graph {
    /// With no member or item between them, and how many words are passed on the way.
    in_place: Vec<Vec<(usize, usize)>>,
    /// In any way.
    any: Vec<Vec<usize>>,
}

// === impl Graph ===

impl Graph {
    pub(super) fn new(copies: &[Value]) -> Self {
        let mut graph = Self { in_place: Vec::new(), any: Vec::new() };
        for copy in copies {
            let (mut in_place, mut any) = (Vec::new(), Vec::new());
            walk(copy, &mut |schema, depth| {
                if let Some(number) = schema.get("$ref").and_then(Compiled::refers) {
                    any.push(number);
                    in_place.extend(depth.map(|depth| (number, depth + 1)));
                }
            });
            graph.in_place.push(in_place);
            graph.any.push(any);
        }
        graph
    }

    /// A schema from which too many are reached in place, or itself.
    pub(super) fn too_deep(&self) -> Option<usize> {
        // By repeated relaxing: after as many rounds as there may be steps nothing changes, or
        // there is a chain that is longer.
        let mut depths = vec![0_usize; self.in_place.len()];
        for _ in 0..=MOST_IN_PLACE {
            let mut changed = None;
            for (number, edges) in self.in_place.iter().enumerate() {
                let depth = edges.iter().map(|(to, step)| depths[*to] + step).max().unwrap_or(0);
                if depth > depths[number] {
                    depths[number] = depth;
                    changed = Some(number);
                }
                if depth > MOST_IN_PLACE {
                    return Some(number);
                }
            }
            changed?;
        }
        depths.iter().position(|depth| *depth > MOST_IN_PLACE)
    }

    /// For each schema the most alternatives of one that it leads to and that contains itself.
    pub(super) fn branching(&self, copies: &[Value]) -> Vec<usize> {
        let count = self.any.len();
        let cyclic = self.cyclic();
        let mut most = vec![1; count];
        for (number, copy) in copies.iter().enumerate().filter(|(number, _)| cyclic[*number]) {
            walk(copy, &mut |schema, _| {
                let of = |word| schema.get(word).and_then(Value::as_array).map_or(0, Vec::len);
                most[number] = most[number].max(of("anyOf") + of("oneOf"));
            });
        }
        // What one leads to counts for it too.
        let mut from: Vec<Vec<usize>> = vec![Vec::new(); count];
        for (number, edges) in self.any.iter().enumerate() {
            edges.iter().for_each(|to| from[*to].push(number));
        }
        let mut waiting: Vec<usize> = (0..count).filter(|number| most[*number] > 1).collect();
        while let Some(number) = waiting.pop() {
            for other in &from[number] {
                if most[*other] < most[number] {
                    most[*other] = most[number];
                    waiting.push(*other);
                }
            }
        }
        most
    }

    /// Which schemas are reached from themselves, or lie between such: all that is left when those
    /// are taken away that lead nowhere, and then those that nothing leads to, again and again.
    fn cyclic(&self) -> Vec<bool> {
        let mut left = vec![true; self.any.len()];
        for turned in [false, true] {
            let mut to: Vec<Vec<usize>> = vec![Vec::new(); left.len()];
            let mut degree = vec![0_usize; left.len()];
            let edges = self.any.iter().enumerate();
            for (from, edge) in
                edges.flat_map(|(from, edges)| edges.iter().map(move |to| (from, *to)))
            {
                let (from, edge) = if turned { (edge, from) } else { (from, edge) };
                if left[from] && left[edge] {
                    to[edge].push(from);
                    degree[from] += 1;
                }
            }
            let mut waiting: Vec<usize> =
                (0..left.len()).filter(|number| left[*number] && degree[*number] == 0).collect();
            while let Some(number) = waiting.pop() {
                left[number] = false;
                for other in &to[number] {
                    degree[*other] -= 1;
                    if degree[*other] == 0 && left[*other] {
                        waiting.push(*other);
                    }
                }
            }
        }
        left
    }
}

/// Shows `see` every schema in `copy`, and how many words stand before it; `None` once a member or
/// an item lies between.
fn walk(copy: &Value, see: &mut impl FnMut(&Value, Option<usize>)) {
    fn below(schema: &Value, depth: Option<usize>, see: &mut impl FnMut(&Value, Option<usize>)) {
        see(schema, depth);
        let deeper = depth.map(|depth| depth + 1);
        let Value::Object(words) = schema else { return };
        for (word, value) in words {
            let word = word.as_str();
            let in_place = matches!(
                word,
                "allOf" | "anyOf" | "oneOf" | "not" | "if" | "then" | "else" | "dependentSchemas"
            );
            let depth = if in_place { deeper } else { None };
            if BY_NAME.contains(&word) {
                let schemas = value.as_object().into_iter().flat_map(Map::values);
                schemas.for_each(|schema| below(schema, depth, see));
            } else if LISTS.contains(&word) {
                value.as_array().into_iter().flatten().for_each(|schema| below(schema, depth, see));
            } else if ONE.contains(&word) {
                below(value, depth, see);
            }
        }
    }
    below(copy, Some(0), see);
}
