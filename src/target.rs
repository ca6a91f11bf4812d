//! Target expressions: parse, print (pure).

/// A parsed target expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    /// Failover tiers, the first one preferred; never empty.
    pub tiers: Vec<Split>,
}

/// A weighted split; never empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// Its terms.
    pub terms: Vec<Term>,
}

/// One weighted term.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// Relative weight, default 1; 0 is drained.
    pub weight: u32,
    /// What gets that share.
    pub node: Node,
}

/// What a term names.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// An expression in parentheses.
    Group(Expression),
    /// A service by name.
    Service(String),
    /// A target.
    Target(meshless_discovery::Target),
}
