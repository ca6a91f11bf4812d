//! Routes by path: a tree of segments, so that a lookup costs the depth of a path and not the number of routes (pure).

use std::collections::HashMap;

use super::bucket::Bucket;
use crate::config::{Match, PathTemplate, Segment};

/// Routes of one host.
#[derive(Debug, Default)]
pub(super) struct Paths {
    /// Without a path, by a regular expression, or `/*`.
    any: Bucket,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// The path ends here.
    here: Bucket,
    /// `/*` stands here: the path ends here or goes on.
    below: Bucket,
    literals: HashMap<String, Self>,
    capture: Option<Box<Self>>,
}

impl Paths {
    /// Adds a route; `None` where its path is not looked up by segments.
    pub(super) fn add(&mut self, template: Option<&PathTemplate>, position: usize) {
        let Some(template) = template.filter(|template| !template.is_everything()) else {
            return self.any.add(position);
        };
        let mut node = &mut self.root;
        for segment in &template.segments {
            node = match segment {
                Segment::Literal(literal) => node.literals.entry(literal.clone()).or_default(),
                // What it is called does not matter here.
                Segment::Capture(_) => node.capture.get_or_insert_default(),
            };
        }
        let bucket = if template.rest { &mut node.below } else { &mut node.here };
        bucket.add(position);
    }

    pub(super) fn index(&mut self, matches: &[Match]) {
        self.any.index(matches);
        self.root.index(matches);
    }

    /// Shows every bucket that a path leads to.
    pub(super) fn visit<'a>(&'a self, path: &str, see: &mut impl FnMut(&'a Bucket)) {
        see(&self.any);
        if let Some(path) = path.strip_prefix('/') {
            self.root.visit(Some(path), see);
        }
    }
}

impl Node {
    fn index(&mut self, matches: &[Match]) {
        self.here.index(matches);
        self.below.index(matches);
        for node in self.literals.values_mut().chain(self.capture.as_deref_mut()) {
            node.index(matches);
        }
    }

    /// `path`: what follows the slash behind this node; `None`: it ends here. No deeper than the routes are.
    fn visit<'a>(&'a self, path: Option<&str>, see: &mut impl FnMut(&'a Bucket)) {
        see(&self.below);
        let Some(path) = path else { return see(&self.here) };
        let (segment, after) = match path.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (path, None),
        };
        if let Some(node) = self.literals.get(segment) {
            node.visit(after, see);
        }
        if let Some(node) = self.capture.as_deref().filter(|_| !segment.is_empty()) {
            node.visit(after, see);
        }
    }
}
